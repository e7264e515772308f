"""Traffic from a trace of requests: what they ask, which questions are near each other, and how hard they are."""

import sys
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from forebay_jobs import embedding
from forebay_jobs.caches.answers import owner_of
from forebay_jobs.embedding import version_of
from forebay_jobs.reuse import eligibility, recogniser
from forebay_jobs.reuse.eligibility import Reuse, nature_of
from forebay_jobs.reuse.lifetime import lot_of
from forebay_jobs.router import features, grams, learned, rules, worth
from forebay_jobs.router import router as router_module
from forebay_jobs.router.features import features_of
from forebay_jobs.router.router import Router
from forebay_jobs.router.tasks import task_of
from forebay_schemas import canonical
from forebay_schemas.canonical import all_messages, category_of, digests, question_of
from forebay_schemas.config import Config
from forebay_schemas.errors import RecordError
from forebay_schemas.records import CachePolicy, Request
from forebay_schemas.validation import validate

from ..replay.run import Run, UnusableArrival
from ..traces import reading
from ..traces.arrivals import Arrival
from ..traces.reading import TraceError, read_trace
from . import nearness
from .decisions import terms_of
from .nearness import Embeds, Told, Vectors, embedded, neighbours_of
from .stash import Arrays, Stash, digest_of
from .traffic import COMPLETION, UNKNOWN, Case, Ints, Kind, Neighbours, Traffic

_ROUTES = (features, rules, grams, learned, worth, router_module)
_DECIDES = (canonical, eligibility, recogniser, embedding, reading, nearness, *_ROUTES)
_CHARS_PER_TOKEN = 4
"""Of English prose under the usual byte-pair vocabularies; for prompts whose tokens nobody counted."""
_TOLD_EVERY = 1_000


def read_traffic(
    file: Path, config: Config, tenant: str, answer_tokens: int, load: Callable[[], Embeds], told: Told
) -> tuple[Traffic, int]:
    """The requests of a trace, and of how many answers it does not tell the tokens.

    What takes long is kept beside the file: the vectors under a digest of the texts and the model, all else under one
    of the trace, the model and the rules.

    Args:
        tenant: whose requests they are, where a line does not say.
        answer_tokens: of such an answer.
        load: loads the model of the configuration; called where questions have to be embedded.

    Raises:
        TraceError, LineError: the file is no trace.
        UnusableArrival: a request could not be sent.
        OSError: nothing can be written beside it.
    """
    stash = Stash(file)
    weights = Path(recogniser.__file__).with_suffix(".json")
    router = Router(config)
    settings = (tenant, config.embedding.model, router.identity, config.router.model_dump_json(include={"tasks"}))
    digest = digest_of((file, *settings, sys.modules[__name__], weights, *_DECIDES))
    arrays = stash.load("traffic", digest)
    if arrays is None:
        reader = _Reader(config, tenant, router)
        with file.open("rb") as lines:
            for arrival in read_trace(lines):
                reader.take(arrival)
                if reader.rows % _TOLD_EVERY == 0:
                    told(f"{reader.rows:,} requests read")
        texts = reader.texts
        vectors = embedded(texts, load, stash.file("vectors", digest_of((config.embedding.model, *texts))), told)
        arrays = reader.arrays(
            neighbours_of(*reader.compared, vectors, told), _timely(reader.compared[1], vectors, config), vectors
        )
        stash.save("traffic", digest, arrays)
    return _traffic(arrays, answer_tokens)


class _Reader:
    """Takes arrivals one after the other, and asks the job's rules about each question once."""

    def __init__(self, config: Config, tenant: str, router: Router) -> None:
        self.rows = 0
        self._config = config
        self._router = router
        self._tenant = tenant
        self._run = Run("simulated", warm=True)
        self._at_ms, self._question, self._kind, self._label = array("q"), array("q"), array("q"), array("q")
        self._chars, self._tokens, self._complete = array("q"), array("q"), array("b")
        self._right: dict[str, array[int]] = {}
        self._questions: dict[str, int] = {}
        self._features: list[dict[str, float]] = []  # of each question
        self._natures: dict[tuple[int, bool], Reuse] = {}  # of each question, with a time to live of its own or not
        self._context, self._text = array("q"), array("q")
        self._contexts: dict[str | None, int] = {}
        self._texts: dict[str, int] = {}
        self._labels: dict[str, int] = {}
        self._kinds: dict[Kind, int] = {}

    def take(self, arrival: Arrival) -> None:
        """Note a request."""
        self.rows += 1
        if not arrival.asks:
            raise TraceError(
                f"request {self.rows} of the trace asks nothing; `forebay replay TRACE --texts FILE --dry-run --write"
                " NEW` writes one with texts"
            )
        request = self._request(arrival)
        keys = digests(request)
        question = self._questions.setdefault(keys.exact, len(self._questions))
        if question == len(self._features):
            self._learn(request, keys.context)
        nature = self._nature(question, request)
        kind = Kind(
            category=category_of(request),
            owner=owner_of(request),
            tenant=request.tenant,
            lane=request.lane,
            policy=request.cache.policy,
            nature=nature,
            temperature=request.temperature,
            ttl_s=request.cache.ttl_s,
            min_tier=request.min_tier,
            max_tier=request.max_tier,
            task_tier=task[1] if (task := task_of(request, self._config)) else None,
        )
        self._at_ms.append(round(arrival.at_ms))
        self._question.append(question)
        self._kind.append(self._kinds.setdefault(kind, len(self._kinds)))
        self._label.append(
            UNKNOWN if arrival.label is None else self._labels.setdefault(arrival.label, len(self._labels))
        )
        self._count(request, arrival)
        for tier, right in (arrival.right or {}).items():
            known = self._right.setdefault(tier, array("b"))
            known.extend([UNKNOWN] * (self.rows - 1 - len(known)))
            known.append(right)

    def _request(self, arrival: Arrival) -> Request:
        try:
            request, _ = self._run.request(self.rows, arrival.with_defaults({"tenant": self._tenant}))
            validate(request, self._config)
        except RecordError as error:
            raise UnusableArrival(f"request {self.rows} of the trace: {error}") from None
        return request

    def _learn(self, request: Request, context: str | None) -> None:
        """What the rules say of a question that is asked for the first time."""
        self._features.append(features_of(request))
        self._context.append(self._contexts.setdefault(context, len(self._contexts)))
        text = question_of(request) if self._nature(len(self._context) - 1, request) is Reuse.SEMANTIC else None
        self._text.append(UNKNOWN if text is None else self._texts.setdefault(text, len(self._texts)))

    def _nature(self, question: int, request: Request) -> Reuse:
        which = question, request.cache.ttl_s is not None
        nature = self._natures.get(which)
        if nature is None:
            nature = self._natures[which] = nature_of(request)
        return nature

    def _count(self, request: Request, arrival: Arrival) -> None:
        prompt, completion = arrival.prompt_tokens, arrival.completion_tokens
        chars = sum(len(turn.content or "") for turn in all_messages(request)) + sum(map(len, request.passages))
        self._chars.append(chars)
        if prompt is None:
            prompt = max(1, chars // _CHARS_PER_TOKEN)
        most = completion if request.max_tokens is None else request.max_tokens
        told = UNKNOWN if completion is None or most is None else min(completion, most)
        self._tokens.extend((prompt, told, 0, 0))
        self._complete.append(completion is None or told == completion)

    @property
    def texts(self) -> list[str]:
        """What is compared by meaning."""
        return list(self._texts)

    @property
    def compared(self) -> tuple[Ints, Ints]:
        """Of each question its context, and its place among the texts; ``UNKNOWN`` where it is not compared."""
        return np.array(self._context, np.int64), np.array(self._text, np.int64)

    def arrays(self, near: Neighbours, timely: npt.NDArray[np.bool_], vectors: Vectors) -> Arrays:
        """All of it, as it is kept."""
        cases: dict[Case, int] = {}
        case = [cases.setdefault(each, len(cases)) for each in self._cases(timely, vectors)]
        right = [[*column, *[UNKNOWN] * (self.rows - len(column))] for column in self._right.values()]
        texts = [*self._texts, ""]
        told = {
            "kinds": list(self._kinds),
            "cases": list(cases),
            "tiers": list(self._right),
            "words": [texts[text] for text in self._text],  # the last where it is not compared
        }
        return {
            "told": np.frombuffer(msgspec.json.encode(told), np.uint8),
            "at_ms": np.array(self._at_ms),
            "question": np.array(self._question),
            "case": np.array(case),
            "timely": timely,
            "lots": np.array([lot_of(digest) for digest in self._questions]),
            "label": np.array(self._label),
            "chars": np.array(self._chars),
            "tokens": np.array(self._tokens).reshape(-1, 4),
            "complete": np.array(self._complete, dtype=bool),
            "right": np.array(right, dtype=np.int8),
            "starts": near.starts,
            "near": near.near,
            "cosines": near.cosines,
        }

    def _cases(self, timely: npt.NDArray[np.bool_], vectors: Vectors) -> Iterator[Case]:
        """Of each request how hard the router takes it to be."""
        texts, kinds = self.texts, list(self._kinds)
        chances: list[dict[str, float] | None] = []
        for found, text, for_now in zip(self._features, self._text, timely.tolist(), strict=True):
            # The desk hands on no vector of what it holds back for its time, and there is none of what is not embedded.
            vector = None if text == UNKNOWN or for_now or not vectors[text].any() else vectors[text]
            chances.append(self._router.chances(texts[text], found, vector) if vector is not None else None)
        # Weights route what wishes to pass the caches as they would without that wish.
        compared = [terms_of(replace(kind, policy=CachePolicy.USE), self._config).learns for kind in kinds]
        for question, kind in zip(self._question, self._kind, strict=True):
            known = chances[question] if compared[kind] else None
            score = (
                rules.score(self._features[question])
                if known is None
                else self._router.score(known, kinds[kind].category)
            )
            yield Case(kind, score.complexity, score.recognised)


def _timely(text: Ints, vectors: Vectors, config: Config) -> npt.NDArray[np.bool_]:
    """Of each question whether its meaning says that the answer depends on the time."""
    found = recogniser.shipped_recogniser(version_of(config.embedding))
    if found is None or vectors.shape[1] != len(found.weights):  # none were compared, or not by that model
        return np.zeros(len(text), dtype=bool)
    return found.time_sensitive(vectors)[text] & (text >= 0)


class _Told(msgspec.Struct):
    """What of the traffic is no array."""

    kinds: list[Kind]
    cases: list[Case]
    tiers: list[str]
    words: list[str]


def _traffic(arrays: Arrays, answer_tokens: int) -> tuple[Traffic, int]:
    told = msgspec.json.decode(arrays["told"].tobytes(), type=_Told)
    untold = arrays["tokens"] == UNKNOWN
    tokens = np.where(untold, answer_tokens, arrays["tokens"])
    traffic = Traffic(
        at_ms=arrays["at_ms"],
        question=arrays["question"],
        case=arrays["case"],
        kinds=told.kinds,
        cases=told.cases,
        chars=arrays["chars"],
        tokens=tokens,
        told=~untold[:, COMPLETION],
        complete=arrays["complete"],
        neighbours=Neighbours(arrays["starts"], arrays["near"], arrays["cosines"]),
        words=told.words,
        lots=arrays["lots"].tolist(),
        timely=arrays["timely"],
        label=arrays["label"],
        right=dict(zip(told.tiers, arrays["right"], strict=True)),
        warm={},
    )
    return traffic, int(untold.sum())
