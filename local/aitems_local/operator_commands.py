"""The commands of an operator: redrive, resolve and doctor. What they do is in `operate` and in `doctor`."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from aitems_bridge.config import now
from aitems_bridge.ledger import Ledger
from aitems_bridge.record import SECOND, Record
from aitems_local import operate
from aitems_local.cli import OK, REFUSED
from aitems_local.cloud import UsageError
from aitems_local.doctor import Doctor
from aitems_local.findings import Result
from aitems_local.operate import Deed, Plan, Refusal
from aitems_local.target import Target, target
from aitems_local.telling import name_of, of_finding
from aitems_local.terminal import Bar, Terminal

_MANY = 20
"""From how many requests on a bar shows how far it has come."""


def redrive(arguments: argparse.Namespace) -> int:
    """Have requests examined or announced once more; say first what that means for each."""
    _check_selection(arguments)
    bridge = target(arguments.stack, arguments.region, arguments.profile)
    terminal = Terminal(sys.stderr if arguments.json else sys.stdout)
    begun = now()
    chosen, unknown = _chosen(bridge.ledger, arguments, begun)
    for why in unknown:
        print(why, file=sys.stderr)
    plans = [operate.plan(record, begun, announce=arguments.since is not None) for record in chosen]
    for planned in plans:
        _tell(terminal, planned)
        if arguments.json and arguments.dry_run:
            _tell_json(planned, "planned")
    if arguments.dry_run:
        terminal.line(_summary(plans, "would be "))
        return REFUSED if unknown else OK
    refused = _carry_out(bridge, plans, terminal, as_json=arguments.json)
    terminal.line(_summary([planned for planned in plans if planned not in refused]))
    return REFUSED if unknown or refused else OK


def resolve(arguments: argparse.Namespace) -> int:
    """Settle a failed request as a person decided."""
    bridge = target(arguments.stack, arguments.region, arguments.profile)
    terminal = Terminal(sys.stderr if arguments.json else sys.stdout)
    record = found(bridge.ledger, arguments.id)
    if isinstance(record, str):
        print(record, file=sys.stderr)
        return REFUSED
    try:
        settled = _decided(bridge, record, arguments)
    except Refusal as refusal:
        print(f"{record.id} is not resolved: {refusal}", file=sys.stderr)
        return REFUSED
    made = f"  service {settled.service_id}" if settled.service_id else ""
    already = "was already " if settled is record else "is "
    terminal.line(f"{terminal.id(record.id)}  {name_of(record)}  {already}{settled.state}{made}")
    if arguments.json:
        print(json.dumps(_facts(settled) | {"changed": settled is not record}))
    return OK


def doctor(arguments: argparse.Namespace) -> int:
    """Examine the bridge, and say of each part that it is well or what to do."""
    bridge = target(arguments.stack, arguments.region, arguments.profile)
    terminal = Terminal(sys.stdout)
    results = Counter[Result]()
    for finding in Doctor(bridge).examine():
        results[finding.result] += 1
        if arguments.json:
            print(json.dumps({"check": finding.check} | asdict(finding), ensure_ascii=False), flush=True)
        else:
            terminal.line(of_finding(terminal, finding))
    if not arguments.json:
        counted = [f"{results[result]} {result.telling}" for result in Result if results[result]]
        terminal.line(f"{bridge.name}: {', '.join(counted)}")
    ill = results.total() - results[Result.OK] if arguments.strict else results[Result.FAILED]
    return REFUSED if ill else OK


def found(ledger: Ledger, which: str) -> Record | str:
    """Return the request that is meant, or in a line why none is."""
    try:
        return operate.find(ledger, which) or f"the ledger knows no request {which}: `requests` alone lists them all"
    except Refusal as refusal:
        return str(refusal)


# --- the parts ----------------------------------------------------------------------------------------------------


def _check_selection(arguments: argparse.Namespace) -> None:
    """Raise `UsageError` unless it is said in one way which requests are meant."""
    ways = [bool(arguments.ids), arguments.all, arguments.since is not None]
    if arguments.announce and arguments.since is None:
        raise UsageError("--announce wants --since T: which outcomes are to be announced again")
    if sum(ways) != 1:
        raise UsageError("say which requests: their ids, or --all that are stuck, or --since T what was not passed on")


def _chosen(ledger: Ledger, arguments: argparse.Namespace, begun: int) -> tuple[list[Record], list[str]]:
    """Return the requests that are meant, and of those that are not clear why."""
    if arguments.ids:
        looked = [found(ledger, which) for which in dict.fromkeys(arguments.ids)]
        records = {one.id: one for one in looked if not isinstance(one, str)}
        return list(records.values()), [one for one in looked if isinstance(one, str)]
    if arguments.all:
        chosen = operate.stuck(ledger.scan(operate.left_out), begun)
    else:
        since = begun - round(arguments.since * SECOND)
        chosen = operate.missed(ledger.scan(operate.left_out), since, begun, outcomes_only=arguments.announce)
    return sorted(chosen, key=lambda record: record.requested_at), []


def _carry_out(bridge: Target, plans: Sequence[Plan], terminal: Terminal, *, as_json: bool) -> list[Plan]:
    """Do it all; return what could not be done."""
    refused = []
    with Bar.over(len(plans) if len(plans) >= _MANY else 0, sys.stderr) as bar:
        for planned in plans:
            why = ""
            try:
                operate.carry_out(bridge.ledger, planned, now(), bridge.numbers)
            except Refusal as refusal:
                why = str(refusal)
                refused.append(planned)
            bar.step()
            if as_json:
                _tell_json(planned, "refused" if why else "done", why)
            elif why:
                terminal.line(f"{terminal.id(planned.record.id)}  {terminal.bad(f'not {planned.deed}')}: {why}")
    return refused


def _decided(bridge: Target, record: Record, arguments: argparse.Namespace) -> Record:
    at: dict[str, Any] = {"now": now(), "numbers": bridge.numbers}
    if arguments.created is None:
        return operate.resolve_rejected(bridge.ledger, record, arguments.rejected, **at)
    return operate.resolve_created(bridge.ledger, bridge.aitems(), record, arguments.created, **at)


def _tell(terminal: Terminal, planned: Plan) -> None:
    record = planned.record
    does = planned.deed if planned.deed is Deed.NOTHING else f"to be {planned.deed}"
    terminal.line(f"{terminal.id(record.id)}  {record.state:<9} {name_of(record):<20}  {does}: {planned.means}")


def _tell_json(planned: Plan, result: str, why: str = "") -> None:
    said = _facts(planned.record) | {"deed": planned.deed.name.lower(), "means": planned.means, "result": result}
    print(json.dumps(said | ({"why": why} if why else {})), flush=True)


def _facts(record: Record) -> dict[str, object]:
    return {
        "request_id": record.id,
        "name": record.name,
        "state": record.state,
        "in_doubt": record.doubt,
        "service_id": record.service_id,
    }


def _summary(plans: Sequence[Plan], would: str = "") -> str:
    counted = Counter(planned.deed for planned in plans)
    parts = [f"{counted[deed]} {'' if deed is Deed.NOTHING else would}{deed}" for deed in Deed if counted[deed]]
    return ", ".join(parts) or "nothing to do"
