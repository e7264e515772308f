"""Whether data written with one schema can be read with another: tried, with generated data."""

import io
import random
from typing import Any

import fastavro
from fastavro.utils import generate_many

_TRIES = 200
"""Enough that each of a handful of branches and symbols occurs: (4/5)^200 is 4e-20."""


def problem_reading(writer: Any, reader: Any) -> str | None:
    """Why data of ``writer`` cannot be read as ``reader``, or None where 200 generated values can.

    Args:
        writer: parsed schema of the data.
        reader: parsed schema of the one who reads.
    """
    random.seed(0)  # fastavro generates from the shared generator
    for value in generate_many(writer, _TRIES):
        data = io.BytesIO()
        fastavro.schemaless_writer(data, writer, value)
        size = data.tell()
        data.seek(0)
        try:
            fastavro.schemaless_reader(data, writer, reader)
        except Exception as error:
            return str(error).splitlines()[0] if str(error) else type(error).__name__
        if data.tell() != size:
            return "bytes are left over"
    return None
