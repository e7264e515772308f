"""The short form: each target survives inputs made of good ones, and of nothing."""

from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .target import Target
from .targets import TARGETS


def _inputs(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Good ones; those with some bytes replaced, cut or doubled; and anything."""

    @st.composite
    def spoiled(draw: st.DrawFn) -> bytes:
        value = bytearray(draw(st.sampled_from(seeds)))
        for _ in range(draw(st.integers(1, 4))):
            start = draw(st.integers(0, len(value)))
            end = min(len(value), start + draw(st.sampled_from([0, 1, 1, 2, 8, 100])))
            value[start:end] = draw(st.binary(max_size=4) | st.just(bytes(value[start:end]) * 2))
        return bytes(value)

    return st.sampled_from(seeds) | spoiled() | st.binary(max_size=60)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_whatever_is_fed_is_taken_or_refused(target: Target) -> None:
    with ExitStack() as stack:
        take, seeds = target.build(stack), target.seeds()
        assert True in {take(seed) for seed in seeds}

        @given(_inputs(seeds))
        @settings(deadline=5_000)
        def fed(data: bytes) -> None:
            take(data)

        fed()
