"""Looking at AiTEMS for a request in doubt: which of the services that bear its name is ours, if any.

Age is judged by AiTEMS's clock alone. ``createdDate`` bears no zone, so there are two ways to read it:

* The refusal of a duplicate name carries a ``timestamp`` of the same clock and zone. Where one was seen, it decides.
* The ``Date`` of the answer that lists the candidate, plus the zone. The zone is an assumption, so it may adopt only
  where no other likely zone contradicts it, and it may reject only what is older in every zone on Earth.

What neither can tell is ``unclear``: then another POST, which the taken name makes harmless, brings the timestamp.
"""

import unicodedata
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

from aitems_bridge.aitems import AiTEMS, Listed, LookFailed, wall
from aitems_bridge.record import HOUR, SECOND, Clock, Record, Sight, View
from aitems_bridge.wire import Permit

if TYPE_CHECKING:
    from aitems_bridge.service import Service

ALLOWANCE = 5 * SECOND
KOREA = 9 * HOUR
LATEST_ZONE = -12 * HOUR
"""Where a wall clock shows the least: a date is older than now here before it is anywhere else."""

_LEAVING = {"deleting", "deleted"}


class Age(StrEnum):
    """A service's age against our first POST in doubt."""

    OURS = "ours"
    """It could have been made by it."""
    OLDER = "older"
    UNCLEAR = "unclear"
    FUTURE = "future"
    """The reading lies ahead of now: the clock or zone it was read by is wrong."""


def age_by(created: int, clock: Clock, sent_at: int, now: int) -> Age:
    """Return the age of a service created at ``created`` (AiTEMS's wall clock) read by one clock."""
    least, most = created - clock.high - sent_at, created - clock.low - sent_at
    if least > now - sent_at + ALLOWANCE:
        return Age.FUTURE
    if most < -ALLOWANCE:
        return Age.OLDER
    return Age.OURS if most >= 0 and least >= -ALLOWANCE else Age.UNCLEAR


def age(record: Record, created: int | None, ahead: Clock | None, offset: int, now: int, *, zone_agrees: bool) -> Age:
    """Return the age by all that is known: ours, older or unclear."""
    sent_at = record.sent_at
    if created is None or sent_at is None:
        return Age.UNCLEAR
    if record.clock is not None:
        known = age_by(created, record.clock, sent_at, now)
        return Age.UNCLEAR if known is Age.FUTURE else known
    if ahead is None:
        return Age.UNCLEAR

    def in_zone(zone: int) -> Age:
        return age_by(created, Clock(ahead.low + zone, ahead.high + zone), sent_at, now)

    if in_zone(LATEST_ZONE) is Age.OLDER:
        return Age.OLDER
    likely = {in_zone(zone) for zone in (KOREA, 0)} - {Age.FUTURE}
    if zone_agrees and in_zone(offset) is Age.OURS and likely <= {Age.OURS}:
        return Age.OURS
    return Age.UNCLEAR


def look(
    record: Record,
    aitems: AiTEMS,
    claimant: Callable[[str], Record | None],
    now: Callable[[], int],
    permit: Permit,
) -> View:
    """Return what AiTEMS shows of a request in doubt. ``claimant`` tells which request a service was settled for.

    Raises ``LookFailed`` when AiTEMS could not be read to the end, ``NotRecorded`` when the ledger could not.
    """
    listing = aitems.list_named(record.name, permit)
    ids = tuple(listed.service_id for listed in listing.named)
    mine: list[Listed] = []
    unclear: list[Listed] = []
    for listed in listing.named:
        read = age(
            record, wall(listed.created), listing.ahead, aitems.utc_offset, now(), zone_agrees=aitems.zone_agrees
        )
        if read is Age.OLDER:
            continue
        owner = claimant(listed.service_id)
        if owner is not None and owner.id != record.id:
            if owner.name.lower() != record.name.lower():
                why = "Another request, for another name, was settled with the service that bears this one's."
                return View(Sight.CONTRADICTION, ids, why=why)
            # Theirs: from a request's first POST until it is settled, nobody else has the name. So they were settled
            # before ours was sent, and what they were settled with was there already.
            continue
        (mine if read is Age.OURS else unclear).append(listed)
    ids = tuple(dict.fromkeys((*(listed.service_id for listed in (*mine, *unclear)), *ids)))
    if len(mine) + len(unclear) > 1:
        return View(Sight.CONTRADICTION, ids, why="Several services could be this request's.")
    if unclear:
        return View(Sight.UNCLEAR, ids, leaving=unclear[0].status in _LEAVING)
    if mine:
        return _read(record, aitems, ids, permit)
    if listing.named:
        return View(Sight.OLDER, ids)
    return View(Sight.OTHER_CASE if listing.other_case else Sight.NONE)


def _read(record: Record, aitems: AiTEMS, ids: tuple[str, ...], permit: Permit) -> View:
    service_id = ids[0]
    try:
        found = aitems.read(service_id, permit)
    except LookFailed as failed:
        raise LookFailed(failed.problem, ids) from failed
    if found is None:
        why = "A service that could be this request's vanished while it was read."
        return View(Sight.CONTRADICTION, ids, why=why)
    service, text = found
    if not agrees(record, service):
        why = "A service made since bears the name, but another description or type."
        return View(Sight.CONTRADICTION, ids, why=why)
    return View(Sight.OURS, ids, answer=text, service_id=service_id)


def agrees(record: Record, service: "Service") -> bool:
    """Whether a service is what was asked for. A missing type agrees; AiTEMS may trim or compose the description."""
    if record.command is None or service.name != record.name:
        return False
    asked = record.command
    return service.type in (None, asked["type"]) and _same(service.description or "", asked["description"])


def _same(one: str, other: str) -> bool:
    return unicodedata.normalize("NFC", one).strip() == unicodedata.normalize("NFC", other).strip()
