"""Every Prometheus metric of this project, with unit and meaning; dashboards and alerts use no name outside."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

LATENCY_BUCKETS_S = (
    0.001, 0.002, 0.005, 0.008, 0.015, 0.03, 0.06, 0.125, 0.25, 0.35, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""From a cached reply (the goals are 8 and 15 ms) to a long generation."""


class JobMetrics:
    """What the job counts, in each TaskManager. Counters restart with the process, as Prometheus expects."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.requests = Counter(
            "forebay_requests_total", "Requests taken from a request topic.", ["lane"], registry=registry
        )
        self.replies = Counter(
            "forebay_job_replies_total",
            "Replies that the job wrote itself, by where the text came from, with errors apart.",
            ["cache_status", "outcome"],
            registry=registry,
        )
        self.tasks = Counter(
            "forebay_tasks_total", "Tasks handed to a tier.", ["tier", "lane", "reason"], registry=registry
        )
        self.dead_letters = Counter(
            "forebay_dead_letters_total", "Records given up, by error code.", ["code"], registry=registry
        )
        self.duplicates = Counter(
            "forebay_duplicate_requests_total", "Requests dropped because their id was seen before.", registry=registry
        )
        self.results = Counter(
            "forebay_results_total",
            "Results of workers, by what became of them: matched, repeated, unknown, invalid.",
            ["outcome"],
            registry=registry,
        )
        self.filled = Counter(
            "forebay_cache_fills_total",
            "Answers offered to the caches, by what became of them: kept, or why not.",
            ["outcome"],
            registry=registry,
        )
        self.store_errors = Counter(
            "forebay_store_errors_total",
            "Calls to a store that failed; the request went on without it.",
            ["store"],
            registry=registry,
        )
        self.store_up = Gauge(
            "forebay_store_up", "1 while the store answers, 0 while it is left alone.", ["store"], registry=registry
        )
        self.reply_latency = Histogram(
            "forebay_reply_latency_seconds",
            "From a request's creation to the job's reply.",
            ["cache_status"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.embedding_batch = Histogram(
            "forebay_embedding_batch_size",
            "Questions embedded in one call.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=registry,
        )
        self.embedding_seconds = Histogram(
            "forebay_embedding_seconds", "Time of one embedding call.", buckets=LATENCY_BUCKETS_S, registry=registry
        )
        self.passages = Counter(
            "forebay_passages_total",
            "Passages that were weighed for their use to the question, by what became of them: kept, left_out.",
            ["outcome"],
            registry=registry,
        )
        self.passage_tokens_saved = Counter(
            "forebay_passage_tokens_saved_total",
            "Tokens of the passages that were left out, by the embedder's tokenizer.",
            registry=registry,
        )
        self.flights_opened = Counter(
            "forebay_flights_opened_total", "Requests that began to lead a flight at the desk.", registry=registry
        )
        self.flights_closed = Counter(
            "forebay_flights_closed_total",
            "Flights that the desk has forgotten, a few seconds after they landed.",
            registry=registry,
        )
        self.promotions = Counter(
            "forebay_promotions_total", "Followers that took a failed leader's place.", registry=registry
        )


class WorkerMetrics:
    """What a worker counts."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.replies = Counter(
            "forebay_worker_replies_total",
            "Replies committed, by tier and outcome.",
            ["tier", "lane", "outcome"],
            registry=registry,
        )
        self.escalations = Counter(
            "forebay_worker_escalations_total",
            "Tasks handed to another tier, by the one they left and why: confidence, refusal, cut_off, invalid_json,"
            " unavailable.",
            ["tier", "reason"],
            registry=registry,
        )
        self.standby_answers = Counter(
            "forebay_worker_standby_answers_total",
            "Answers of another model than the tier's own, which could not answer.",
            ["tier", "model"],
            registry=registry,
        )
        self.failed_attempts = Counter(
            "forebay_worker_failed_attempts_total",
            "Attempts that failed and may be made again; a task given up counts as a dead letter besides.",
            ["tier"],
            registry=registry,
        )
        self.repeated_tasks = Counter(
            "forebay_worker_repeated_tasks_total",
            "Tasks passed over because the job had written them before.",
            registry=registry,
        )
        self.inflight = Gauge("forebay_worker_inflight", "Tasks that are being generated.", registry=registry)
        self.held = Gauge(
            "forebay_worker_held", "Batch generations that rest while interactive ones run.", registry=registry
        )
        self.tokens = Counter(
            "forebay_worker_tokens_total",
            "Tokens of generations, of those too whose answer did not go out, by kind: prompt, cached_prompt,"
            " completion.",
            ["tier", "kind"],
            registry=registry,
        )
        self.cost = Counter(
            "forebay_cost_dollars_total", "US dollars charged for generations.", ["tier", "lane"], registry=registry
        )
        self.reply_latency = Histogram(
            "forebay_worker_reply_latency_seconds",
            "From a request's creation to its reply, for generated answers.",
            ["tier"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.generation_seconds = Histogram(
            "forebay_generation_seconds",
            "Time of one generation.",
            ["tier"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.first_token = Histogram(
            "forebay_first_token_seconds",
            "From the beginning of a generation to its first token.",
            ["tier"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.commits = Counter(
            "forebay_worker_commits_total",
            "Transactions, by outcome: committed, aborted.",
            ["outcome"],
            registry=registry,
        )
        self.dead_letters = Counter(
            "forebay_worker_dead_letters_total", "Tasks given up, by error code.", ["code"], registry=registry
        )


def fqnames() -> set[str]:
    """The names under which the metrics above are scraped, histograms with their suffixes."""
    registry = CollectorRegistry()
    JobMetrics(registry)
    WorkerMetrics(registry)
    names: set[str] = set()
    for metric in registry.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(metric.type, ("",))
        names |= {metric.name + suffix for suffix in suffixes}
    return names
