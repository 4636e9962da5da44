"""What a cold start is made of: each contender's imports by whose they are, and the rest, as a picture."""

import re
import statistics
import subprocess
import time
from html import escape
from pathlib import Path

from built import Built
from measure import CONTENDERS, canned, start

SHOWN = ("hello", "floor", "relay", "acknowledgement", "webhook", "peer")
_PARTS = (
    ("the interpreter, and awslambdaric", ("awslambdaric", "runtime_client", "simplejson", "snapshot_restore_py")),
    ("botocore", ("botocore", "jmespath", "dateutil", "six")),
    ("boto3", ("boto3", "s3transfer")),
    ("urllib3, TLS and HTTP", ("urllib3", "certifi", "ssl", "http", "email", "_ssl", "_hashlib", "hashlib", "socket")),
    ("requests", ("requests", "charset_normalizer", "idna")),
    ("pydantic", ("pydantic", "pydantic_core", "annotated_types", "typing_inspection")),
    ("Powertools", ("aws_lambda_powertools", "typing_extensions")),
    ("aitems_bridge", ("aitems_bridge", "floor", "peer", "hello")),
)
_STDLIB = "the rest of the standard library"
_CALL = "making clients, and the call itself"
_COLOURS = {
    _PARTS[0][0]: "#9aa0a6",
    _STDLIB: "#c9cdd2",
    "botocore": "#e8963a",
    "boto3": "#b5651d",
    "urllib3, TLS and HTTP": "#6aa6d8",
    "requests": "#2f6690",
    "pydantic": "#c2417c",
    "Powertools": "#7b5ea7",
    "aitems_bridge": "#2e9e6b",
    _CALL: "#f2d36b",
}
_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)")

Makeup = dict[str, dict[str, float]]
"""By contender: the milliseconds of each part."""


def look(built: Built, first: dict[str, float], rounds: int = 5) -> Makeup:
    """Return the make-up of each start. ``first`` are the measured milliseconds.

    Python's own import timer slows down what it measures, so its numbers are shares, scaled to what was measured.
    """
    made: Makeup = {}
    bare = _bare(built)
    with canned() as server:
        for contender in CONTENDERS:
            if contender.name not in SHOWN:
                continue
            seen = []
            for _ in range(rounds):
                with start(built, contender, server.url, ("-X", "importtime")) as function:
                    total = function.first(contender.call()).seconds * 1000
                    parts = _parts(function.log())
                parts[_PARTS[0][0]] += bare
                parts[_CALL] = max(0.0, total - sum(parts.values()))
                scale = first[contender.name] / sum(parts.values())
                seen.append({part: spent * scale for part, spent in parts.items()})
            made[contender.name] = {part: round(statistics.median(each[part] for each in seen), 1) for part in _COLOURS}
    return made


def _bare(built: Built) -> float:
    """Return the milliseconds that the interpreter takes to start and end with nothing to do."""
    times = []
    for _ in range(9):
        begun = time.perf_counter()
        subprocess.run([built.python, "-I", "-S", "-c", ""], check=True)  # noqa: S603  # fixed words
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


def _parts(log: str) -> dict[str, float]:
    parts = dict.fromkeys(_COLOURS, 0.0)
    for spent, module in _LINE.findall(log):
        package = module.partition(".")[0]
        whose = next((part for part, packages in _PARTS if package in packages), _STDLIB)
        parts[whose] += int(spent) / 1000
    return parts


def picture(made: Makeup, into: Path) -> None:
    """Draw a bar for each contender."""
    left, width, height, gap = 140, 750, 26, 14
    longest = max(sum(parts.values()) for parts in made.values())
    rows = [name for name in SHOWN if name in made]
    legend_top = 50 + len(rows) * (height + gap)
    bottom = legend_top + 22 * ((len(_COLOURS) + 1) // 2) + 14
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 90} {bottom}" role="img">',
        '<g font-family="sans-serif" font-size="13">',
        "<title>What a cold start is made of, in milliseconds</title>",
        f'<rect width="{left + width + 90}" height="{bottom}" fill="#fff"/>',
        '<text x="14" y="26" font-size="15" fill="#222">From the start of the process to the first answer, ms</text>',
    ]
    for number, name in enumerate(rows):
        top, x = 46 + number * (height + gap), float(left)
        drawn.append(f'<text x="{left - 10}" y="{top + 18}" text-anchor="end" fill="#222">{escape(name)}</text>')
        for part, colour in _COLOURS.items():
            long = made[name][part] / longest * width
            if long > 0.2:
                drawn.append(
                    f'<rect x="{x:.1f}" y="{top}" width="{long:.1f}" height="{height}" fill="{colour}">'
                    f"<title>{escape(part)}: {made[name][part]:.0f} ms</title></rect>"
                )
            x += long
        drawn.append(f'<text x="{x + 8:.1f}" y="{top + 18}" fill="#222">{sum(made[name].values()):.0f}</text>')
    for number, (part, colour) in enumerate(_COLOURS.items()):
        x, y = left + (number % 2) * 380, legend_top + 22 * (number // 2)
        drawn.append(f'<rect x="{x}" y="{y}" width="14" height="14" fill="{colour}"/>')
        drawn.append(f'<text x="{x + 22}" y="{y + 12}" fill="#222">{escape(part)}</text>')
    into.write_text("\n".join([*drawn, "</g>", "</svg>"]) + "\n", encoding="utf-8")
