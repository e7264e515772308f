"""Files of batches, and the templates that make prompts of their rows."""

import io
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path

from forebay_client.batch.options import RowOptions
from forebay_client.batch.planning import plan
from forebay_client.batch.template import Template
from forebay_client.preparing import Preparation
from forebay_schemas.codec import Codec
from forebay_schemas.config import load_config
from forebay_schemas.errors import ForebayError, InvalidRequest

from .target import Take

_IN_MEMORY = Path("/dev/shm")


def templates(_: ExitStack) -> Take:
    """A template and a cell, with a NUL between: what is in a cell is never read as a template."""

    def take(data: bytes) -> bool:
        text, _, cell = data.decode("utf-8", "replace").partition("\0")
        try:
            template = Template(text)
            template.check(["text", "id"])
            filled, marked = (template.fill({"text": said, "id": said}) for said in (cell, "\0"))
        except InvalidRequest:
            return False
        assert filled == cell.join(marked.split("\0"))
        return True

    return take


def templates_seeds() -> list[bytes]:
    return [b"Classify: {text}\0{id}", b"{{{id}}} {text!r:>9}\0x", b'{{"q": "{text}"}}\0{text.__class__}']


def jsonl(stack: ExitStack) -> Take:
    """OpenAI's batch format."""
    return _rows(stack, ".jsonl", RowOptions(tenant="acme"))


def csv(stack: ExitStack) -> Take:
    """Rows of texts."""
    return _rows(stack, ".csv", RowOptions(tenant="acme", template="Classify: {text}"))


def parquet(stack: ExitStack) -> Take:
    """Rows of values."""
    return _rows(stack, ".parquet", RowOptions(tenant="acme", template="Classify: {text}"))


def _rows(stack: ExitStack, suffix: str, options: RowOptions) -> Take:
    """A file, its rows, and the requests that they make; accepted where it makes one."""
    config = load_config()
    preparation = Preparation(config, Codec(), None, "acme", None)
    folder = tempfile.TemporaryDirectory(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None)
    file = Path(stack.enter_context(folder)) / f"rows{suffix}"

    def makes_request(fields: object) -> bool:
        try:
            preparation.prepare(None, fields, None)  # pyright: ignore[reportArgumentType]: as the rows gave them
        except ForebayError:
            return False
        return True

    def take(data: bytes) -> bool:
        file.write_bytes(data)
        try:
            source, _ = plan(file, options, config, lambda _: None)
            return True in [makes_request(row.fields) for row in source.rows() if row.fields is not None]
        except ForebayError:
            return False

    return take


def jsonl_seeds() -> list[bytes]:
    body = {"model": "auto", "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello?"}]}]}
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    more = {"stop": ["a"], "tools": [], "response_format": {"type": "json_object"}, "forebay": {"cache": {"ttl_s": 1}}}
    return [f"{json.dumps(line)}\n{json.dumps(line | {'custom_id': '2', 'body': body | more})}".encode()]


def csv_seeds() -> list[bytes]:
    return [b'id,text\n1,"Hello, ""you""?"\n2,x\n', b"\xef\xbb\xbftext\n\na\r\nb\n", b'text,"a\nb"\n"{text}",\n']


def parquet_seeds() -> list[bytes]:
    import pyarrow  # as the client does: only those who have Parquet need it
    import pyarrow.parquet

    files: list[bytes] = []
    for columns in ({"text": ["Hello?", None], "n": [1.5, 2.0]}, {"text": [["a"], ["b"]], "when": [0, 1]}):
        file = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(columns), file, compression="none")
        files.append(file.getvalue())
    return files
