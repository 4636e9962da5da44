"""Measure every function beside the floor and the peer, on this machine, without AWS: `make bench`."""

import argparse
import json
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path

import growth
import makeup
import measure
import report
import stackload
import weight
from built import build

RESULTS = Path(__file__).with_name("results")


def main(argv: list[str]) -> int:
    """Measure, tell, compare; keep the result unless it was only a look."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uv", default="uv", help="the uv to install with")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=200, help="warm calls in each round")
    parser.add_argument("--tls", action="store_true", help="AWS and AiTEMS over TLS; starts and calls only, not kept")
    parser.add_argument("--only", nargs="*", default=(), help="these contenders, and the floor; not kept")
    options = parser.parse_args(argv)
    built = build(options.uv)
    names = ("floor", *options.only) if options.only else ()
    measured = measure.rounds(built, options.rounds, options.calls, names, tls=options.tls)
    result: report.Result = {
        "date": datetime.now(UTC).date().isoformat(),
        "python": built.version,
        "rounds": options.rounds,
        "tls": options.tls,
        "contenders": report.numbers(measured),
    }
    if options.tls or options.only:
        print(report.table(result))
        return 0
    result["worker"] = measure.batches(built, options.rounds)
    result["weight"] = weight.weigh(built)
    result["ledger_ms"] = {str(size): took for size, took in growth.ledger().items()}
    result["list"] = {str(size): looked for size, looked in growth.listing().items()}
    result["throughput"] = stackload.throughput()
    first = {name: statistics.median(each.first) * 1000 for name, each in measured.items()}
    result["makeup_ms"] = makeup.look(built, first)
    print(report.table(result))
    latest = RESULTS / "latest.json"
    print(f"\n{report.compared(result, latest)}")
    RESULTS.mkdir(exist_ok=True)
    latest.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    makeup.picture(result["makeup_ms"], RESULTS / "cold-start.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
