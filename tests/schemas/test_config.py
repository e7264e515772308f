"""The configuration: where values come from, what is refused and how that is said, and what is never printed."""

import os
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest
from forebay_schemas.categories import MIN_SIMILARITY, PRESETS
from forebay_schemas.config import Config, changed, load_config
from forebay_schemas.errors import ConfigError
from forebay_schemas.section import Section
from forebay_schemas.tiers import ModelConfig
from pydantic import SecretStr
from pydantic.fields import FieldInfo

Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a configuration from the text of its file and from variables, and from nothing else."""
    for name in [name for name in os.environ if name.startswith("FOREBAY_")]:
        del os.environ[name]

    def load(toml: str = "", **variables: str) -> Config:
        file = tmp_path / "forebay.toml"
        file.write_text(toml, "utf-8")
        os.environ.update(variables)
        return load_config(file)

    return load


# Sources


def test_without_file_and_variables_the_defaults_hold(load: Load) -> None:
    config = load()

    assert list(config.tiers) == ["small", "medium", "large"]
    assert [tier.complexity_up_to for tier in config.tiers.values()] == [0.3, 0.7, 1.0]
    assert [tier.max_tokens for tier in config.tiers.values()] == [256, 512, 1024]
    assert config.largest_tier == "large"
    default = config.category("anything")
    assert (default.similarity, default.exact_ttl_s, default.semantic_ttl_s) == (0.95, 86_400, 86_400)
    assert config.registry.url is None


def test_a_variable_wins_over_the_file_and_the_file_over_the_default(load: Load) -> None:
    config = load(
        '[kafka]\nbootstrap = "file:1"\npartitions = 2\n[redis]\ntimeout_ms = 10', FOREBAY_KAFKA__PARTITIONS="7"
    )

    assert (config.kafka.bootstrap, config.kafka.partitions, config.kafka.replication_factor) == ("file:1", 7, 1)
    assert config.redis.timeout_ms == 10


def test_a_variable_may_hold_a_whole_section_as_json(load: Load) -> None:
    assert load(FOREBAY_CATEGORIES='{"chat": {"reuse": "bypass"}}').category("chat").reuse == "bypass"


def test_the_file_is_named_by_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "forebay.toml"
    file.write_text("[desk]\nbuckets = 4")
    os.environ["FOREBAY_CONFIG"] = str(file)

    assert load_config().desk.buckets == 4


def test_reading_a_file_leaves_no_trace(load: Load) -> None:
    assert load("[desk]\nbuckets = 4").desk.buckets == 4
    assert load_config().desk.buckets == 8


def test_models_and_tiers_of_a_file_replace_the_default_ones(load: Load) -> None:
    config = load(
        """
        [models.tiny]
        backend = "synthetic"
        price = {input_per_1k = 0.1, output_per_1k = 0.2}
        [models.listed]
        price = {input_per_1k = 1, output_per_1k = 2}
        [tiers.only]
        complexity_up_to = 1.0
        model = "tiny"
        priced_as = "listed"
        max_tokens = 10
        """
    )

    assert (list(config.models), list(config.tiers)) == (["tiny", "listed"], ["only"])
    assert config.price("only").input_per_1k == 1


def test_tiers_are_ordered_by_complexity_whatever_their_order_in_the_file(load: Load) -> None:
    tier = 'model = "llama-3.1-8b"\nmax_tokens = 9\ncomplexity_up_to ='
    config = load(f"[tiers.top]\n{tier} 1.0\n[tiers.low]\n{tier} 0.2\n[tiers.mid]\n{tier} 0.5")

    assert list(config.tiers) == ["low", "mid", "top"]
    assert config.largest_tier == "top"


# Changed settings


def test_a_changed_configuration_has_the_new_values_and_all_others_as_before(load: Load) -> None:
    config = load("[categories.default]\nsimilarity = 0.9\nexact_ttl_s = 60\n", FOREBAY_KAFKA__PARTITIONS="7")
    other = changed(
        config, {"tiers": {"small": {"complexity_up_to": 0.4}}, "categories": {"new": {"similarity": 0.99}}}
    )

    assert [tier.complexity_up_to for tier in other.tiers.values()] == [0.4, 0.7, 1.0]
    assert other.category("new") == config.category("new").model_copy(update={"similarity": 0.99})
    assert (other.category("old"), other.models, other.kafka) == (config.category("old"), config.models, config.kafka)
    assert changed(config, {}) == config


def test_a_ladder_of_its_own_stays_without_the_one_that_is_shipped(load: Load) -> None:
    config = load(_only("input_per_1k = 1, output_per_1k = 2"))
    assert list(changed(config, {"tiers": {"only": {"max_tokens": 5}}}).tiers) == ["only"]


def test_a_preset_and_a_price_stated_another_way_take_the_place_of_what_was_there(load: Load) -> None:
    config = load("[categories.support]\nsimilarity = 0.99\nexact_ttl_s = 5")
    other = changed(
        config,
        {
            "categories": {"support": {"preset": "support"}},
            "models": {
                "llama-3.1-8b": {"price": {"output_per_1k": 3.0}},
                "llama-3.1-70b": {"price": {"gpu_hour_usd": 1.0, "input_tokens_per_s": 1.0, "output_tokens_per_s": 1.0,
                                            "utilisation": 1.0}},
            },
        },
    )  # fmt: skip

    assert other.category("support") == PRESETS["support"]
    before, after = config.model_price("llama-3.1-8b"), other.model_price("llama-3.1-8b")
    assert (after.input_per_1k, after.output_per_1k) == (before.input_per_1k, 3.0)
    assert other.model_price("llama-3.1-70b").input_per_1k == pytest.approx(1000 / 3600)


def test_a_change_that_cannot_work_is_refused_by_name(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"categories\.support\.similarity: .*0\.85"):
        changed(load(), {"categories": {"support": {"similarity": 0.5}}})


# Prices

_GPUS = "gpu_hour_usd = 2.5, gpus = 2, input_tokens_per_s = 12000, output_tokens_per_s = 1800, utilisation = 0.6"


def _only(price: str) -> str:
    return f"[models.m]\nprice = {{{price}}}\n[tiers.only]\ncomplexity_up_to = 1.0\nmodel = 'm'\nmax_tokens = 9"


def test_a_gpu_hour_becomes_a_price_per_1k_tokens(load: Load) -> None:
    config = load(_only(_GPUS))

    usd_per_s = 2.5 * 2 / 3600
    assert config.model_price("m") == config.price("only")
    assert config.price("only").model_dump() == {
        "input_per_1k": pytest.approx(usd_per_s / (12 * 0.6)),
        "cached_input_per_1k": 0.0,
        "output_per_1k": pytest.approx(usd_per_s / (1.8 * 0.6)),
        "cache_write_per_1k": None,
        "batch_factor": 0.5,
    }


def test_with_every_gpu_busy_the_tokens_pay_for_the_hour(load: Load) -> None:
    price = load(_only("gpu_hour_usd = 3, gpus = 4, input_tokens_per_s = 9000, output_tokens_per_s = 700,"
                       "utilisation = 1")).price("only")  # fmt: skip

    half_an_hour_each = 1800 * (9.0 * price.input_per_1k + 0.7 * price.output_per_1k)
    assert half_an_hour_each == pytest.approx(3 * 4)


def test_cached_input_costs_its_share_of_the_gpus_time(load: Load) -> None:
    price = load(_only(f"{_GPUS}, cached_input_share = 0.1, batch_factor = 1")).price("only")

    assert price.cached_input_per_1k == pytest.approx(price.input_per_1k / 10)
    assert price.batch_factor == 1.0


def test_one_figure_of_a_gpu_hour_may_come_from_the_environment(load: Load) -> None:
    base, raised = load(_only(_GPUS)), load(_only(_GPUS), FOREBAY_MODELS__M__PRICE__GPU_HOUR_USD="5.0")

    assert raised.price("only").output_per_1k == pytest.approx(2 * base.price("only").output_per_1k)


@pytest.mark.parametrize("price", [_GPUS, "input_per_1k = 1, output_per_1k = 2"])
def test_a_written_configuration_states_the_price_as_it_was_stated(load: Load, price: str) -> None:
    stated = load(_only(price))

    assert ModelConfig.model_validate(stated.model_dump()["models"]["m"]) == stated.models["m"]


def test_the_batch_lane_pays_half_unless_a_price_says_otherwise(load: Load) -> None:
    assert [load().price(tier).batch_factor for tier in ("small", "medium", "large")] == [0.5] * 3


def test_fixed_costs_are_dollars_a_month_by_name(load: Load) -> None:
    assert load().costs.fixed_monthly_usd == {}
    config = load("[costs]\nfixed_monthly_usd = { redis = 40.0, kafka = 120 }")
    assert config.costs.fixed_monthly_usd == {"redis": 40.0, "kafka": 120.0}


# Categories


def test_a_preset_fills_in_what_a_category_does_not_say(load: Load) -> None:
    config = load('[categories.docs]\npreset = "extraction"\nexact_ttl_s = 60', FOREBAY_CATEGORIES__DOCS__TIER="medium")

    assert config.category("docs") == PRESETS["extraction"].model_copy(update={"exact_ttl_s": 60, "tier": "medium"})


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_works(load: Load, name: str) -> None:
    assert load(f'[categories.x]\npreset = "{name}"').category("x") == PRESETS[name]


def test_the_category_default_holds_for_all_others(load: Load) -> None:
    config = load('[categories.default]\nreuse = "exact"\n[categories.chat]\nreuse = "bypass"')

    assert (config.category("other").reuse, config.category("chat").reuse) == ("exact", "bypass")


def test_the_least_similarity_is_accepted(load: Load) -> None:
    assert load(f"[categories.x]\nsimilarity = {MIN_SIMILARITY}").category("x").similarity == 0.85


# What is refused

_TIER = 'max_tokens = 9\nmodel = "llama-3.1-8b"\ncomplexity_up_to ='
_PRICE = "price = {input_per_1k = 1, output_per_1k = 1}"

REFUSED = [
    ("colour = 1", "colour: no such setting; `forebay config` lists them all"),
    ("[kafka]\nbotstrap = 'x'", "kafka.botstrap: no such setting"),
    ("[kafka]\npartitions = 'many'", "kafka.partitions: Input should be a valid integer"),
    ("[kafka]\npartitions = 0", "kafka.partitions: Input should be greater than or equal to 1"),
    ("[kafka]\ntopic_prefix = 'a b'", "kafka.topic_prefix: String should match pattern"),
    *(
        (f"[kafka]\nclient_settings = {{'{name}' = 'x'}}", f"client_settings.{name} would be printed; give it under")
        for name in ("sasl.password", "ssl.key.pem", "ssl.keystore.location", "ssl.keystore.key", "sasl.jaas.config")
    ),
    ("[kafka]\nreply_topics = ['a b']", "kafka.reply_topics.0: String should match pattern"),
    ("[kafka]\nreply_topics = ['llm.results']", "kafka.reply_topics: llm.results is a topic of this installation's"),
    ("[kafka]\nreply_topics = ['a']\n[request_topics.a]", "kafka.reply_topics: a is a topic of this installation's"),
    ("[request_topics.'llm.tier.small.batch']", "request_topics: llm.tier.small.batch is a topic of this"),
    ("[feedback_topics]\n'llm.feedback' = 'shop'", "feedback_topics: llm.feedback is a topic of this installation's"),
    ("[feedback_topics]\na = 'shop'\n[request_topics.a]", "feedback_topics: a is a topic of this installation's"),
    ("[request_topics.'llm.requests']", "request_topics: llm.requests is a topic of this installation's own; choose"),
    ("[registry]\nurl = 'http://ada:x@registry'", "registry.url: holds a user; addresses are printed, so give"),
    ("[semantic]\nurl = 'http://ada:x@qdrant'", "semantic.url: holds a user"),
    ("[categories.x]\nsimilarity = 0.84", "categories.x.similarity: Input should be greater than or equal to 0.85"),
    ("[categories.x]\nsimilarity = nan", "categories.x.similarity: Input should be"),
    ("[categories.x]\npreset = 'poetry'", "categories.x.preset: 'poetry' is unknown; use one of support, extraction"),
    ("[categories.x]\npreset = ['code']", "categories.x.preset: ['code'] is unknown; use one of"),
    ("[categories.x]\nfresh_s = 60\nexact_ttl_s = 60", "categories.x: fresh_s 60 is not below exact_ttl_s 60"),
    ("[categories.x]\ntier = 'huge'", "categories.x.tier: 'huge' is no tier; use one of small, medium, large"),
    (
        "[categories.x.pruning]\ncross_encoder = 'models/ranker'",
        "categories.x.pruning: min_similarity must be set beside cross_encoder",
    ),
    ("[categories.x.pruning]\ncross_encoder = ''\nmin_similarity = 0", "categories.x.pruning.cross_encoder: String"),
    ("[categories]\nx = 5", "categories.x: Input should be a valid dictionary"),
    ("categories = 5", "categories: Input should be a valid dictionary"),
    ("tiers = {}", "tiers is empty: name at least one tier"),
    (f"[tiers.a]\n{_TIER} 0.9", "the last tier must have complexity_up_to = 1.0, or some requests have no tier"),
    (f"[tiers.a]\n{_TIER} 1.0\n[tiers.b]\n{_TIER} 1.0", "two tiers have the same complexity_up_to; give each its own"),
    (f"[tiers.'small.batch']\n{_TIER} 1.0", "tiers.small.batch.[key]: String should match pattern"),
    (f"[tiers.a]\n{_TIER} 1.0\npriced_as = 'gold'", "tiers.a.priced_as: the model 'gold' is unknown; describe it"),
    (f"[models.m]\n{_PRICE}", "tiers.small.model: the model 'llama-3.1-8b' is unknown; describe it"),
    (f"[tiers.a]\n{_TIER} 1.0\nstandby = ['gold']", "tiers.a.standby: the model 'gold' is unknown; describe it"),
    (f"[models.m]\n{_PRICE}\nbackend = 'vllm'", "models.m: weights must name a model for the backend vllm"),
    ("[models.m]\nprice = {input_per_1k = -1, output_per_1k = 1}", "models.m.price.input_per_1k: Input should be"),
    ("[models.m]", "models.m: price is missing, and without it nobody could say what an answer costs; give"),
    ("[models.m]\nbackend = 'openai'\nendpoint = {url = 'https://x/v1'}", "models.m: price is missing"),
    ("[models.m]\nprice = {}", "models.m.price.input_per_1k: is missing, and has no default; give it a value"),
    ("[models.m]\nprice = 3", "models.m.price: Input should be a valid dictionary"),
    ("[models.m]\nprice = {input_per_1k = 1}", "models.m.price.output_per_1k: is missing"),
    (
        "[models.m]\nprice = {gpu_hour_usd = 2, output_per_1k = 1}",
        "models.m.price: output_per_1k and gpu_hour_usd state one price in two ways; keep the prices per 1,000 tokens,",
    ),
    (
        "[models.m]\nprice = {cache_write_per_1k = 1, utilisation = 1}",
        "models.m.price: cache_write_per_1k and utilisation state one price in two ways",
    ),
    ("[models.m]\nprice = {gpu_hour_usd = 2}", "models.m.price.utilisation: is missing"),
    ("[models.m]\nprice = {gpu_hour_usd = 2, colour = 1}", "models.m.price.colour: no such setting"),
    *(
        (f"[models.m]\nprice = {{gpu_hour_usd = 2, {name} = {value}}}", f"models.m.price.{name}: Input should be")
        for name, value in (
            ("gpus", 0),
            ("input_tokens_per_s", 0),
            ("output_tokens_per_s", "inf"),
            ("utilisation", 0),
            ("utilisation", 1.01),
            ("cached_input_share", -0.1),
        )
    ),
    ("[models.m]\nprice = {gpu_hour_usd = -2}", "models.m.price.gpu_hour_usd: Input should be greater than"),
    ("[costs]\nfixed_monthly_usd = {redis = -1}", "costs.fixed_monthly_usd.redis: Input should be greater than"),
    ("[costs]\nfixed_monthly_usd = {redis = inf}", "costs.fixed_monthly_usd.redis: Input should be a finite"),
    ("[costs]\nfixed_monthly = {redis = 1}", "costs.fixed_monthly: no such setting"),
    ("[batch]\nbusy_rate_per_s = inf", "batch.busy_rate_per_s: Input should be a finite number"),
    ("[desk]\nbuckets = 12", "desk: buckets must be a power of two"),
    ("[flink]\nparallelism = 16", "flink.parallelism 16 is above desk.buckets 8: some slots would stay idle; raise"),
    ("[flink]\ntask_managers = 2", "the embedded index serves one process; set semantic.url to a Qdrant server"),
    ("kafka = [", "the configuration cannot be read"),
]


@pytest.mark.parametrize(("toml", "message"), REFUSED, ids=[toml.replace("\n", " ")[:60] for toml, _ in REFUSED])
def test_what_cannot_work_is_refused_with_its_name(load: Load, toml: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load(toml)

    assert "Value error" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FOREBAY_KAFK__BOOTSTRAP", "x", "FOREBAY_KAFK__BOOTSTRAP: no such setting; `forebay config` lists them all"),
        ("FOREBAY_KAFKA__BOTSTRAP", "x", "kafka.botstrap: no such setting"),
        ("FOREBAY_KAFKA__PARTITIONS", "many", "kafka.partitions: Input should be a valid integer"),
        ("FOREBAY_KAFKA", "not json", 'error parsing value for field "kafka"'),
    ],
)
def test_a_variable_that_cannot_work_is_refused(load: Load, name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(**{name: value})


def test_all_problems_are_told_at_once(load: Load) -> None:
    with pytest.raises(ConfigError) as caught:
        load("[kafka]\npartitions = 0\n[redis]\ntimeout_ms = 0")

    assert "kafka.partitions" in str(caught.value)
    assert "redis.timeout_ms" in str(caught.value)


def test_a_missing_file_is_named(load: Load) -> None:
    os.environ["FOREBAY_CONFIG"] = "/nowhere/forebay.toml"

    with pytest.raises(ConfigError, match=r"there is no file /nowhere/forebay.toml; name an existing TOML file"):
        load_config()


def test_a_file_that_is_no_text_is_refused(load: Load, tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "binary.toml")


# Secrets

_SECRETS = {
    "FOREBAY_REDIS__URL": "rediss://:geheim@redis:6379/0",
    "FOREBAY_KAFKA__SECRET_SETTINGS": '{"sasl.password": "geheim"}',
    "FOREBAY_KAFKA__FLINK_SETTINGS": '{"sasl.jaas.config": "geheim"}',
    "FOREBAY_SEMANTIC__API_KEY": "geheim",
    "FOREBAY_REGISTRY__PASSWORD": "geheim",
}


def test_secrets_are_masked_wherever_a_configuration_is_printed(load: Load) -> None:
    config = load(**_SECRETS)

    for text in (repr(config), str(config), f"{config.kafka}", config.model_dump_json(), repr(config.model_dump())):
        assert "geheim" not in text
        assert "**********" in text


def test_a_refused_secret_is_not_repeated_in_the_message(load: Load) -> None:
    with pytest.raises(ConfigError) as caught:
        load("[kafka]\npartitions = 0", **_SECRETS, FOREBAY_KAFKA="geheim")

    assert "geheim" not in str(caught.value)


def test_a_kafka_client_gets_shared_secret_and_own_settings(load: Load) -> None:
    config = load('[kafka]\nclient_settings = {"security.protocol" = "SASL_SSL"}', **_SECRETS)

    assert config.kafka.client(group_id="g") == {
        "bootstrap.servers": "localhost:9092",
        "topic.metadata.refresh.interval.ms": 10_000,
        "security.protocol": "SASL_SSL",
        "sasl.password": "geheim",
        "group.id": "g",
    }


def test_each_secret_may_lie_in_a_file(load: Load, tmp_path: Path) -> None:
    password, table, long = tmp_path / "password", tmp_path / "client.properties", tmp_path / "long"
    password.write_text("geheim\n")
    long.write_text("sehr, sehr geheim\n")
    table.write_text("# of Kafka\nssl.key.password = geheim=1\n")
    config = load(
        f"""
        [desk]
        task_secret_file = "{long}"
        [kafka]
        security_protocol = "SASL_PLAINTEXT"
        user = "job"
        password_file = "{password}"
        secret_settings_file = "{table}"
        [redis]
        url_file = "{password}"
        [models.m]
        price = {{ input_per_1k = 1, output_per_1k = 1 }}
        endpoint = {{ url = "http://m/v1", api_key_file = "{password}" }}
        [tiers.only]
        complexity_up_to = 1.0
        model = "m"
        max_tokens = 64
        """,
        FOREBAY_SEMANTIC__API_KEY_FILE=str(password),
    )

    secret_ones = [
        config.kafka.password,
        config.redis.url,
        config.semantic.api_key,
        config.models["m"].endpoint.api_key,
    ]
    assert [one.get_secret_value() for one in secret_ones if one] == ["geheim"] * 4
    assert config.kafka.secret_settings["ssl.key.password"].get_secret_value() == "geheim=1"
    assert config.desk.task_secret == SecretStr("sehr, sehr geheim")


_NO_ACCESS = {
    "no file": ('[redis]\npassword_file = "/nowhere/p"', "password_file: /nowhere/p cannot be read"),
    "given twice": (
        '[redis]\npassword = "geheim"\npassword_file = "/nowhere/p"',
        "password and password_file are both",
    ),
    "no table": (f'[kafka]\nsecret_settings_file = "{__file__}"', "has a line without `=`"),
    "file of no secret": ('[redis]\nuser_file = "/nowhere/p"', "redis.user_file: no such setting"),
    "two passwords": ('[redis]\nurl = "redis://:geheim@r"\npassword = "geheim"', "both hold a password"),
    "worked out": ('[desk]\ntask_secret = "geheim"', "desk.task_secret: should have at least 16 characters, not 6"),
    "no user": ('[kafka]\nsecurity_protocol = "SASL_SSL"\npassword = "geheim"', "needs user and password"),
    "shown to nobody": ('[kafka]\nuser = "job"\npassword = "geheim"', "shows no user and password; make it SASL_SSL"),
    "no authority": ('[kafka.tls]\nca_file = "/nowhere/ca"', "kafka.tls.ca_file: there is no file /nowhere/ca"),
    "not encrypted": (f'[redis.tls]\nca_file = "{__file__}"', "does not begin with rediss://"),
}


@pytest.mark.parametrize(("toml", "problem"), _NO_ACCESS.values(), ids=_NO_ACCESS)
def test_access_that_cannot_work_is_refused_and_its_secrets_not_repeated(load: Load, toml: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)) as caught:
        load(toml)

    assert "geheim" not in str(caught.value)


def test_a_configuration_cannot_be_changed(load: Load) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().kafka.partitions = 2


# Descriptions


def _fields(model: type, path: str = "") -> Iterator[tuple[str, FieldInfo, Any]]:
    for name, field in model.model_fields.items():  # pyright: ignore[reportAttributeAccessIssue]
        yield f"{path}{name}", field, field.annotation
        for section in _sections(field.annotation):
            yield from _fields(section, f"{path}{name}.")


def _sections(annotation: Any) -> list[type]:
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation] if issubclass(annotation, Section) else []
    return [section for argument in get_args(annotation) for section in _sections(argument)]


def _numeric(annotation: Any) -> bool:
    if get_origin(annotation) in (Union, types.UnionType):
        return any(_numeric(argument) for argument in get_args(annotation))
    return annotation in (int, float)


FIELDS = list(_fields(Config))


@pytest.mark.parametrize(("path", "field", "annotation"), FIELDS, ids=[path for path, _, _ in FIELDS])
def test_every_setting_is_described(path: str, field: FieldInfo, annotation: Any) -> None:
    described = field.description or next((section.__doc__ for section in _sections(annotation)), None)

    assert described, f"{path} has no description"
    assert described.rstrip().endswith("."), f"{path}: a description is a sentence"


_UNITS = re.compile(
    r"(^|_)(ms|s|days|bytes|rows|port|per_s|per_1k|usd)$"  # at the end of a name
    # no unit: a share, an angle, a weight
    r"|: .*(cosine|complexit|confidence|temperature|variety|batch lane pays|share)"
    # a count of them
    r"|: .*(calls|copies|generations|GPUs|instances|keys|partitions|processes|questions|tasks|tenants|threads|tiers"
    r"|tokens)",
    re.IGNORECASE,
)
_TIMES = re.compile(r"(ttl|timeout|interval|latency|linger|window|after|time)(?!.*_(ms|s)$)")


@pytest.mark.parametrize(
    ("path", "field"), [(path, field) for path, field, annotation in FIELDS if _numeric(annotation)]
)
def test_every_number_names_its_unit(path: str, field: FieldInfo) -> None:
    name = path.rsplit(".")[-1]

    assert _UNITS.search(name) or _UNITS.search(f"{name}: {field.description}"), f"{path}: say what it counts"
    assert not _TIMES.search(name), f"{path}: end the name of a time in _ms or _s"
