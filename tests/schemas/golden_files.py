"""The golden files: bytes and record of one example of every schema version, and digests of published schemas.

After a new version of a schema, ``python -m tests.schemas.golden_files`` adds what is missing for it. It never
touches what is there: a version that was published is what others have on disk and in topics.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from forebay_schemas.codec import RECORDS, Codec, avro_folder, file_stem, history, newest
from forebay_schemas.records import (
    Audit,
    BatchState,
    CacheOptions,
    CachePolicy,
    CacheScope,
    CacheStatus,
    Chunk,
    Control,
    DeadLetter,
    Event,
    Feedback,
    FeedbackSource,
    Hop,
    Lane,
    Latency,
    Message,
    Record,
    Reply,
    ReplyError,
    Request,
    Result,
    Route,
    Task,
    Usage,
    Verdict,
)

FOLDER = Path(__file__).parent / "golden"
PUBLISHED = FOLDER / "published.json"

_ROUTE = Route(
    tier="medium", complexity=0.5, confidence=0.75, reason="complexity", features={"tokens": 12.0, "steps": 0.25}
)

_HOP = Hop(
    tier="small",
    model_id="llama-3.1-8b",
    reason="confidence",
    confidence=0.25,
    usage=Usage(prompt_tokens=40, completion_tokens=2),
    cost=0.0005,
)

EXAMPLES: tuple[Record, ...] = (
    Request(
        request_id="r-1",
        tenant="acme",
        created_ms=1_760_000_000_000,
        messages=[
            Message(role="assistant", tool_calls='[{"id": "call-1", "function": {"name": "stock"}}]'),
            Message(role="tool", content="7", tool_call_id="call-1"),
            Message(role="user", content="Wie viele Stühle? 🪑\n", name="ada"),
        ],
        static_messages=[Message(role="system", content="You answer for a furniture shop.")],
        user="u-1",
        endpoint="shop.chat",
        category="support",
        lane=Lane.BATCH,
        deadline_ms=1_760_000_030_000,
        max_tokens=128,
        temperature=0.25,
        top_p=0.5,
        stop=["END", "\n\n"],
        seed=-7,
        tools='[{"type": "function", "function": {"name": "stock"}}]',
        response_format='{"type": "json_object"}',
        cache=CacheOptions(policy=CachePolicy.REFRESH, scope=CacheScope.USER, ttl_s=60, sources=["stock"]),
        min_tier="small",
        max_tier="large",
        prompt_version="v2",
        metadata={"row": "17"},
        stream=True,
        priority=-3,
        passages=["Stuhl Oslo: 7", "Tisch Bergen: 2"],
        tool_choice="required",
    ),
    Task(
        task_id="t-1",
        flight_key="f-1",
        bucket="3",
        request=b"\x00\xff",
        route=_ROUTE,
        cache_status=CacheStatus.BYPASS,
        accepted_ms=1_760_000_000_005,
        reply_topic="llm.replies",
        reply_key="k-1",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        similarity=0.5,
        embedding_ms=2.5,
        lookup_ms=0.5,
        hop=1,
        path=[_HOP],
        arm="cheaper@1760000000000",
        overrides={"tiers.small.model": '"llama-3.2-3b"'},
    ),
    Result(task_id="t-1", flight_key="f-1", bucket="3", reply=b"\xff\x00"),
    Reply(
        request_id="r-1",
        tenant="acme",
        completed_ms=1_760_000_000_400,
        cache_status=CacheStatus.SEMANTIC,
        text="Sieben.",
        finish_reason="stop",
        error=ReplyError(code="engine_failed", message="the engine stopped", retryable=True),
        usage=Usage(prompt_tokens=40, completion_tokens=3, cached_prompt_tokens=16, cache_write_prompt_tokens=8),
        user="u-1",
        endpoint="shop.chat",
        category="support",
        lane=Lane.BATCH,
        similarity=-0.5,
        matched_request_id="r-0",
        route=_ROUTE,
        model_id="llama-3.1-70b",
        synthetic=True,
        prompt_version="v2",
        hops=2,
        latency=Latency(
            queue_ms=1.5, embedding_ms=2.5, lookup_ms=0.5, generation_ms=300.25, total_ms=400.0, first_token_ms=40.5
        ),
        cost=0.000125,
        baseline_cost=0.25,
        tier="large",
        confidence=0.75,
        review=True,
        path=[_HOP],
        arm="cheaper@1760000000000",
        tool_calls='[{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]',
    ),
    DeadLetter(
        code="malformed",
        reason="it ends too early",
        place="job",
        topic="llm.requests",
        partition=3,
        offset=2**40,
        failed_ms=1_760_000_000_001,
        value=b"\xc3\x01",
        value_length=2**31,
        value_digest="ab" * 32,
        request_id="r-1",
        tenant="acme",
        attempts=2,
        history=["engine_failed: it broke", "the worker ended"],
    ),
    Control(
        key="source:stock",
        command="invalidate",
        issued_ms=1_760_000_000_000,
        issued_by="ada",
        arguments={"source": "stock"},
    ),
    Event(event="invalidated", source="job", happened_ms=1_760_000_000_002, attributes={"source": "stock"}),
    Chunk(request_id="r-1", tenant="acme", attempt=1, index=2, text="ben.", last=True),
    Feedback(
        request_id="r-1",
        tenant="acme",
        given_ms=1_760_000_009_000,
        verdict=Verdict.DOWN,
        source=FeedbackSource.RULE,
        user="u-1",
        reason="outdated",
        refined_by="r-2",
    ),
    Audit(
        request_id="r-1",
        tenant="acme",
        audited_ms=1_760_000_012_000,
        reason="tier_above",
        tier="small",
        model_id="llama-3.1-8b",
        category="support",
        weight=100,
        arm="bigger",
        cost=0.000125,
        latency_ms=300.25,
        other_tier="medium",
        other_model_id="llama-3.1-70b",
        other_cost=0.0005,
        other_latency_ms=800.5,
        other_error="given_up",
        agrees=False,
        judged_by="details",
        features={"length": 0.25},
        question="How long does delivery take?",
    ),
    BatchState(
        batch_id="batch_0123456789abcdef01234567",
        tenant="acme",
        stage="ceiling",
        created_ms=1_760_000_000_000,
        updated_ms=1_760_000_060_000,
        deadline_ms=1_760_086_400_000,
        source="/data/reviews.csv",
        source_digest="ab" * 32,
        options='{"template": "Classify: {text}"}',
        rows=2_000,
        read=150,
        sent=149,
        reply_topic="llm.replies",
        replies_from=[0, 2**40],
        price_ceiling=2.5,
    ),
)
"""One of each record, with no field at its default, so that each shows in the bytes."""


def bytes_file(record: str, version: int) -> Path:
    """Where the encoded example lies, in hex."""
    return FOLDER / f"{file_stem(record)}.{version}.hex"


def record_file(record: str, version: int) -> Path:
    """Where the example lies as JSON."""
    return FOLDER / f"{file_stem(record)}.{version}.json"


def sha256(path: Path) -> str:
    """The digest of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def published() -> dict[str, str]:
    """Digests of published schema files, by file name."""
    return json.loads(PUBLISHED.read_text()) if PUBLISHED.exists() else {}


def add_missing() -> Iterator[str]:
    """Write the golden files of newest versions that have none, and yield what was added."""
    for example in EXAMPLES:
        name = type(example).__name__
        version = newest(name).version
        if not bytes_file(name, version).exists():
            bytes_file(name, version).write_text(Codec().encode(example).hex() + "\n")
            record_file(name, version).write_bytes(msgspec.json.format(msgspec.json.encode(example)) + b"\n")
            yield f"{name}.{version}"
    digests = published()
    for path in sorted(avro_folder().glob("*.avsc")):
        if path.name not in digests:
            digests[path.name] = sha256(path)
            yield path.name
    PUBLISHED.write_text(json.dumps(digests, indent=2, sort_keys=True) + "\n")


def versions() -> list[tuple[type[Record], int]]:
    """Every version of every record."""
    return [(record, schema.version) for record in RECORDS for schema in history(record.__name__)]


if __name__ == "__main__":
    added = list(add_missing())
    click.echo("\n".join(f"added {name}" for name in added) or "nothing is missing")
