"""Every Prometheus metric of this project, with unit and meaning; dashboards and alerts use no name outside."""

import re
import threading
from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from .errors import ErrorCode
from .invalidation import InvalidationOutcome
from .records import FeedbackSource, Reply, Verdict
from .sections import MetricsConfig

LATENCY_BUCKETS_S = (
    0.001, 0.002, 0.005, 0.008, 0.015, 0.03, 0.06, 0.125, 0.25, 0.35, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""From a cached reply (the goals are 8 and 15 ms) to a long generation."""

SIMILARITY_BUCKETS = (0.86, 0.88, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 1.0)
"""Cosines at which an answer may be reused; none below ``categories.MIN_SIMILARITY`` may."""

AGE_BUCKETS_S = (60, 300, 900, 3600, 10_800, 21_600, 43_200, 86_400, 259_200, 604_800, 2_592_000)
"""From a minute to 30 days."""

BATCH_BUCKETS_S = (60, 300, 900, 1800, 3600, 7200, 14_400, 28_800, 57_600, 86_400)
"""From a minute to the day that a provider takes at most."""

CONFIDENCE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

OTHER = "other"
"""The value that stands for all those of a label which have none of their own."""

LABEL_VALUES = MetricsConfig().label_values

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?P<trace_id>[0-9a-f]{32})-[0-9a-f]{16}-(?P<flags>[0-9a-f]{2})")

_Series = tuple[Counter, Counter, Counter]
"""Replies, their cost and their baseline cost, of one set of labels."""


class BoundedLabel:
    """The values of a label that have series of their own: the first that come. All others are ``OTHER``.

    Who sends a request names its tenant and endpoint, and Prometheus holds every name that it ever saw in memory.
    Safe to share between threads.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def of(self, value: str) -> str:
        """The value itself, or ``OTHER``; the same for the same value as long as the process runs."""
        if value not in self._known:
            with self._lock:
                if len(self._known) < self._limit:
                    self._known.add(value)
        return value if value in self._known else OTHER


def exemplar(traceparent: str | None) -> dict[str, str] | None:
    """What leads from an observation to its trace: the id in a W3C ``traceparent``, where that trace is recorded."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    return {"trace_id": match["trace_id"]} if match and int(match["flags"], 16) & 1 else None


class ReplyMetrics:
    """What is counted of every reply, by the process that wrote it: the same names in the job and in workers.

    The dollars are those of the replies themselves, and an answer that is given again costs nothing: without repeats
    after a failure, the sums here are the sums over all replies. A value that a reply lacks is ``none``.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, label_values: int = LABEL_VALUES) -> None:
        made = ["cache_status", "lane", "tier", "model"]
        self.replies = Counter(
            "forebay_replies_total",
            "Replies, by where the text came from, with errors apart: the outcome is ok or an error's code.",
            [*made, "outcome"],
            registry=registry,
        )
        self.cost = Counter(
            "forebay_reply_cost_dollars_total",
            "US dollars that replies cost, with all generations before the one that answered.",
            made,
            registry=registry,
        )
        self.baseline = Counter(
            "forebay_reply_baseline_dollars_total",
            "US dollars that the largest tier would have cost for the tokens of the same replies.",
            made,
            registry=registry,
        )
        self.tokens = Counter(
            "forebay_reply_tokens_total",
            "Tokens of replies, by kind: prompt, completion; of a reused answer those of its generation.",
            [*made, "kind"],
            registry=registry,
        )
        asked = ["tenant", "endpoint"]
        self.endpoint_replies = Counter(
            "forebay_endpoint_replies_total",
            "Replies by who asked; tenants and endpoints beyond metrics.label_values are `other`.",
            [*asked, "cache_status", "outcome"],
            registry=registry,
        )
        self.endpoint_cost = Counter(
            "forebay_endpoint_cost_dollars_total",
            "US dollars that replies cost, by who asked.",
            asked,
            registry=registry,
        )
        self.endpoint_baseline = Counter(
            "forebay_endpoint_baseline_dollars_total",
            "US dollars that the largest tier would have cost for the same replies, by who asked.",
            asked,
            registry=registry,
        )
        self.latency = Histogram(
            "forebay_reply_latency_seconds",
            "From a request's creation to its reply, for answers; errors are not among them.",
            ["cache_status", "lane", "tier"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.first_token = Histogram(
            "forebay_reply_first_token_seconds",
            "From a request's creation to the first token of its answer, where the model's backend tells it; without"
            " what the answering worker did for it before that generation, such as a first try for JSON.",
            ["lane", "tier"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._tenants = BoundedLabel(label_values)
        self._endpoints = BoundedLabel(label_values)
        # Finding a series by its labels takes longer than counting in it, and an exact hit takes the job little else.
        self._by_source = cache(self._series_by_source)
        self._tokens_by_source = cache(self._token_series_by_source)
        self._by_asker = cache(self._series_by_asker)

    def count(self, reply: Reply, traceparent: str | None = None) -> None:
        """Count one reply; its latency carries the id of its trace as exemplar."""
        outcome = reply.error.code if reply.error else "ok"
        tier = reply.tier or "none"
        tenant, endpoint = self._tenants.of(reply.tenant), self._endpoints.of(reply.endpoint or "none")
        made = (reply.cache_status, reply.lane, tier, reply.model_id or "none")
        prompt, completion = self._tokens_by_source(*made)
        prompt.inc(reply.usage.prompt_tokens)
        completion.inc(reply.usage.completion_tokens)
        source = self._by_source(*made, outcome)
        for replies, cost, baseline in (source, self._by_asker(tenant, endpoint, reply.cache_status, outcome)):
            replies.inc()
            cost.inc(reply.cost)
            baseline.inc(reply.baseline_cost)
        if reply.error is None:
            self._observe(reply, tier, exemplar(traceparent))

    def _observe(self, reply: Reply, tier: str, trace: dict[str, str] | None) -> None:
        latency = reply.latency
        self.latency.labels(reply.cache_status, reply.lane, tier).observe(latency.total_ms / 1000, trace)
        if latency.first_token_ms is not None:
            waited_ms = max(0.0, latency.total_ms - latency.generation_ms) + latency.first_token_ms
            self.first_token.labels(reply.lane, tier).observe(waited_ms / 1000, trace)

    def _series_by_source(self, status: str, lane: str, tier: str, model: str, outcome: str) -> _Series:
        made = (status, lane, tier, model)
        return self.replies.labels(*made, outcome), self.cost.labels(*made), self.baseline.labels(*made)

    def _token_series_by_source(self, *made: str) -> tuple[Counter, Counter]:
        return self.tokens.labels(*made, "prompt"), self.tokens.labels(*made, "completion")

    def _series_by_asker(self, tenant: str, endpoint: str, status: str, outcome: str) -> _Series:
        asked = (tenant, endpoint)
        replies = self.endpoint_replies.labels(*asked, status, outcome)
        return replies, self.endpoint_cost.labels(*asked), self.endpoint_baseline.labels(*asked)


class JobMetrics:
    """What the job counts, in each TaskManager. Counters restart with the process, as Prometheus expects."""

    def __init__(self, registry: CollectorRegistry = REGISTRY, label_values: int = LABEL_VALUES) -> None:
        self.replies = ReplyMetrics(registry, label_values)
        self.requests = Counter(
            "forebay_requests_total", "Requests taken from a request topic.", ["lane"], registry=registry
        )
        self.tasks = Counter(
            "forebay_tasks_total", "Tasks handed to a tier.", ["tier", "lane", "reason"], registry=registry
        )
        self.dead_letters = Counter(
            "forebay_dead_letters_total", "Records given up, by error code.", ["code"], registry=registry
        )
        _begin_at_zero(self.dead_letters)
        self.duplicates = Counter(
            "forebay_duplicate_requests_total", "Requests dropped because their id was seen before.", registry=registry
        )
        self.results = Counter(
            "forebay_results_total",
            "Results of workers, by what became of them: matched, earlier (for its asker alone), repeated, unknown,"
            " invalid.",
            ["outcome"],
            registry=registry,
        )
        self.filled = Counter(
            "forebay_cache_fills_total",
            "Answers offered to the caches, by what became of them: kept, or why not.",
            ["outcome"],
            registry=registry,
        )
        self.invalidations = Counter(
            "forebay_invalidations_total",
            "Commands to invalidate, by what became of them: applied, repeated, unknown, refused.",
            ["outcome"],
            registry=registry,
        )
        for outcome in InvalidationOutcome:
            self.invalidations.labels(outcome)
        self.store_errors = Counter(
            "forebay_store_errors_total",
            "Calls to a store that failed; the request went on without it.",
            ["store"],
            registry=registry,
        )
        self.store_up = Gauge(
            "forebay_store_up", "1 while the store answers, 0 while it is left alone.", ["store"], registry=registry
        )
        self.memory = Gauge(
            "forebay_cache_memory_bytes", "Memory that the exact cache's server uses.", registry=registry
        )
        self.memory_limit = Gauge(
            "forebay_cache_memory_limit_bytes",
            "Memory that it may use before it drops what was used least; 0: no limit.",
            registry=registry,
        )
        self.entries = Gauge("forebay_semantic_entries", "Questions in the index by meaning.", registry=registry)
        self.swept = Counter(
            "forebay_semantic_swept_total",
            "Questions dropped from the index: expired with their answers, evicted for their little worth.",
            ["reason"],
            registry=registry,
        )
        self.similarity = Histogram(
            "forebay_hit_similarity_ratio",
            "Cosine between a question and the one whose answer it was given, for hits by meaning.",
            buckets=SIMILARITY_BUCKETS,
            registry=registry,
        )
        self.reuse_decisions = Counter(
            "forebay_reuse_decisions_total",
            "Requests that a policy decided on by meaning, by what it decided: reused, or why not. Categories without"
            " settings of their own are `default`, here and in all that follows on reuse.",
            ["category", "policy", "verdict"],
            registry=registry,
        )
        self.reuse_charged = Counter(
            "forebay_reuse_charged_errors_total",
            "Wrong answers that reuse by meaning is expected to have given, as its policy charged them.",
            ["category", "policy"],
            registry=registry,
        )
        self.reuse_audits = Counter(
            "forebay_reuse_audits_total",
            "Answers that would have been reused, and were generated to see whether that was right: right, wrong.",
            ["category", "outcome"],
            registry=registry,
        )
        self.reuse_delta = Gauge(
            "forebay_reuse_delta_ratio",
            "Share of requests that reuse may answer wrongly, of each category that is bounded.",
            ["category"],
            registry=registry,
        )
        self.reuse_labels = Counter(
            "forebay_reuse_labels_total",
            "What was found out about known answers, by whom and what: right, wrong, unsure; or not looked at, as"
            " too many waited: sampled_out, forgotten. The judge, or the judging model, compares generated answers with"
            " known ones; others complain about reused ones.",
            ["category", "source", "outcome"],
            registry=registry,
        )
        self.reuse_lessons = Gauge(
            "forebay_reuse_lessons_waiting",
            "Generated answers that wait to be compared with known ones.",
            registry=registry,
        )
        self.reuse_thumbs = Counter(
            "forebay_reuse_thumbs_total",
            "Thumbs on answers, by what became of them in the job: quarantined, counted, taken_back, nothing; waiting"
            " for Redis before that, or dropped as too many waited.",
            ["outcome"],
            registry=registry,
        )
        self.audits = Counter(
            "forebay_audits_total",
            "Generated answers that a second tier was asked for too, by why (tier_above, tier_below, rollout), the tier"
            " that was served, and what came of it: agrees, differs, unsure, failed; skipped: it could not be asked.",
            ["reason", "category", "tier", "outcome"],
            registry=registry,
        )
        self.hit_age = Histogram(
            "forebay_hit_age_seconds",
            "Age of the answers that were given again, for exact hits and hits by meaning.",
            ["cache_status"],
            buckets=AGE_BUCKETS_S,
            registry=registry,
        )
        self.freshness = Counter(
            "forebay_freshness_total",
            "The same hits of categories with an objective (fresh_s), by whether the answer was within or past it.",
            ["category", "age"],
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
        self.router_learned = Gauge(
            "forebay_router_learned",
            "1 while learned weights route the questions that they know; 0 while all are routed by rules, because none"
            " are configured or they do not fit: the job's log says which.",
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
        self.rollout_share = Gauge(
            "forebay_rollout_share_ratio",
            "Share of tenants or users that a live rollout's settings hold for, as this process knows it; 0 in the"
            " shadow stage.",
            ["rollout"],
            registry=registry,
        )


class WorkerMetrics:
    """What a worker counts."""

    def __init__(self, registry: CollectorRegistry = REGISTRY, label_values: int = LABEL_VALUES) -> None:
        self.replies = ReplyMetrics(registry, label_values)
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
        self.model_up = Gauge(
            "forebay_worker_model_up",
            "1 while the model takes generations; 0 while it is left alone or limited, and after its engine died, as"
            " its standbys answer.",
            ["model"],
            registry=registry,
        )
        self.inflight = Gauge("forebay_worker_inflight", "Tasks that are being generated.", registry=registry)
        self.held = Gauge(
            "forebay_worker_held", "Batch generations that rest while interactive ones run.", registry=registry
        )
        self.provider_batch_tasks = Gauge(
            "forebay_worker_provider_batch_tasks",
            "Tasks that wait for a batch of their model's provider to be made (gathered), and for its result (there).",
            ["model", "state"],
            registry=registry,
        )
        self.provider_batches = Counter(
            "forebay_worker_provider_batches_total",
            "A provider's batches, by what became of them: created; found, after their worker had left; and at their"
            " end completed, expired, cancelled, failed. A worker counts those in which it has tasks.",
            ["model", "outcome"],
            registry=registry,
        )
        self.provider_batch_answers = Counter(
            "forebay_worker_provider_batch_answers_total",
            "Tasks that a provider's batch brought to an end: answered; failed, which is an attempt; direct, those that"
            " came back to be called directly at full price.",
            ["model", "outcome"],
            registry=registry,
        )
        self.provider_batch_seconds = Histogram(
            "forebay_worker_provider_batch_seconds",
            "From the making of a provider's batch to its end.",
            ["model"],
            buckets=BATCH_BUCKETS_S,
            registry=registry,
        )
        self.tokens = Counter(
            "forebay_worker_tokens_total",
            "Tokens of generations, of those too whose answer did not go out, by kind: prompt, cached_prompt,"
            " completion.",
            ["tier", "kind"],
            registry=registry,
        )
        self.cost = Counter(
            "forebay_cost_dollars_total",
            "US dollars charged for generations, by the tier that generated; an answer that went on to another tier"
            " counts here when it goes on, and in forebay_reply_cost_dollars_total with the reply. What the job asks"
            " itself, to judge and to audit, counts here alone.",
            ["tier", "lane"],
            registry=registry,
        )
        self.reviews = Counter(
            "forebay_worker_reviews_total",
            "Answers that went out although they are doubtful, because no further tier could be asked.",
            ["tier"],
            registry=registry,
        )
        self.cut_off = Counter(
            "forebay_worker_cut_off_total",
            "Answers that met their limit of tokens before their end.",
            ["tier"],
            registry=registry,
        )
        self.confidence = Histogram(
            "forebay_worker_confidence_ratio",
            "Geometric mean of the probabilities of an answer's tokens, where the model tells them.",
            ["tier"],
            buckets=CONFIDENCE_BUCKETS,
            registry=registry,
        )
        self.lag = Gauge(
            "forebay_worker_lag_records",
            "Tasks in the partitions of this worker that it has not read yet.",
            ["tier", "lane"],
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
            "From the beginning of a generation that answered to its first token, where the model's backend tells it.",
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
        _begin_at_zero(self.dead_letters)


class LedgerMetrics:
    """What the ledger counts."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.replies = Counter(
            "forebay_ledger_replies_total",
            "Replies written to the ledger's files, repeated ones included.",
            registry=registry,
        )
        self.lag = Gauge(
            "forebay_ledger_lag_records",
            "Records of the topics it reads that are not in the ledger yet. Ends of transactions are records too, and"
            " the last one of a partition may stay.",
            registry=registry,
        )
        self.feedback = Counter(
            "forebay_feedback_total",
            "Feedback taken, by verdict (up, down) and by who gave it (user, judge, rule); a user who says something"
            " else later counts again.",
            ["verdict", "source"],
            registry=registry,
        )
        for verdict in Verdict:
            for source in FeedbackSource:
                self.feedback.labels(verdict, source)


class RolloutMetrics:
    """What the controller of rollouts tells."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.guard = Gauge(
            "forebay_rollout_guard_state",
            "What the guards of live rollouts say: 1 holds, 0 not sure yet, -1 broken.",
            ["rollout", "guard"],
            registry=registry,
        )
        self.moves = Counter(
            "forebay_rollout_moves_total",
            "Rollouts that the controller moved: promote, roll_back.",
            ["move"],
            registry=registry,
        )
        for move in ("promote", "roll_back"):
            self.moves.labels(move)


class GatewayMetrics:
    """What a gateway counts. What it was asked and what came of it is in the replies' own metrics."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.calls = Counter(
            "forebay_gateway_calls_total",
            "HTTP calls that were answered, by path as routed (`none` where there is no such path) and by status; of a"
            " stream the status with which it began.",
            ["path", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "forebay_gateway_call_seconds",
            "From a call's headers to the end of its answer, by path as routed.",
            ["path"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.refused = Counter(
            "forebay_gateway_refused_total",
            "Calls that were refused before they were read, by why: key, requests, tokens, spend, uncounted, busy,"
            " too_large, host.",
            ["reason"],
            registry=registry,
        )
        self.inflight = Gauge("forebay_gateway_inflight", "Calls that are being answered.", registry=registry)
        self.left = Counter(
            "forebay_gateway_left_total",
            "Calls whose caller left before the answer was complete, by what became of the request: cancelled, kept"
            " (it had an Idempotency-Key).",
            ["outcome"],
            registry=registry,
        )
        self.restarted = Counter(
            "forebay_gateway_restarted_total",
            "Streams that ended in an error because the answer began anew with another text.",
            registry=registry,
        )
        self.uncounted = Counter(
            "forebay_gateway_uncounted_total",
            "Calls to Redis that failed, by what for: admit, settle, idempotency.",
            ["what"],
            registry=registry,
        )
        self.batches = Counter(
            "forebay_gateway_batches_total",
            "Batches by HTTP that have ended, by how: completed, failed, expired, cancelled.",
            ["status"],
            registry=registry,
        )
        self.batch_failures = Counter(
            "forebay_gateway_batch_failures_total",
            "Times that work on a batch broke off, because Kafka or Redis was away for example; it is tried again.",
            registry=registry,
        )


def _begin_at_zero(by_code: Counter) -> None:
    """Show every code at once: what first appears as 1 has no increase, and an alert would miss it."""
    for code in ErrorCode:
        by_code.labels(code)


def fqnames() -> set[str]:
    """The names under which the metrics above are scraped, histograms with their suffixes."""
    names: set[str] = set()
    for kind in (JobMetrics, WorkerMetrics, LedgerMetrics, RolloutMetrics, GatewayMetrics):
        registry = CollectorRegistry()
        kind(registry)
        for metric in registry.collect():
            suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(metric.type, ("",))
            names |= {metric.name + suffix for suffix in suffixes}
    return names
