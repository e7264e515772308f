"""Hypothesis strategies for records."""

import json
from typing import Any

import msgspec
from forebay_schemas.records import CacheOptions, CachePolicy, CacheScope, Lane, Message, Record, Request
from hypothesis import strategies as st

from tests.builders import make_request

_INT64 = (-(2**63), 2**63 - 1)


def records(record: type[Record]) -> st.SearchStrategy[Any]:
    """Any value that the types of a record allow, sensible or not; no NaN, which equals nothing."""
    return _values(msgspec.inspect.type_info(record))


def _values(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    match kind:
        case msgspec.inspect.StrType():
            return st.text(max_size=20)
        case msgspec.inspect.BytesType():
            return st.binary(max_size=20)
        case msgspec.inspect.BoolType():
            return st.booleans()
        case msgspec.inspect.FloatType():
            return st.floats(allow_nan=False)
        case msgspec.inspect.IntType(ge=low, le=high):
            return st.integers(_INT64[0] if low is None else low, _INT64[1] if high is None else high)
        case msgspec.inspect.NoneType():
            return st.none()
        case msgspec.inspect.ListType(item_type=item):
            return st.lists(_values(item), max_size=3)
        case msgspec.inspect.DictType(value_type=item):
            return st.dictionaries(st.text(max_size=10), _values(item), max_size=3)
        case msgspec.inspect.UnionType(types=branches):
            return st.one_of(*map(_values, branches))
        case msgspec.inspect.EnumType(cls=cls):
            return st.sampled_from(list(cls))
        case msgspec.inspect.StructType(cls=cls):
            return st.builds(cls, **{field.name: _values(field.type) for field in kind.fields})
    raise AssertionError(f"records use no {kind}")


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Mn", "Mc"]), max_size=40)
"""Text that may stand in a message: no control characters, no runs of combining ones."""

prose = st.lists(
    st.sampled_from(["a", "é", "  ", " ", "\t", "\n", "\n\n\n", "`", "```", "~~~", "x = 1"]), max_size=30
).map("".join)
"""Text in which whitespace, fences and tables meet in every way."""

questions = texts.filter(lambda text: bool(text.strip()))
"""Text that a user's last turn may hold."""

names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)
"""Ids of any kind."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
"""What JSON can say."""

_objects = st.lists(st.dictionaries(texts, json_values, max_size=3), max_size=2).map(json.dumps)

turns = st.builds(
    Message,
    role=st.sampled_from(["system", "user", "assistant", "tool"]),
    content=texts,
    name=st.none() | names,
    tool_calls=st.none() | _objects,
    tool_call_id=st.none() | names,
)

requests = st.builds(
    make_request,
    request_id=names,
    tenant=names,
    messages=st.tuples(st.lists(turns, max_size=3), st.builds(Message, role=st.just("user"), content=questions)).map(
        lambda pair: [*pair[0], pair[1]]
    ),
    static_messages=st.lists(turns, max_size=2),
    user=names,
    endpoint=st.none() | names,
    category=st.none() | names,
    lane=st.sampled_from(Lane),
    max_tokens=st.none() | st.integers(1, 1_000_000),
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1, exclude_min=True),
    stop=st.lists(names, max_size=3),
    seed=st.none() | st.integers(*_INT64),
    tools=st.none() | _objects,
    response_format=st.none() | st.just('{"type": "json_object"}'),
    cache=st.builds(
        CacheOptions,
        policy=st.sampled_from(CachePolicy),
        scope=st.sampled_from(CacheScope),
        ttl_s=st.none() | st.integers(1, 86_400),
        sources=st.lists(names, max_size=3),
    ),
    prompt_version=st.none() | names,
    stream=st.booleans(),
    priority=st.integers(-5, 5),
    passages=st.lists(questions, max_size=2),
    metadata=st.dictionaries(names, texts, max_size=2),
)
"""Valid requests."""


def changed(request: Request, **fields: Any) -> Request:
    """A copy with other fields."""
    return msgspec.structs.replace(request, **fields)
