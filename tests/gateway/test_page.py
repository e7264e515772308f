"""The page at /: what it shows, to whom, and that a prompt can be tried in a browser."""

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from forebay_client import core
from forebay_gateway import live
from forebay_gateway.keys import KeyFile
from forebay_schemas.config import Config, changed
from forebay_schemas.errors import ErrorCode
from forebay_schemas.records import CacheStatus, Chunk, Hop, Latency, Reply, ReplyError, Request

from tests.builders import make_reply, make_route
from tests.gateway.browser import Page, browsing
from tests.gateway.feed import feeds_of
from tests.gateway.running import Gateway, gateway_on
from tests.gateway.test_chat import HELLO
from tests.producers.doubles import MemoryKafka, echo, silence
from tests.waiting import eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def watched(kafka: MemoryKafka, monkeypatch: pytest.MonkeyPatch) -> MemoryKafka:
    """The broker, whose replies can be looked at."""
    monkeypatch.setattr(core, "ReplyFeed", feeds_of(kafka))
    return kafka


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with browsing(CHROMIUM, tmp_path / "profile") as page:
        yield page
        assert page.problems == []


def looking_on(kafka: MemoryKafka) -> bool:
    return any(inbox.reply_key == "whoever looks on" for inbox in kafka.inboxes)


def some_replies() -> list[Reply]:
    made = {"tier": "small", "hops": 1, "cost": 0.001, "baseline_cost": 0.02}
    again = {"tier": "small", "hops": 0, "cost": 0.0, "baseline_cost": 0.02}
    failed = ReplyError(code=ErrorCode.ENGINE_FAILED, message="no luck", retryable=True)
    return [
        make_reply(request_id="r-1", latency=Latency(total_ms=800), **made),
        make_reply(request_id="r-2", cache_status=CacheStatus.EXACT, latency=Latency(total_ms=4), **again),
        make_reply(request_id="r-3", cache_status=CacheStatus.SEMANTIC, latency=Latency(total_ms=20), **again),
        make_reply(request_id="r-4", tenant="globex", latency=Latency(total_ms=900), **made),
        make_reply(request_id="r-5", cache_status=CacheStatus.BYPASS, text="", error=failed),
    ]


def test_figures_are_added_up_once_a_second_however_often_they_are_asked_for(
    watched: MemoryKafka, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    added_up: list[Sequence[Reply]] = []
    monkeypatch.setattr(live, "_FRESH_S", 60.0)
    monkeypatch.setattr(live, "figures", lambda replies: added_up.append(replies) or {})
    for _ in range(5):
        assert httpx.get(f"{gateway.address}/forebay/live").is_success
    assert len(added_up) == 1


def test_figures_are_those_of_the_replies_and_of_nobody_elses(
    watched: MemoryKafka, config: Config, tmp_path: Path
) -> None:
    file = KeyFile(tmp_path / "keys.json")
    (_, acme), (_, all_) = file.create("acme"), file.create("ops", sees_all=True)
    with gateway_on(changed(config, {"gateway": {"key_file": tmp_path / "keys.json"}})) as gateway:

        def look(key: str) -> Any:
            return httpx.get(f"{gateway.address}/forebay/live", headers={"authorization": f"Bearer {key}"}).json()

        assert httpx.get(f"{gateway.address}/forebay/live").status_code == 401
        assert look(acme)["replies"] == 0
        eventually(lambda: looking_on(watched), "the topic is read", 10)
        for reply in some_replies():
            watched.reply(reply)
        seen = eventually(lambda: (told := look(all_))["replies"] == 5 and told, "all are seen", 10)
        assert {row["tenant"] for row in seen["latest"]} == {"acme", "globex"}
        assert seen["latest"][0]["request_id"] == "r-5"
        own = eventually(lambda: (told := look(acme))["replies"] and told, "the look before is older than a second", 10)
        assert (own["whose"], own["replies"], own["errors"], own["answers"], own["given_again"]) == (
            "tenant acme", 4, 1, 3, 2,
        )  # fmt: skip
        assert (own["cost"], own["baseline_cost"]) == (0.001, pytest.approx(0.06))
        assert (own["p50_ms"], own["p95_ms"]) == (20, 800)
        assert own["by_status"] == {"miss": 1, "exact": 1, "semantic": 1, "error": 1}
        assert own["by_tier"] == {"small": 1}
        assert {row["tenant"] for row in own["latest"]} == {"acme"}


def test_a_tenant_sees_its_own_calls_in_flight(watched: MemoryKafka, config: Config, tmp_path: Path) -> None:
    watched.answer = silence
    file = KeyFile(tmp_path / "keys.json")
    (_, acme), (_, globex), (_, all_) = file.create("acme"), file.create("globex"), file.create("ops", sees_all=True)
    with gateway_on(changed(config, {"gateway": {"key_file": tmp_path / "keys.json"}})) as gateway:

        def inflight(key: str) -> int:
            headers = {"authorization": f"Bearer {key}"}
            return httpx.get(f"{gateway.address}/forebay/live", headers=headers).json()["inflight"]

        with ThreadPoolExecutor(1) as calling:
            body = {"model": "auto", "messages": HELLO}
            headers = {"authorization": f"Bearer {globex}"}
            call = calling.submit(httpx.post, f"{gateway.url}/chat/completions", json=body, headers=headers)
            eventually(lambda: watched.sent, "it is in flight", 10)
            assert [inflight(key) for key in (acme, globex, all_)] == [0, 1, 1]
            watched.reply(echo(watched.sent[0].request)[0])
            assert call.result().status_code == 200


def test_the_topic_is_read_only_while_somebody_looks(watched: MemoryKafka, gateway: Gateway) -> None:
    assert httpx.get(gateway.address).status_code == 200
    assert not looking_on(watched)


def test_the_page_lets_nothing_in_but_its_own(gateway: Gateway) -> None:
    answer = httpx.get(gateway.address)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in answer.text.replace("http-equiv", "")


@pytest.mark.stack
def test_a_prompt_is_tried_in_a_browser_and_the_page_says_why(
    page: Page, watched: MemoryKafka, config: Config, tmp_path: Path
) -> None:
    def answer(request: Request) -> list[Reply]:
        for index, text in enumerate(("Delivery takes ", "<b>two days</b>.")):
            said = {"request_id": request.request_id, "tenant": request.tenant, "attempt": 0, "index": index}
            watched.chunk(Chunk(**said, text=text))
        route = make_route(complexity=0.41, reason="low_confidence", tier="medium", features={"length": 0.3})
        hop = Hop(tier="small", model_id="llama-3.1-8b", reason="confidence", cost=0.0001)
        return [
            make_reply(
                request_id=request.request_id, tenant=request.tenant, text="Delivery takes <b>two days</b>.",
                route=route, path=[hop], hops=2, tier="medium", model_id="llama-3.1-70b", similarity=0.61,
                cost=0.002, baseline_cost=0.01, latency=Latency(queue_ms=12, generation_ms=488, total_ms=500),
            )
        ]  # fmt: skip

    watched.answer = answer
    _, key = KeyFile(tmp_path / "keys.json").create("acme")
    with gateway_on(changed(config, {"gateway": {"key_file": tmp_path / "keys.json"}})) as gateway:
        page.open(gateway.address)
        eventually(lambda: page.text("state") == "give an API key", "it asks for a key", 20)
        page.type("key", key)
        page.click("#key-form button")
        eventually(lambda: "tenant acme" in page.text("state"), "figures are shown", 20)
        assert page.run("[...document.getElementById('model').options].map(one => one.value)")[:2] == ["auto", "small"]
        page.type("prompt", "How long does delivery take?")
        page.click("#ask")
        eventually(lambda: "Request chatcmpl-" in page.text("why"), "it says why", 20)
        assert page.text("text") == "Delivery takes <b>two days</b>."
        why = page.text("why")
        assert "Nothing known could be given again. Cosine of the nearest known question: 0.610." in why
        assert "tier medium, for the score was not sure, so one tier up. Read of it: length 0.30." in why
        assert "small's answer did not go out (confidence)" in why
        eventually(lambda: "chatcmpl-" in page.text("latest"), "it is among the latest", 20)
        assert page.text("rate") == "1"


@pytest.mark.stack
def test_a_key_that_is_wrong_is_said_and_can_be_given_again(
    page: Page, watched: MemoryKafka, config: Config, tmp_path: Path
) -> None:
    KeyFile(tmp_path / "keys.json").create("acme")
    with gateway_on(changed(config, {"gateway": {"key_file": tmp_path / "keys.json"}})) as gateway:
        page.open(gateway.address)
        eventually(lambda: page.text("state") == "give an API key", "it asks for a key", 20)
        page.type("key", "fb_wrong")
        page.click("#key-form button")
        page.type("prompt", "Hello?")
        page.click("#ask")
        eventually(lambda: "unknown or revoked" in page.text("why"), "it is said", 20)
        assert page.run("document.getElementById('key-form').hidden") is False
