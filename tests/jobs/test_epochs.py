"""Invalidation on a real Redis: which answers hold no longer, which go on holding, and that none is revived."""

import threading
from typing import Any

import pytest
from forebay_jobs.caches.epochs import WHOLE, definitions, fingerprint
from forebay_schemas.canonical import digests
from forebay_schemas.config import Config, load_config
from forebay_schemas.records import CacheOptions, CacheScope
from forebay_schemas.tiers import GpuHourPrice, Price

from tests.builders import NOW_MS, make_request, system
from tests.jobs.answer_store import PREFIX, REQUEST, Store, open_answers
from tests.redis_server import RedisServer

DIGEST = digests(REQUEST).exact
EVERYONES, ACMES = f"{PREFIX}:epochs:", f"{PREFIX}:epochs:acme"
SHARED = CacheOptions(scope=CacheScope.SHARED, sources=["prices"])


@pytest.fixture
def store(redis_server: RedisServer) -> Store:
    return Store(redis_server)


# What holds no longer, and what does


@pytest.mark.parametrize(
    "filters",
    [
        {"tenant": "acme"},
        {"category": "shop"},
        {"source": "prices"},
        {"source": "stock"},
        {"prompt_version": "v7"},
        {"model": "llama-3.1-8b"},
        {"source": "prices", "tenant": "acme"},
        {"model": "llama-3.1-8b", "tenant": "acme"},
        {"key": DIGEST},
        {"before_ms": NOW_MS + 251},  # it was completed at NOW_MS + 250
        {"before_ms": NOW_MS + 251, "tenant": "acme"},
        {"before_ms": NOW_MS + 251, "source": "stock"},
        {"before_ms": NOW_MS + 251, "source": "stock", "tenant": "acme"},
    ],
    ids=str,
)
def test_an_answer_that_meets_all_filters_is_unreachable_at_once(store: Store, filters: dict[str, Any]) -> None:
    store.fill(REQUEST)
    assert store.invalidate(**filters) == "applied"
    assert store.found(REQUEST) is None
    (fetched,) = store.store.fetch([(DIGEST, store.epochs(REQUEST))])  # what a similar question finds
    assert (fetched.answer, fetched.gone) == (None, True)
    store.fill(REQUEST, text="anew", completed_ms=NOW_MS + 1_000)
    found = store.found(REQUEST)
    assert found is not None
    assert found.text == "anew"


@pytest.mark.parametrize(
    "filters",
    [
        {"tenant": "rival"},
        {"category": "other"},
        {"source": "weather"},
        {"prompt_version": "v8"},
        {"model": "llama-3.1-405b"},
        {"source": "prices", "tenant": "rival"},
        {"key": "0" * 32},
        {"before_ms": NOW_MS + 250},
        {"before_ms": NOW_MS + 250, "source": "prices"},
        {"before_ms": NOW_MS + 900, "tenant": "rival"},
    ],
    ids=str,
)
def test_an_answer_that_fails_one_filter_goes_on_holding(store: Store, filters: dict[str, Any]) -> None:
    store.epochs(make_request(tenant="rival"))
    store.fill(REQUEST)
    assert store.invalidate(**filters) == "applied"
    assert store.found(REQUEST) is not None
    (fetched,) = store.store.fetch([(DIGEST, store.epochs(REQUEST))])
    assert fetched.answer is not None


def test_nothing_is_known_of_a_tenant_that_never_asked(store: Store) -> None:
    assert store.invalidate(tenant="acmee", source="prices") == "unknown"
    assert store.redis.keys("*epochs*") == []


@pytest.mark.parametrize("tenant", ["*", "key:x", "model:llama-3.1-8b", "source:prices", "a:b/c d"])
def test_a_tenant_may_be_called_like_a_scope(store: Store, tenant: str) -> None:
    ours, asked = make_request(), make_request(tenant=tenant)
    store.fill(ours)
    store.fill(asked)
    (fetched,) = store.store.fetch([(digests(asked).exact, store.epochs(make_request("Else?", tenant=tenant)))])
    assert fetched.answer is not None
    assert store.invalidate(tenant=tenant) == "applied"
    assert store.found(asked) is None
    assert store.found(ours) is not None


def test_what_tenants_share_falls_with_none_of_them_and_with_what_it_depends_on(store: Store) -> None:
    asked, by_rival = make_request(cache=SHARED), make_request(tenant="rival", cache=SHARED)
    store.epochs(make_request())
    store.fill(asked)
    assert store.found(make_request(cache=CacheOptions(sources=["prices"]))) is None  # who does not share gets none
    store.invalidate(tenant="acme")  # whoever asked first has no say
    store.invalidate(tenant="acme", source="prices")
    assert store.found(by_rival) is not None
    store.invalidate(source="prices")
    assert store.found(by_rival) is None


def test_an_answer_generated_across_an_invalidation_is_never_given(store: Store) -> None:
    epochs = store.epochs(REQUEST)  # before the generation
    store.invalidate(source="prices")
    store.fill(REQUEST, epochs)  # after it
    assert store.found(REQUEST) is None
    assert fingerprint(epochs) != fingerprint(store.epochs(REQUEST))  # so nobody shares it in flight either


def test_only_the_oldest_limit_of_age_counts_and_none_takes_back_an_invalidation(store: Store) -> None:
    stale = store.epochs(REQUEST)
    store.invalidate(source="prices")
    store.invalidate(source="prices", before_ms=NOW_MS + 900)
    store.invalidate(source="prices", before_ms=NOW_MS)
    store.fill(REQUEST, completed_ms=NOW_MS + 899)
    assert store.found(REQUEST) is None
    store.fill(REQUEST, completed_ms=NOW_MS + 900)
    assert store.found(REQUEST) is not None
    store.fill(REQUEST, stale, completed_ms=NOW_MS + 900)
    assert store.found(REQUEST) is None


# Commands that come again


def test_a_command_that_is_read_again_leaves_what_was_generated_after_it(store: Store) -> None:
    store.epochs(REQUEST)
    assert store.invalidate("control/0/1", tenant="acme") == "applied"
    store.fill(REQUEST)
    assert store.invalidate("control/0/1", tenant="acme") == "repeated"
    assert store.found(REQUEST) is not None
    assert store.invalidate("control/0/2", tenant="acme") == "applied"
    assert store.found(REQUEST) is None


def test_an_old_command_that_is_read_again_unnoticed_revives_nothing(store: Store) -> None:
    store.epochs(REQUEST)
    store.invalidate("control/0/1", source="prices")
    store.fill(REQUEST)
    store.invalidate("control/0/2", source="prices")
    store.redis.delete(*store.redis.keys("*:invalidated:*"))  # the notes are evicted, or over
    assert store.invalidate("control/0/1", source="prices") == "applied"
    assert store.found(REQUEST) is None


def test_of_many_at_one_time_none_is_lost(store: Store) -> None:
    limits = [NOW_MS + number for number in range(1, 101)]

    def apply(share: int) -> None:
        for limit in limits[share::4]:
            assert store.invalidate(source="prices", before_ms=limit) == "applied"

    threads = [threading.Thread(target=apply, args=(share,)) for share in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.redis.hget(EVERYONES, "source:prices").endswith(b"|%d" % limits[-1])
    assert store.errors() == 0


# What Redis loses


@pytest.mark.parametrize("key", [EVERYONES, ACMES])
def test_epochs_that_are_evicted_revive_nothing(store: Store, key: str) -> None:
    store.fill(REQUEST)
    store.invalidate(source="prices", tenant="acme")
    store.invalidate(source="prices")
    for _ in range(2):
        store.redis.delete(key)
        assert store.found(REQUEST) is None
        assert store.found(REQUEST) is None  # also not with the epochs that were created now


def test_a_limit_of_age_on_an_empty_redis_is_no_epoch_that_was_held_before(store: Store) -> None:
    store.invalidate(before_ms=NOW_MS)
    store.fill(REQUEST, completed_ms=NOW_MS)
    assert store.found(REQUEST) is not None
    store.redis.delete(EVERYONES)
    store.invalidate(before_ms=NOW_MS)
    assert store.found(REQUEST) is None


def test_a_flushed_redis_is_an_empty_one(store: Store) -> None:
    store.fill(REQUEST)
    before = store.epochs(REQUEST)
    store.redis.flushall()
    assert store.found(REQUEST) is None
    after = store.epochs(REQUEST)
    assert before[WHOLE] != after[WHOLE]
    assert store.errors() == 0


def test_an_epoch_that_is_no_text_holds_like_any_other(store: Store) -> None:
    store.redis.hset(ACMES, WHOLE, b"\xff\xfe")
    store.fill(REQUEST)
    assert store.found(REQUEST) is not None
    store.redis.hset(ACMES, WHOLE, b"\xff\xfd")
    assert store.found(REQUEST) is None


def test_epochs_of_the_wrong_type_serve_nothing_and_raise_nothing(store: Store) -> None:
    store.fill(REQUEST)
    store.redis.set(ACMES, "no hash")
    assert store.found(REQUEST) is None


# What separates answers without a command


def test_a_changed_system_prompt_asks_for_an_answer_of_its_own(store: Store) -> None:
    asked = make_request(static_messages=[system("Answer in one sentence.")])
    store.fill(asked)
    assert store.found(asked) is not None
    assert store.found(make_request(static_messages=[system("Answer in two sentences.")])) is None


def with_model(config: Config, **changes: Any) -> Config:
    model = config.models["llama-3.1-8b"].model_copy(update=changes)
    return config.model_copy(update={"models": {**config.models, "llama-3.1-8b": model}})


def with_tier(config: Config, **changes: Any) -> Config:
    tier = config.tiers["small"].model_copy(update=changes)
    return config.model_copy(update={"tiers": {**config.tiers, "small": tier}})


@pytest.mark.parametrize("change", ["weights", "engine", "prompt", "stop"])
def test_a_model_or_tier_that_is_defined_anew_ends_its_answers_and_no_others(
    store: Store, redis_server: RedisServer, change: str
) -> None:
    config = redis_server.config()
    other = make_request("Which is it?")
    store.fill(REQUEST)
    store.fill(other, model_id="llama-3.1-70b", tier="medium")
    changed = {
        "weights": lambda: with_model(config, weights="meta-llama/Llama-3.1-8B-Instruct"),
        "engine": lambda: with_model(config, engine={"quantization": "fp8"}),
        "prompt": lambda: with_tier(config, length_directive="Answer in at most 60 words."),
        "stop": lambda: with_tier(config, stop=["\n\n"]),
    }[change]()
    store.store = open_answers(changed, store.metrics)
    assert store.found(REQUEST) is None
    assert store.found(other) is not None
    store.store = open_answers(config, store.metrics)  # taken back, its answers are right again
    assert store.found(REQUEST) is not None


def test_an_answer_of_a_model_that_is_configured_no_more_is_not_given(store: Store) -> None:
    store.fill(REQUEST, {**store.epochs(REQUEST), "model:retired": "1"}, model_id="retired")
    assert store.found(REQUEST) is None


def test_prices_and_limits_end_no_answer() -> None:
    config = load_config()
    endpoint = config.models["llama-3.1-8b"].endpoint
    cheaper = with_model(config, price=Price(input_per_1k=0.0, output_per_1k=0.0))
    by_hour = GpuHourPrice(gpu_hour_usd=2, input_tokens_per_s=9, output_tokens_per_s=9, utilisation=0.5)
    patient = with_model(cheaper, endpoint=endpoint.model_copy(update={"timeout_s": 1.0, "concurrency": 1}))
    longer = with_tier(patient, max_tokens=9, complexity_up_to=0.1)
    assert definitions(config) == definitions(longer) == definitions(with_model(config, price=by_hour))
