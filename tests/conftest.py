"""What holds for every test: no trace in the environment, and the same generated examples on every run."""

import os
from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import settings

from .recorded import Recorded

# `make quick` makes do with few.
for name, examples in {"few": 10, "many": 50}.items():
    settings.register_profile(name, derandomize=True, deadline=None, database=None, max_examples=examples)
settings.load_profile("many")


@pytest.fixture(autouse=True)
def _environment_restored() -> Iterator[None]:
    with mock.patch.dict(os.environ):  # load_config names its file there, for the processes started from here
        yield


@pytest.fixture(scope="session")
def _recorded_by_all() -> Recorded:
    return Recorded()  # one for all tests: each part that traces has a thread for as long as the process lives


@pytest.fixture
def recorded(_recorded_by_all: Recorded) -> Recorded:
    """The spans of configurations that are ``recorded.tracing``."""
    _recorded_by_all.forget()
    return _recorded_by_all
