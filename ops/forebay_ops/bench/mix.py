"""All paths at once: a public trace's arrivals, compressed, ask labelled texts of the whole pipeline."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from forebay_schemas.config import Config, load_config
from forebay_schemas.sections import SemanticConfig

from ..local.effective import free_ports, port_is_free
from ..traces.pacing import sampled
from ..traces.reading import read_trace
from .harness import Bench, Say
from .process import Process
from .rig import Rig, category, rig

RATE_PER_S = 30.0
REQUESTS = 1_500
_SEED = 1
CLAIMED = {"small": 0.62, "medium": 0.28, "large": 0.10}
"""What share of the generated answers each tier was said to give."""
_STATUSES = ("exact", "semantic", "joined", "miss")
_LATENCIES_MS = {"small": 300.0, "medium": 600.0, "large": 1_200.0}
"""Of an answer of average length."""


@contextmanager
def bench(trace: Path, texts: list[Path], server: SemanticConfig | None, say: Say) -> Iterator[Bench]:
    """The same requests in every round, each time with empty caches.

    Args:
        trace: of arrivals, as ``forebay replay`` reads it.
        texts: files of labelled texts that are asked, some often and most seldom.
        server: see ``rig``.
    """
    with rig(say, also=("redis", "flink"), server=server) as it:
        url = _knowing(it, texts)
        config = it.installation(**ladder(url))
        worker = it.worker(config)
        config = it.job(config)
        mix = Mix(it, config, worker, trace, texts)
        facts: dict[str, str | float] = {
            "requests": f"{REQUESTS:,} drawn from all of {trace.name}, {RATE_PER_S:g} a second on average",
            "index": it.index,
            "claimed shares of the tiers": " / ".join(f"{share:.0%}" for share in CLAIMED.values()),
        }
        yield Bench({"mix": mix.measure}, facts=facts, processes=it.processes)


def _knowing(it: Rig, texts: list[Path]) -> str:
    """The address of what answers each text rightly."""
    (port,) = free_ports(1)
    latencies_ms = {tier.model: _LATENCIES_MS[name] for name, tier in load_config().tiers.items()}
    given = [str(port), msgspec.json.encode(latencies_ms).decode(), *(str(file.resolve()) for file in texts)]
    knowing = it.process("knowing", [sys.executable, "-m", "forebay_ops.bench.knowing", *given])
    knowing.wait_until(lambda: not port_is_free(port))
    return f"http://localhost:{port}/v1"


def ladder(url: str) -> dict[str, Any]:
    """Three tiers at the list prices that hold without a configuration, all behind one endpoint."""
    known = load_config()
    models = {
        tier.model: {
            "price": known.models[tier.model].price.model_dump(exclude_none=True),
            "backend": "openai",
            "endpoint": {"url": url},
        }
        for tier in known.tiers.values()
    }
    tiers = {
        name: {"complexity_up_to": tier.complexity_up_to, "model": tier.model, "max_tokens": tier.max_tokens}
        for name, tier in known.tiers.items()
    }
    return {"models": models, "tiers": tiers, "categories": {"default": category(judge={"by": "text"})}}


class Mix:
    """The replay of one trace, over and over."""

    def __init__(self, it: Rig, config: Config, worker: Process, trace: Path, texts: list[Path]) -> None:
        self._it = it
        self._config = it.write(config)
        self._processes = {**it.servers, "worker": worker}
        played = it.new_file("jsonl")
        with trace.open("rb") as recorded:
            played.write_bytes(b"".join(one.line() for one in sampled(read_trace(recorded), REQUESTS, _SEED)))
        self._command = [
            sys.executable, "-m", "forebay_ops.cli", "replay", str(played), "--order", "popular",
            "--rate", str(RATE_PER_S),
            *(word for file in texts for word in ("--texts", str(file.resolve()))),
        ]  # fmt: skip

    def measure(self) -> dict[str, float]:
        """Latencies by cache status and tier, what each saved or cost, and processor time by process."""
        used_s = {name: process.cpu_s() for name, process in self._processes.items()}
        file = self._it.new_file("json")
        command = [*self._command, "--json", str(file)]
        replay = self._it.process("replay", command, {"FOREBAY_CONFIG": str(self._config)})
        if replay.popen.wait():
            raise replay.failed("did not get an answer to every request")
        figures = _figures(msgspec.json.decode(file.read_bytes())["replay"])
        for name, process in self._processes.items():
            figures[f"{name}_cpu_ms"] = (process.cpu_s() - used_s[name]) * 1000 / REQUESTS
        return figures


def _figures(account: Mapping[str, Any]) -> dict[str, float]:
    report = account["report"]
    totals = report["totals"]
    figures = {"late_p99_ms": account["late_p99_ms"]}
    for kind in ("exact", "semantic", "joined", "generated"):
        figures[f"{kind}_share"] = totals[kind] / totals["replies"]
    figures["wrong_share"] = sum(one["wrong"] for one in account["reuse"]) / totals["replies"]
    by_status = {one["name"]: one for one in report["by_status"]}
    for name in _STATUSES:
        figures |= _latencies(name, by_status)
    for kind in ("exact", "semantic", "joined", "routing"):
        figures[f"{kind}_saved_usd"] = totals[f"saved_{kind}"]
    by_tier = {group["key"][0]: group["sums"] for group in report["tiers"]["groups"]}
    by_model = {one["name"]: one for one in report["by_model"]}
    for tier, settings in load_config().tiers.items():
        sums = by_tier.get(tier, {"replies": 0, "cost": 0.0})
        figures[f"{tier}_share"] = sums["replies"] / max(1, totals["generated"])
        figures[f"{tier}_usd"] = sums["cost"]
        figures |= _latencies(tier, {tier: by_model[settings.model]} if settings.model in by_model else {})
    return figures | {"usd": totals["cost"], "saved_share": 1 - totals["cost"] / totals["baseline_cost"]}


def _latencies(name: str, found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Of those that answered alike; 0 where none did."""
    return {f"{name}_{share}_ms": found.get(name, {}).get(f"{share}_ms", 0.0) for share in ("p50", "p95", "p99")}
