"""Ten times what the stack can do: is the rest refused early and told so, and does nothing but the brokers' logs grow?

What limits is the model, as with models that are worth a pipeline: it writes few answers at once.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from forebay_ops.cli.tables import figures_table
from forebay_schemas.errors import ErrorCode
from forebay_schemas.records import CacheStatus, Lane
from rich.table import Table

from .checker import Asked, Key, wrong
from .crowd import Calls, Crowd, unclear
from .phase import Phase, at_share
from .scene import Scene
from .soak import MEMORY_MB, processes
from .usage import Usage

CONCURRENCY = 4
DEADLINE_S = 5.0
TIMES = 10
_THROUGH_GATEWAY = 0.2
"""Of the load; the rest comes from services, which publish."""
_FIRST_RATE_PER_S = 8.0
_STEP = 1.4
_STEP_S = 12.0
_SETTLES_S = 4.0
"""At the beginning of a step nothing is judged: what the step before left is still answered."""
_SUSTAINED = 0.99
"""A rate is sustained where so many interactive requests are answered in time, half of that for 99 of 100."""
_USUAL = 0.5
"""Of the sustainable rate, before and after."""
_USUAL_S = 30.0
_AFTER_S = 75.0
_SPELL_S = 10.0
"""P99 is looked at for so long at a time."""
_BACK_S = 60.0
_BACK_TIMES, _BACK_BESIDES_MS = 1.5, 250.0
"""P99 is back at so many times what it was, and so much besides: for as long as batch tasks that were begun run on."""
_LAST_REPLIES_S = 240.0
_DRAIN_WRITES_S = 0.02
"""What is left of the batch lane is answered by a quicker model, to see that nothing of it is lost."""
_SAMPLE_S = 2.0
_LATE_MS = 2_000.0
_HARDLY_ANY = 0.005
_LOAD = "overload"
_GENERATING = (CacheStatus.MISS, CacheStatus.BYPASS)


@dataclass
class Peak:
    """What a process took, in MB.

    Attributes:
        before: ahead of the load.
        early: most in its first half, and ``peak`` in all of it.
    """

    before: float
    early: float = 0.0
    peak: float = 0.0
    after: float = 0.0
    most: float | None = None
    """What it may take, where that is set; else it may take no more in the second half than in the first."""

    @property
    def may_be(self) -> float:
        """What it may take at most."""
        return MEMORY_MB.most(self.early) if self.most is None else self.most


@dataclass
class Overload:
    """All that was seen."""

    sustained_per_s: float
    phases: list[Phase] = field(default_factory=list)
    calls: list[Calls] = field(default_factory=list)
    """Those of the gateway, by the same phases."""
    memory: dict[str, Peak] = field(default_factory=dict)
    cores: dict[str, float] = field(default_factory=dict)
    """By process, the processors that it used during the load."""
    generated: int = 0
    """Answers that the model began during the load, and ``useful``: those that it ended then, in time."""
    useful: int = 0
    back_after_s: float = math.inf
    """From the end of the load on."""
    lost: list[Key] = field(default_factory=list)
    repeated: list[Key] = field(default_factory=list)
    wrong: list[Key] = field(default_factory=list)

    @property
    def load(self) -> Phase:
        """The phase of ten times as much."""
        return next(one for one in self.phases if one.name == _LOAD)


@dataclass(frozen=True)
class _Offering:
    """Who asks: services, and a crowd at the gateway."""

    scene: Scene
    crowd: Crowd
    say: Callable[[str], object]

    def for_(self, name: str, rate_per_s: float, seconds: float) -> tuple[str, float, float]:
        """Have so much offered for so long; its name, beginning and end."""
        self.say(f"{name}: {rate_per_s:.0f} requests a second for {seconds:.0f} s")
        self.crowd.rate_per_s = rate_per_s * _THROUGH_GATEWAY
        self.scene.load.offer(rate_per_s * (1 - _THROUGH_GATEWAY))
        began_ms = time.time() * 1000
        time.sleep(seconds)
        return name, began_ms, time.time() * 1000


def overload(scene: Scene, minutes: float, say: Callable[[str], object]) -> Overload:
    """Find the rate that is sustained, offer ten times as much for so long, and half of it again."""
    with Crowd(scene.around.gateway_port, DEADLINE_S) as crowd:
        return _overload(_Offering(scene, crowd, say), minutes)


def _overload(offered: _Offering, minutes: float) -> Overload:
    scene, say = offered.scene, offered.say
    sustained = _sustained_rate(offered)
    seen = Overload(sustained)
    usual = sustained * _USUAL
    watched = {name: Usage(pid) for name, pid in processes(scene).items()}
    before = offered.for_("before", usual, _USUAL_S)
    seen.memory = {name: Peak(usage.memory) for name, usage in watched.items()}
    living = {name: Peak(heap) for name, usage in watched.items() if (heap := usage.living) is not None}
    begun, used_s, began_s = scene.model.asked, _used_s(watched), time.monotonic()
    with _sampled(watched, seen.memory) as half_over:
        load = offered.for_(_LOAD, sustained * TIMES, minutes * 30)
        half_over()
        rest = offered.for_(_LOAD, sustained * TIMES, minutes * 30)
    load = (load[0], load[1], rest[2])
    seen.generated = scene.model.asked - begun
    took_s = time.monotonic() - began_s
    seen.cores = {name: (now_s - used_s[name]) / took_s for name, now_s in _used_s(watched).items()}
    after = offered.for_("after", usual, _AFTER_S)
    for name, usage in watched.items():
        seen.memory[name].after = usage.memory
    for name, peak in living.items():
        peak.after = watched[name].living or 0.0
        peak.peak = max(peak.before, peak.after)
        peak.most = MEMORY_MB.most(peak.before)
        seen.memory[f"{name}: lives in the heap"] = peak
    redis = scene.redis.info("memory")
    seen.memory["redis"].most = redis["maxmemory"] / 1e6 * 1.25  # its allocator keeps some of what it had
    say("waiting for the last replies")
    scene.model.writes_s = _DRAIN_WRITES_S
    offered.crowd.stop()
    scene.load.pause()  # the services stay: who leaves gives up what comes later
    end_s = time.monotonic() + _LAST_REPLIES_S
    while (left := len(scene.checker.in_flight())) and time.monotonic() < end_s:
        say(f"{left} replies to come")
        time.sleep(1)
    scene.load.stop()
    requests = scene.checker.requests()
    seen.phases = [Phase.of(*one, requests.values()) for one in (before, load, after)]
    seen.calls = [offered.crowd.between(*one) for one in (before, load, after)]
    seen.useful = sum(_useful(one, seen.load) for one in requests.values())
    seen.back_after_s = _back_after_s(seen.phases[0], after[1], after[2], requests.values())
    killed = scene.checker.killed
    seen.lost = [key for key, asked in requests.items() if asked.lost(killed)]
    seen.repeated = [key for key, asked in requests.items() if asked.repeated]
    seen.wrong = [key for key in requests if wrong(key, requests)]
    return seen


def _sustained_rate(offered: _Offering) -> float:
    """The highest of rising rates, a second, at which requests are answered in time."""
    rate, held = _FIRST_RATE_PER_S, 0.0
    while True:
        name, began_ms, ended_ms = offered.for_(f"{rate:.0f} a second", rate, _STEP_S)
        time.sleep(DEADLINE_S)  # until the last of them is answered or late
        step = Phase.of(name, began_ms + _SETTLES_S * 1000, ended_ms, offered.scene.checker.requests().values())
        quick = step.wait_ms(Lane.INTERACTIVE, 0.99) <= DEADLINE_S * 500
        if step.share_in_time(Lane.INTERACTIVE) < _SUSTAINED or not quick:
            assert held, f"not even {rate:g} requests a second are answered in time"
            return held
        held, rate = step.rate_per_s, rate * _STEP


def _used_s(watched: dict[str, Usage]) -> dict[str, float]:
    """The seconds of processors that each used until now, and this process."""
    return {name: usage.processor_s for name, usage in watched.items()} | {"model and checker": time.process_time()}


@contextmanager
def _sampled(watched: dict[str, Usage], peaks: dict[str, Peak]) -> Iterator[Callable[[], None]]:
    """Look at each process's memory now and then; what is given is to be called when half of the time is over."""
    over, half = threading.Event(), threading.Event()

    def look() -> None:
        while not over.wait(_SAMPLE_S):
            for name, usage in watched.items():
                memory, peak = usage.memory, peaks[name]
                peak.peak = max(peak.peak, memory)
                if not half.is_set():
                    peak.early = peak.peak

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield half.set
    finally:
        over.set()
        looking.join()


def _useful(asked: Asked, load: Phase) -> bool:
    """Whether the model answered a request during the load, and somebody still waited for that."""
    for reply in asked.committed[:1]:
        if reply.cache_status in _GENERATING and reply.error is None:
            in_time = asked.deadline_ms is None or reply.completed_ms <= asked.deadline_ms
            return in_time and load.began_ms <= reply.completed_ms < load.ended_ms
    return False


def _back_after_s(before: Phase, ended_ms: float, until_ms: float, requests: Collection[Asked]) -> float:
    """How long after the load the slowest interactive answers are as quick as before, for good."""
    limit_ms = before.wait_ms(Lane.INTERACTIVE, 0.99) * _BACK_TIMES + _BACK_BESIDES_MS
    back_s, begins_ms = 0.0, ended_ms
    while begins_ms + _SPELL_S * 1000 <= until_ms:
        ends_ms = begins_ms + _SPELL_S * 1000
        spell = Phase.of("", begins_ms, ends_ms, requests)
        well = spell.share_in_time(Lane.INTERACTIVE) >= _SUSTAINED
        if not well or spell.wait_ms(Lane.INTERACTIVE, 0.99) > limit_ms:
            back_s = (ends_ms - ended_ms) / 1000
        begins_ms = ends_ms
    return back_s


@dataclass(frozen=True)
class Goal:
    """Something that has to hold."""

    what: str
    found: str
    wanted: str
    held: bool


def goals(seen: Overload) -> list[Goal]:
    """What has to hold, and whether it did."""
    before, load = seen.phases[0], seen.load
    quick = len(load.in_time(Lane.INTERACTIVE)) / load.seconds
    usual = len(before.in_time(Lane.INTERACTIVE)) / before.seconds
    batch = sum(bool(one.committed) for one in load.in_time(Lane.BATCH))
    answered = batch + len(load.in_time(Lane.INTERACTIVE))
    wasted = 1 - seen.useful / max(1, seen.generated)
    late_ms = load.told_after_deadline_ms(0.99)
    other = sum(count for code, count in load.errors.items() if code != ErrorCode.DEADLINE_EXCEEDED)
    misled = sum(one.right is False for calls in seen.calls for one in calls.all)
    amiss = {"lost": len(seen.lost), "repeated": len(seen.repeated), "wrong": len(seen.wrong) + misled}
    confused = Counter(told for calls in seen.calls for told in unclear(calls.all))
    grown = [name for name, one in seen.memory.items() if max(one.peak, one.after) > one.may_be]
    return [
        Goal("interactive answers in time, a second", f"{quick:.1f}", f">= {usual:.1f}, as before", quick >= usual),
        Goal("of the answers, on the batch lane", f"{batch / max(1, answered):.1%}", "<= 10%", batch <= answered / 10),
        Goal("of what the model wrote, for nobody", f"{wasted:.1%}", "<= 10%", wasted <= 0.1),
        Goal("refused with another code than deadline_exceeded", str(other), "0", other == 0),
        Goal(
            "a refusal comes after the deadline (P99)",
            f"{late_ms:.0f} ms",
            f"<= {_LATE_MS:.0f} ms",
            late_ms <= _LATE_MS,
        ),
        Goal(
            "calls of the gateway with neither an answer nor a clear error",
            ", ".join(f"{count} {told}" for told, count in confused.items()) or "none",
            "none",
            not confused,
        ),
        Goal(
            "lost, repeated or wrong",
            ", ".join(f"{count} {how}" for how, count in amiss.items() if count) or "none",
            "none",
            not any(amiss.values()),
        ),
        Goal(
            "P99 of interactive answers is back after",
            f"{seen.back_after_s:.0f} s",
            f"<= {_BACK_S:.0f} s",
            seen.back_after_s <= _BACK_S,
        ),
        Goal("memory grows on", ", ".join(grown) or "nowhere", "nowhere", not grown),
    ]


def tables(seen: Overload, found: list[Goal]) -> list[Table]:
    """All that is to be shown."""
    return [_phases(seen), _calls(seen), _refusals(seen), _cores(seen), _memory(seen), _goals(found)]


def _phases(seen: Overload) -> Table:
    """A line for each phase and lane."""
    shown = figures_table("requests", "a second", "asked", "in time", "P50", "P99", "refused")
    for phase in seen.phases:
        for lane in Lane:
            asked = phase.asked(lane)
            refused = sum(bool(one.errors) for one in asked)
            waits = (f"{phase.wait_ms(lane, share) / 1000:.2f} s" for share in (0.5, 0.99))
            shown.add_row(
                f"{phase.name}, {lane}",
                f"{len(asked) / phase.seconds:.1f}",
                str(len(asked)),
                f"{phase.share_in_time(lane):.1%}",
                *waits,
                str(refused),
            )
    return shown


def _calls(seen: Overload) -> Table:
    """A line for each phase: what callers of the gateway were told."""
    shown = figures_table("calls of the gateway", "made", "answered", "P50", "P99", "told")
    for calls in seen.calls:
        told = Counter(one.told for one in calls.all)
        shown.add_row(
            calls.name,
            str(len(calls.all)),
            str(len(calls.with_answer())),
            *(f"{calls.took_ms(share) / 1000:.2f} s" for share in (0.5, 0.99)),
            ", ".join(f"{count} {what}" for what, count in told.most_common()),
        )
    return shown


def _refusals(seen: Overload) -> Table:
    """A line for each reason that requests of the load were refused for."""
    shown = figures_table("refused, because", "requests", "after its deadline: P50", "P99")
    for why, late_ms in sorted(seen.load.refusals.items(), key=lambda item: -len(item[1])):
        times = (f"{at_share(late_ms, share) / 1000:.2f} s" for share in (0.5, 0.99))
        shown.add_row(why, str(len(late_ms)), *times)
    return shown


def _cores(seen: Overload) -> Table:
    """A line for each process that used more than next to nothing of a processor during the load."""
    shown = figures_table("of the processors, during the load", "cores")
    for name, cores in sorted(seen.cores.items(), key=lambda item: -item[1]):
        if cores >= _HARDLY_ANY:
            shown.add_row(name, f"{cores:.2f}")
    return shown


def _memory(seen: Overload) -> Table:
    """A line for each process, and for each heap."""
    shown = figures_table("memory, MB", "before", "most, first half", "most", "after", "may be")
    for name, one in seen.memory.items():
        early = f"{one.early:.1f}" if one.early else ""
        shown.add_row(name, f"{one.before:.1f}", early, *(f"{size:.1f}" for size in (one.peak, one.after, one.may_be)))
    return shown


def _goals(found: list[Goal]) -> Table:
    """A line for each goal."""
    shown = figures_table("goal", "found", "wanted", "")
    for one in found:
        shown.add_row(one.what, one.found, one.wanted, "held" if one.held else "MISSED")
    return shown
