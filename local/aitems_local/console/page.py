"""How the console looks: HTML made here, once for the first sight and for everything that follows.

What came from outside (names, descriptions, problems, events) passes through `html.escape` and nothing else. There is
no inline script and no inline style, so that the page's own policy can forbid both.
"""

import json
import math
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from aitems_bridge.errors import Problem
from aitems_bridge.record import SECOND, Record, State
from aitems_local.console.send import FAULTS, Asked, Desk, Sent
from aitems_local.console.steps import Kind, Request, Step
from aitems_local.console.watch import DEAD_LETTERS, Watch
from aitems_local.console.words import LANGUAGES, Voice
from aitems_local.terminal import typed

if TYPE_CHECKING:
    from aitems_local.faults import Fault

THEMES = ("auto", "light", "dark")
STATES = ("", "open", "created", "rejected", "failed")
FEWEST, MOST = 50, 1_000
"""How many requests are shown at first, and at most."""

_GLYPHS = {
    State.RECEIVED: "○",
    State.CREATING: "◔",
    State.UNKNOWN: "?",
    State.CREATED: "●",
    State.REJECTED: "×",
    State.FAILED: "!",
}
_LONGEST_SHOWN = 600_000  # milliseconds: the end of the ruler
_TICKS = (
    (1, ("milliseconds", "1")),
    (10, ("milliseconds", "10")),
    (100, ("milliseconds", "100")),
    (1_000, ("seconds", "1")),
    (10_000, ("seconds", "10")),
    (_LONGEST_SHOWN, ("minutes", "10")),
)
_SHORT_ID = 12
_CURRENT = ' aria-current="true"'
_ALARM = ' class="alarm"'
_UNSAID = ("put-off", "post-again", "claimed", "seen", "recorded-received")
"""Steps after which the problem that stands in the ledger is an older one, or says no more than the step."""


@dataclass(frozen=True, slots=True)
class View:
    """What somebody wants to see, and how."""

    voice: Voice
    theme: str = "auto"
    state: str = ""
    text: str = ""
    most: int = FEWEST

    def address(self, **changes: object) -> str:
        """Return the address of the same view, or of one that differs in this."""
        wanted = replace(self, **changes)  # type: ignore[arg-type]
        said = {"state": wanted.state, "q": wanted.text, "limit": "" if wanted.most == FEWEST else str(wanted.most)}
        query = urlencode({name: value for name, value in said.items() if value})
        return f"/?{query}" if query else "/"


class Pages:
    """Makes the page of one stack, whole and in parts."""

    def __init__(self, watch: Watch, desk: Desk) -> None:
        self._watch, self._desk = watch, desk

    def title(self, view: View) -> str:
        """Return the title, which says how many requests are open."""
        number = sum(count for state, count in self._watch.counts.items() if state.open)
        return (f"({number}) " if number else "") + f"aitems-bridge · {view.voice('requests')}"

    def whole(self, view: View, sent: Sent | None = None) -> str:
        """Return the page."""
        say = view.voice
        with self._watch.changing:
            parts = self.parts(view)
            found, _ = self._watch.select(state=view.state, text=view.text, most=view.most)
            rows = "".join(self._item(view, request) for request in found)
            epoch, last = self._watch.epoch, self._watch.last
        return f"""<!doctype html>
<html lang="{say.language}" data-theme="{view.theme}">
<head>
<meta charset="utf-8">
<title>{escape(self.title(view))}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="/console.svg" type="image/svg+xml">
<link rel="stylesheet" href="/console.css">
<script src="/console.js" defer></script>
</head>
<body data-epoch="{epoch}" data-last="{last}" data-live="{say.markup("live")}" data-waiting="{say.markup("waiting")}">
<a class="skip" href="#requests">{say.markup("skip")}</a>
<header>
<div class="brand"><h1>aitems-bridge</h1><p>{say.markup("tagline")}</p></div>
<p id="live" role="status"><noscript>{say.markup("still")}</noscript></p>
{_switches(view)}
</header>
<main>
<section class="overview" aria-label="{say.markup("overview")}" data-part="overview">{parts["overview"]}</section>
<section class="send" aria-labelledby="send-heading">{self._form(view, sent)}
<div id="result" aria-live="polite">{self.result(view, sent) if sent else ""}</div>
<div data-part="faults">{parts["faults"]}</div>{self._standing(view)}
</section>
<section class="requests" id="requests" aria-labelledby="requests-heading" tabindex="-1">
<div class="bar"><h2 id="requests-heading">{say.markup("requests")}</h2>{_search(view)}
<p class="shown" data-part="shown">{parts["shown"]}</p></div>
{_ruler(say)}
<div data-part="empty">{parts["empty"]}</div>
<ol id="list" role="list" reversed>{rows}</ol>
<p data-part="more">{parts["more"]}</p>
</section>
<section class="health" aria-labelledby="health-heading">
<h2 id="health-heading">{say.markup("queues")}</h2><div data-part="health">{parts["health"]}</div>
</section>
</main>
<footer>{self._footer(view)}</footer>
</body>
</html>
"""

    def parts(self, view: View) -> dict[str, str]:
        """Return the parts that change, by name."""
        shown, fitting = self._watch.select(state=view.state, text=view.text, most=view.most)
        return {
            "overview": self._overview(view),
            "health": self._health(view),
            "faults": self._faults(view),
            "shown": view.voice.markup("shown", {"shown": f"{len(shown):,}", "all": f"{fitting:,}"}) if fitting else "",
            "empty": "" if fitting else self._empty(view),
            "more": self._more(view, fitting),
        }

    def row(self, view: View, request: Request) -> tuple[str, str, str, str]:
        """Return a request's state, the request in a line, all about it, and its id."""
        record, way = request.record, request.way
        return str(record.state), _line(view.voice, request, way), _body(view.voice, request, way), record.id

    # --- the frame ------------------------------------------------------------------------------------------------

    def _footer(self, view: View) -> str:
        stack = self._watch.stack
        places = [
            (view.voice("webhooks"), f"POST {stack.webhook_url}/hooks/{{caller}}"),
            (view.voice("door-bus"), f"{stack.outputs.get('EventBusName', '')} · {stack.cloud.endpoint}"),
            ("AiTEMS", stack.aitems_url),
        ]
        rows = (f"<div><dt>{escape(what)}</dt><dd><code>{escape(where)}</code></dd></div>" for what, where in places)
        return f"<dl>{''.join(rows)}</dl>"

    def _overview(self, view: View) -> str:
        say, counts = view.voice, self._watch.counts
        numbers = {
            "": sum(counts.values()),
            "open": sum(count for state, count in counts.items() if state.open),
            **{state: counts[State(state)] for state in STATES if state not in ("", "open")},
        }
        links = "".join(
            f'<li class="c-{state or "all"}{" some" if numbers[state] else ""}">'
            f'<a href="{escape(view.address(state=state, most=FEWEST))}" data-state="{state}"'
            f"{_CURRENT if state == view.state else ''}>"
            f"<b>{numbers[state]:,}</b> <span>{say.markup(state or 'all')}</span></a></li>"
            for state in STATES
        )
        services, twice = self._watch.services, self._watch.made_twice
        facts = {"requests": numbers[""], "services": services, "events": self._watch.announced, "twice": twice}
        said = {name: f"<b>{number or 0:,}</b>" for name, number in facts.items()}
        total = say.markup("sum" if services is not None else "sum-elsewhere", said)
        trouble = "" if self._watch.reachable else f'<p class="trouble">{say.markup("unreachable")}</p>'
        return (
            f'<nav aria-label="{say.markup("by-state")}"><ul class="counts">{links}</ul></nav>'
            f'<p class="sum">{total}</p>{trouble}'
        )

    # --- sending --------------------------------------------------------------------------------------------------

    def _form(self, view: View, sent: Sent | None) -> str:
        say, asked = view.voice, sent.asked if sent else Asked("", fresh_name())
        doors = "".join(
            _option(door.value, f"{say(f'door-{door.scheme}')} · {door.caller}", chosen=asked.door == door.value)
            for door in self._desk.doors
        )
        types = "".join(
            _option(value, words, chosen=asked.type == value)
            for value, words in (("", say("type-unsaid")), ("batch", "batch"), ("interval", "interval"))
        )
        fault = ""
        if self._watch.stack.emulator:
            fault = (
                f'<label for="fault">{say.markup("fault")}</label>'
                f'<select id="fault" name="fault">{_faults(say)}</select>'
            )
        plain = 'autocomplete="off" spellcheck="false"'
        return f"""<h2 id="send-heading">{say.markup("send")}</h2>
<p class="note">{say.markup("send-note")}</p>
<form id="send" action="/send" method="post" data-sending="{say.markup("sending")}">
<label for="door">{say.markup("door")}</label><select id="door" name="door">{doors}</select>
<label for="name">{say.markup("name")}</label>
<input id="name" name="name" value="{escape(asked.name)}" maxlength="200" {plain} aria-describedby="name-note">
<small id="name-note">{say.markup("name-note")}</small>
<label for="description">{say.markup("description")}</label>
<input id="description" name="description" value="{escape(asked.description)}" maxlength="2000" autocomplete="off">
<details class="fold"{" open" if asked.key or asked.type else ""}>
<summary>{say.markup("key")} · {say.markup("type")}</summary>
<label for="key">{say.markup("key")}</label>
<input id="key" name="key" value="{escape(asked.key)}" maxlength="300" {plain} aria-describedby="key-note">
<small id="key-note">{say.markup("key-note")}</small>
<label for="type">{say.markup("type")}</label><select id="type" name="type">{types}</select>
</details>
<fieldset><legend>{say.markup("mishaps")}</legend>
<label class="tick"><input type="checkbox" name="forged" value="1" id="forged"> {say.markup("forge")}</label>
{fault}</fieldset>
<button class="go">{say.markup("send-button")}</button>
</form>"""

    def result(self, view: View, sent: Sent) -> str:
        """Return what came of something sent."""
        say, acts = view.voice, ""
        said = (
            f'<p class="bad">{say.markup("not-sent", {"why": escape(sent.why)})}</p>'
            if sent.why
            else _answer(say, sent)
        )
        if sent.request_id:
            address = escape(view.address(state="", text=sent.request_id, most=FEWEST))
            link = f'<a class="to" href="{address}" data-id="{escape(sent.request_id)}">{say.markup("to-request")}</a>'
            acts += f'<p class="acts">{link}</p>'
        if sent.request:
            acts += (
                '<form action="/again" method="post" class="again">'
                f'<input type="hidden" name="number" value="{sent.number}">'
                f'<button class="quiet">{say.markup("again-button")}</button></form>'
            )
        return f'<div class="result" data-next="{fresh_name()}">{said}{acts}</div>'

    def _standing(self, view: View) -> str:
        say = view.voice
        if not self._watch.stack.emulator:
            return f'<p class="note">{say.markup("no-emulator")}</p>'
        return f"""<details class="fold standing"><summary>{say.markup("standing")}</summary>
<p class="note">{say.markup("standing-note")}</p>
<form id="standing" action="/faults" method="post">
<label for="kind">{say.markup("standing-label")}</label>
<select id="kind" name="kind">{_faults(say, none=False)}</select>
<p class="acts"><button class="quiet" name="do" value="on">{say.markup("on-button")}</button>
<button class="quiet" name="do" value="off">{say.markup("off-button")}</button></p>
</form></details>"""

    def _faults(self, view: View) -> str:
        waiting = ", ".join(_fault(each) for each in self._watch.faults)
        if not waiting:
            return ""
        told = view.voice.markup("waiting-faults", {"faults": waiting})
        return f'<p class="armed"><span aria-hidden="true">⚡</span> {told}</p>'

    # --- the list -------------------------------------------------------------------------------------------------

    def _empty(self, view: View) -> str:
        say = view.voice
        if view.state or view.text:
            return f'<p class="empty">{say.markup("none-fits")}</p>'
        return (
            f'<div class="empty"><p><b>{say.markup("empty")}</b></p><p>{say.markup("empty-do")}</p>'
            f"<pre>{escape(typed('send', 'webhook', 'my-first'))}</pre></div>"
        )

    def _more(self, view: View, fitting: int) -> str:
        if fitting <= view.most or view.most >= MOST:
            return ""
        wanted = min(MOST, view.most + (FEWEST if view.most < 4 * FEWEST else 4 * FEWEST))
        address = escape(view.address(most=wanted))
        return f'<a class="more" href="{address}" data-limit="{wanted}">{view.voice.markup("more")}</a>'

    def _item(self, view: View, request: Request) -> str:
        state, line, body, request_id = self.row(view, request)
        return (
            f'<li><details id="r{request.number}" data-state="{state}" data-id="{escape(request_id)}">'
            f'<summary>{line}</summary><div class="body">{body}</div></details></li>'
        )

    def _health(self, view: View) -> str:
        say, rows, refused = view.voice, [], ""
        for name, depth in self._watch.depths.items():
            numbers = {"waiting": depth.waiting, "delayed": depth.delayed, "taken": depth.taken}
            alarming = name in DEAD_LETTERS and any(numbers.values())
            told = say.markup("depth", {what: str(number) for what, number in numbers.items()})
            if name in DEAD_LETTERS:
                told = str(sum(numbers.values()))
            if depth.letters:
                letters = "".join(f"<pre>{escape(letter)}</pre>" for letter in depth.letters)
                told += _fold(say.markup("letters"), letters)
            rows.append(f"<div{_ALARM if alarming else ''}><dt>{say.markup(f'queue-{name}')}</dt><dd>{told}</dd></div>")
        if self._watch.turned_away:
            causes = "".join(
                f'<li>{_clock(refusal.at)} <span lang="en">{escape(refusal.cause)}</span></li>'
                for refusal in reversed(self._watch.refusals)
            )
            told = f'<p class="note">{say.markup("refusals-note")}</p><ul>{causes}</ul>'
            refused = _fold(say.markup("refusals", {"number": str(self._watch.turned_away)}), told, "refusals")
        return f'<dl>{"".join(rows)}</dl><p class="note">{say.markup("depth-note")}</p>{refused}'


def fresh_name() -> str:
    """Return a name that nobody has asked for yet, most likely."""
    return f"shop-{secrets.token_hex(2)}"


# --- the parts of the frame ---------------------------------------------------------------------------------------


def _switches(view: View) -> str:
    say = view.voice

    def link(name: str, value: str, words: str, *, chosen: bool, language: str = "") -> str:
        query = urlencode({"set": name, "to": value, "back": view.address()})
        current = _CURRENT if chosen else ""
        lang = f' lang="{language}" hreflang="{language}"' if language else ""
        return f'<li><a href="/prefer?{escape(query)}"{current}{lang}>{escape(words)}</a></li>'

    languages = [
        link("lang", code, words, chosen=code == say.language, language=code) for code, words in LANGUAGES.items()
    ]
    themes = [link("theme", each, say(f"theme-{each}"), chosen=each == view.theme) for each in THEMES]
    return (
        f'<nav class="switch" aria-label="{say.markup("theme")}"><ul>{"".join(themes)}</ul></nav>'
        f'<nav class="switch" aria-label="{say.markup("language")}"><ul>{"".join(languages)}</ul></nav>'
    )


def _search(view: View) -> str:
    say = view.voice
    state = f'<input type="hidden" name="state" value="{escape(view.state)}">' if view.state else ""
    return (
        f'<form class="search" id="search" role="search" action="/" method="get">{state}'
        f'<label for="q">{say.markup("search")}</label>'
        f'<input type="search" id="q" name="q" value="{escape(view.text)}" placeholder="{say.markup("search-note")}"'
        f' autocomplete="off" spellcheck="false"><button class="quiet">{say.markup("search-button")}</button></form>'
    )


# --- the parts of a request ---------------------------------------------------------------------------------------


def _base(way: list[Step]) -> float:
    """Return the time that others are told from: when it arrived here, not when somebody sent it."""
    return next((step.at for step in way if step.kind is not Kind.SENT), way[0].at)


def _outcome_at(way: list[Step]) -> float:
    """Return when the outcome was announced; until then, when it was settled."""
    ends = [step.at for kind in (Kind.ANNOUNCED, Kind.SETTLED, Kind.FAILED) for step in way if step.kind is kind]
    return next((at for at in ends), way[-1].at)


def _line(say: Voice, request: Request, way: list[Step]) -> str:
    record, base = request.record, _base(way)
    name = escape(record.name) or f"<i>{say.markup('invalid-name')}</i>"
    if record.adopted:
        name += f' <em class="tag">{say.markup("adopted")}</em>'
    took = "…" if record.state.open else escape(say.duration(_outcome_at(way) - base))
    return (
        f'<span class="state"><span aria-hidden="true">{_GLYPHS[record.state]}</span> '
        f'{say.markup(f"state-{record.state}")}</span> <span class="name">{name}</span> '
        f'<span class="via">{escape(record.channel)} · {escape(record.caller)}</span> '
        f'{_track(request, way, base)} <span class="took">{took}</span> {_clock(record.requested_at)}'
    )


def _body(say: Voice, request: Request, way: list[Step]) -> str:
    base = _base(way)
    steps = "".join(_step(say, step, base) for step in way)
    left_out = say.markup("left-out", {"number": str(request.left_out)}) if request.left_out else ""
    events = "".join(
        _fold(
            f'{say.markup("outcome-event")}: <span lang="en">{escape(event.kind)}</span>',
            f'<pre tabindex="0">{_json(event.event)}</pre>',
            "event",
        )
        for event in request.events
    )
    return (
        f'{_problem(say, request.record)}<h3>{say.markup("way")}</h3><ol class="way" role="list">{steps}</ol>'
        f'<p class="note">{left_out}</p>{_facts(say, request.record)}{events}'
    )


def _step(say: Voice, step: Step, base: float) -> str:
    told = say.markup(f"step-{step.how}", _told(say, step.facts))
    if service := "call" in step.facts and step.facts["service"]:
        told += f" <code>{escape(service)}</code>"
    if fault := step.facts.get("fault"):
        told += f' <span class="fault">{say.markup("befell", {"fault": escape(fault)})}</span>'
    if step.took is not None:
        told += f' <span class="dur">{escape(say.duration(step.took))}</span>'
    if "problem" in step.facts and step.how not in _UNSAID:
        told += f' <span class="why" lang="en">{escape(step.facts["problem"].detail)}</span>'
    at = ("≈" if step.roughly else "") + _since(say, step.at - base)
    roughly = f' title="{say.markup("roughly")}"' if step.roughly else ""
    return (
        f'<li class="k-{step.kind}"><span class="at"{roughly}>{escape(at)}</span> '
        f'<span class="kind">{say.markup(f"kind-{step.kind}")}</span> <span class="what">{told}</span></li>'
    )


def _told(say: Voice, facts: Mapping[str, Any]) -> dict[str, str]:
    """Return a step's facts as HTML."""
    values = {name: f"<code>{escape(str(value))}</code>" for name, value in facts.items() if name != "problem"}
    values["due"] = _clock(facts["due"]) if facts.get("due") else ""
    if "text" in facts:
        values["text"] = escape(facts["text"])
    if "state" in facts and say.has(f"state-{facts['state']}"):
        values["state"] = say.markup(f"state-{facts['state']}")
    if "event_id" in facts:
        values["event"] = f'<b lang="en">{escape(facts["event"])}</b>'
        request, dot, ending = facts["event_id"].partition(".")
        shortened = escape(f"{request[:_SHORT_ID]}…{dot}{ending}")
        values["event_id"] = f'<code title="{escape(facts["event_id"])}">{shortened}</code>'
    if "call" in facts:
        status = facts["status"] or say("under-way" if not facts["done"] else "no-answer")
        values["status"] = f"<b>{escape(str(status))}</b>"
    return values


def _since(say: Voice, milliseconds: float) -> str:
    if abs(milliseconds) < 1:
        return "0 ms"
    return ("−" if milliseconds < 0 else "+") + say.duration(abs(milliseconds))


def _problem(say: Voice, record: Record) -> str:
    problem = record.problem or record.last
    if problem is None:
        return ""
    title = say(f"slug-{problem.slug}") if say.has(f"slug-{problem.slug}") else problem.kind.title
    errors = "".join(
        f"<li><code>{escape(error.pointer.removeprefix('#/') or 'request')}</code> "
        f'<span lang="en">{escape(error.detail)}</span></li>'
        for error in problem.errors
    )
    said = "".join(f"<p>{each}</p>" for each in _upstream(say, problem))
    do = say.markup("advice-open" if record.state.open else f"advice-{record.state}")
    if record.state.open and record.due:
        do += f" {say.markup('next-look', {'when': _clock(record.due)})}"
    commands = ""
    if record.state is State.FAILED:
        which = record.id[:_SHORT_ID]
        lines = (typed("redrive", which), f"{typed('resolve', which)} --created SERVICE_ID | --rejected REASON")
        commands = "".join(f"<pre>{escape(line)}</pre>" for line in lines)
    return (
        f'<div class="problem"><h3>{say.markup("problem")}: {escape(title)}</h3>'
        f'<p lang="en">{escape(problem.detail)}</p><ul>{errors}</ul>{said}'
        f"<p><b>{say.markup('what-to-do')}</b> {do}</p>{commands}</div>"
    )


def _upstream(say: Voice, problem: Problem) -> Iterator[str]:
    upstream = problem.upstream
    if upstream is not None and (upstream.status or upstream.code or upstream.message):
        said = " · ".join(str(each) for each in (upstream.status, upstream.code, upstream.message) if each)
        yield say.markup("aitems-said", {"said": f'<span lang="en">{escape(said)}</span>'})


def _facts(say: Voice, record: Record) -> str:
    command = record.command or {}
    told = [
        ("request-id", record.id),
        ("key", record.key),
        ("asked-by", record.requested_by or record.caller),
        ("description", command.get("description", "")),
        ("type", command.get("type", "")),
        ("service", record.service_id or ""),
        ("attempts", str(record.attempts)),
    ]
    rows = "".join(f"<div><dt>{say.markup(label)}</dt><dd>{escape(value)}</dd></div>" for label, value in told if value)
    adopted = (
        f"<div><dt>{say.markup('adopted')}</dt><dd>{say.markup('adopted-yes')}</dd></div>" if record.adopted else ""
    )
    return f'<dl class="facts">{rows}{adopted}</dl>'


def _place(milliseconds: float) -> float:
    """Return where on the ruler so long stands, in percent: each decade has the same width."""
    return 100 * math.log10(min(max(milliseconds, 1), _LONGEST_SHOWN)) / math.log10(_LONGEST_SHOWN)


def _ruler(say: Voice) -> str:
    ticks = ""
    for number, (milliseconds, words) in enumerate(_TICKS):
        place = f"{_place(milliseconds):.2f}%"
        anchor = ("start", *["middle"] * (len(_TICKS) - 2), "end")[number]
        ticks += (
            f'<line x1="{place}" x2="{place}" y1="14" y2="20"/>'
            f'<text x="{place}" y="10" text-anchor="{anchor}">{say.markup(words[0], {"number": words[1]})}</text>'
        )
    legend = "".join(
        f'<span><svg width="14" height="12">{mark}</svg>{say.markup(what)}</span>'
        for mark, what in (
            ('<circle class="t-posted" cx="7" cy="6" r="4"/>', "kind-posted"),
            ('<circle class="t-settled" cx="7" cy="6" r="4.5"/>', "kind-settled"),
            ('<rect class="t-announced" x="5" width="3" height="12"/>', "kind-announced"),
            ('<line class="t-doubt" x2="14" y1="6" y2="6"/>', "in-doubt"),
        )
    )
    return (
        f'<div class="ruler" aria-hidden="true"><p class="legend">{legend}</p>'
        f'<svg class="scale" width="100%" height="20">{ticks}</svg></div>'
    )


def _track(request: Request, way: list[Step], base: float) -> str:
    """Return the way as marks on the ruler: for the eye only, the list of steps says it all."""
    way = [step for step in way if step.kind is not Kind.SENT]
    marks = [f'<line class="t-way" x1="0" x2="{_place(way[-1].at - base):.1f}%" y1="8" y2="8"/>']
    ends = [since for since, _, _ in request.states[1:]] + [way[-1].at]
    for (since, state, _), until in zip(request.states, ends, strict=True):
        if state is State.UNKNOWN:
            first, last = _place(since - base), _place(until - base)
            marks.append(f'<line class="t-doubt" x1="{first:.1f}%" x2="{last:.1f}%" y1="8" y2="8"/>')
    for step in way:
        place = f"{_place(step.at - base):.1f}%"
        match step.kind:
            case Kind.POSTED:
                marks.append(f'<circle class="t-posted" cx="{place}" cy="8" r="4"/>')
            case Kind.SETTLED | Kind.FAILED:
                marks.append(f'<circle class="t-settled" cx="{place}" cy="8" r="4.5"/>')
            case Kind.ANNOUNCED:
                marks.append(
                    f'<rect class="t-announced" x="{place}" y="2" width="3" height="12" transform="translate(-1.5)"/>'
                )
            case _:
                marks.append(f'<line class="t-step" x1="{place}" x2="{place}" y1="5" y2="11"/>')
    return f'<svg class="track" aria-hidden="true" width="100%" height="16">{"".join(marks)}</svg>'


def _clock(milliseconds: float) -> str:
    moment = datetime.fromtimestamp(milliseconds / SECOND).astimezone()
    return f'<time datetime="{moment.isoformat(timespec="milliseconds")}">{moment:%H:%M:%S}</time>'


def _option(value: str, words: str, *, chosen: bool = False) -> str:
    return f'<option value="{escape(value)}"{" selected" if chosen else ""}>{escape(words)}</option>'


def _faults(say: Voice, *, none: bool = True) -> str:
    choices = (["none"] if none else []) + list(FAULTS)
    return "".join(_option(each if each in FAULTS else "", say(f"fault-{each}")) for each in choices)


def _fold(head: str, inside: str, kind: str = "") -> str:
    return f'<details class="fold {kind}"><summary>{head}</summary>{inside}</details>'


def _answer(say: Voice, sent: Sent) -> str:
    took = escape(say.duration(sent.seconds * SECOND))
    head = say.markup("answered-bus", {"took": took})
    if sent.status is not None:
        head = say.markup("answered-in", {"status": f'<b class="status">{sent.status}</b>', "took": took})
    good = sent.status is None or sent.status < HTTPStatus.BAD_REQUEST
    told = f'<p class="{"good" if good else "bad"}">{head}</p>'
    for holds, words in ((sent.asked.forged, "answer-forged"), (sent.replayed, "answer-replayed")):
        told += f"<p>{say.markup(words)}</p>" if holds else ""
    said = sent.body.get("detail") or sent.body.get("text") or sent.body.get("advice")
    if isinstance(said, str):
        told += f'<p class="told" lang="en">{escape(said)}</p>'
    return told + _fold(say.markup("answer"), f"<pre>{_json(sent.body)}</pre>")


def _fault(fault: "Fault") -> str:
    times = "∞" if fault.times is None else str(fault.times)
    return f"<code>{escape(fault.kind)}</code> × {times}" + (f" ({escape(fault.name)})" if fault.name else "")


def _json(value: object) -> str:
    return escape(json.dumps(value, ensure_ascii=False, indent=1, default=str))
