"""The result as numbers to keep, as a table beside the goals, and beside the last one kept."""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import Measured, percentile

Result = dict[str, Any]

_MILLI = 1000


def numbers(measured: dict[str, Measured]) -> Result:
    """Return medians in milliseconds and MB of every contender."""
    return {
        name: {
            "first_ms": round(statistics.median(each.first) * _MILLI, 1),
            "first_processor_ms": round(statistics.median(each.first_processor) * _MILLI, 1),
            "warm_p50_ms": round(statistics.median(each.warm) * _MILLI, 2),
            "warm_p99_ms": round(percentile(each.warm, 0.99) * _MILLI, 2),
            "warm_processor_ms": round(statistics.median(each.warm_processor) * _MILLI, 2),
            "peak_mb": round(statistics.median(each.memory), 1),
            "round_trips_first": each.round_trips_first,
            "round_trips": each.round_trips,
        }
        for name, each in measured.items()
    }


@dataclass(frozen=True, slots=True)
class Line:
    """One goal: what was measured, in which unit, and how much it may be at most."""

    what: str
    measured: float
    goal: float
    unit: str = "×"

    def __str__(self) -> str:
        met = "met" if self.measured <= self.goal else "MISSED"
        return f"{self.what:<58} {self.measured:6.2f} {self.unit:<2}  ≤ {self.goal:4.2f} {self.unit:<2}  {met}"


def lines(result: Result) -> list[Line]:
    """Return the goals beside what was measured; ratios are to the floor of the same run."""
    each, floor = result["contenders"], result["contenders"]["floor"]

    def ratio(name: str, of: str) -> float:
        return float(each[name][of] / floor[of])

    relayed = each["relay"]["round_trips"]
    grown = result["ledger_ms"]["10000"] / result["ledger_ms"]["1"]
    return [
        Line("webhook, init + first call", ratio("webhook", "first_ms"), 1.2),
        Line("webhook, init + first call, processor time", ratio("webhook", "first_processor_ms"), 1.2),
        Line("webhook, warm p50", ratio("webhook", "warm_p50_ms"), 1.4),
        Line("webhook, warm call, processor time", ratio("webhook", "warm_processor_ms"), 1.4),
        Line("webhook, warm p99", ratio("webhook", "warm_p99_ms"), 1.6),
        Line("acknowledgement, init + first call", ratio("acknowledgement", "first_ms"), 1.0),
        Line("acknowledgement, init + first call, processor time", ratio("acknowledgement", "first_processor_ms"), 1.0),
        *(
            [Line("Slack command acknowledged, init + first call", each["chat"]["first_ms"] / 1000, 3.0, "s")]
            if "chat" in each
            else []
        ),
        Line("relay, init + first batch", ratio("relay", "first_ms"), 0.9),
        Line("relay, init + first call, processor time", ratio("relay", "first_processor_ms"), 0.9),
        Line("webhook, peak memory", ratio("webhook", "peak_mb"), 1.3),
        Line("worker, a batch of 10 to ten single calls", result["worker"]["batch"] / result["worker"]["singles"], 0.5),
        Line("relay, PutEvents and SendMessageBatch for 5 + 5 records", sum(relayed.values()), 2, "calls"),
        Line("webhook's artefact, zipped", result["weight"]["webhook"]["all"], 8, "MB"),
        Line("ledger, a request after 10,000 to one after 1", grown, 1.2),
        Line("list, calls of one look at 5,000 services", result["list"]["5000"]["calls"], 7, "calls"),
    ]


def table(result: Result) -> str:
    """Return what a person reads."""
    floor = result["contenders"]["floor"]
    told = [f"Python {result['python']}, {result['rounds']} rounds{', over TLS' if result['tls'] else ''}", ""]
    told.append(f"{'':<16}{'first, ms':>18}{'processor':>18}{'warm p50, ms':>18}{'p99':>18}{'peak, MB':>18}")
    columns = ("first_ms", "first_processor_ms", "warm_p50_ms", "warm_p99_ms", "peak_mb")
    for name, each in result["contenders"].items():
        cells = "".join(f"{each[column]:10.1f} {each[column] / floor[column]:5.2f}×" + " " for column in columns)
        told.append(f"{name:<16}{cells}")
    if "worker" in result:
        told += ["", *map(str, lines(result))]
        load = result["throughput"]
        told.append(f"\nlocal stack: {load['announced_per_second']} requests a second, answered and announced")
    return "\n".join(told)


def compared(result: Result, last: Path) -> str:
    """Return what became better or worse since the result kept in ``last``, by more than a twentieth."""
    if not last.exists():
        return "There is no earlier result to compare with."
    before = {line.what: line for line in lines(json.loads(last.read_text(encoding="utf-8")))}
    changed = []
    for line in lines(result):
        old = before.get(line.what)
        if old and old.measured and abs(line.measured / old.measured - 1) > 0.05:
            way = "better" if line.measured < old.measured else "WORSE"
            changed.append(f"{way:<7} {line.what}: {old.measured:.2f} → {line.measured:.2f} {line.unit}")
    return "\n".join(changed) or "As the last result kept, within a twentieth."
