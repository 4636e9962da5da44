"""What lies outside of AWS: AiTEMS, the keys with which it is asked, and the clocks by which signatures are good."""

from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import cached_property
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from aitems_bridge import config
from aitems_bridge.aitems import CONNECT, SERVICES, LookFailed, page_of, prove
from aitems_bridge.errors import Misconfigured, Upstream
from aitems_bridge.ncp import Keys, signed_headers
from aitems_bridge.record import SECOND, Clock, Made
from aitems_bridge.wire import Answer, Lost, NotSent, exchange
from aitems_local.findings import PATIENCE, Findings, Unseen, bad, span, well, worth
from aitems_local.target import Target

WORTH_A_WORD, TOO_FAR = 60, 240
"""Seconds between two clocks: AiTEMS and our own doors accept no signature that is 300 off."""
_OK, _UNAUTHORISED, _FORBIDDEN, _NOT_FOUND, _TOO_MANY = 200, 401, 403, 404, 429
_NOT_SUBSCRIBED = "210"


class Outside:
    """Asks AiTEMS once, with the keys that the bridge has. ``now`` gives milliseconds since the epoch."""

    def __init__(self, bridge: Target, now: Callable[[], int] = config.now) -> None:
        self.bridge = bridge
        self._now = now

    def clock(self) -> Findings:
        """Yield whether AiTEMS, AWS and this machine agree what time it is."""
        aws = self._aws_clock
        here = _apart(aws)
        try:
            answer, sent, answered = self._aitems_says
        except (NotSent, Lost, Unseen):
            there = None
        else:
            aitems = _clock(answer.headers, sent, answered)
            there = _apart(Clock(aitems.low - aws.high, aitems.high - aws.low)) if aitems else None
        if there is not None and abs(there) > WORTH_A_WORD:
            told = f"AiTEMS's clock is {_seconds(there)} AWS's"
            remedy = "AiTEMS refuses what is signed 5 minutes off: ask NAVER, or look for a proxy that answers instead"
            yield bad(told, remedy) if abs(there) > TOO_FAR else worth(told, remedy)
        if abs(here) > WORTH_A_WORD:
            told = f"this machine's clock is {_seconds(-here)} AWS's"
            remedy = "set it by the network: what is signed here is refused when it is 5 minutes off"
            yield bad(told, remedy) if abs(here) > TOO_FAR else worth(told, remedy)
        if max(abs(here), abs(there or 0)) <= WORTH_A_WORD:
            who = "this machine and AWS" if there is None else "this machine, AWS and AiTEMS"
            yield well(f"{who} agree within {max(abs(here), abs(there or 0), 1)} s")

    def keys(self) -> Findings:
        """Yield whether the keys can be keys."""
        try:
            keys = self._keys
        except Misconfigured as error:
            yield bad(str(error), self.bridge.fill("KeysSecretArn", "keys.json"))
            return
        spaced = [
            name
            for name, value in (("access_key", keys.access_key), ("secret_key", keys.secret_key))
            if value != value.strip() or " " in value
        ]
        if spaced:
            yield bad(
                f"{' and '.join(spaced)} holds spaces, as no key does", self.bridge.fill("KeysSecretArn", "keys.json")
            )
        else:
            yield well("both halves are filled in")

    def aitems(self) -> Findings:
        """Yield whether AiTEMS answers, and takes the keys."""
        try:
            config.origin("AitemsBaseUrl", self._base_url, "https://aitems.apigw.ntruss.com")
        except Misconfigured as error:
            yield bad(str(error), "deploy it with the right one: keys go there")
            return
        host = urlsplit(self._base_url).netloc
        try:
            answer, _, _ = self._aitems_says
        except (NotSent, Lost) as error:
            remedy = "see the network, and AitemsBaseUrl; from AWS it may look otherwise (no proxy is used)"
            yield bad(f"{host} does not answer here ({error})", remedy)
            return
        if self._usable_keys is None:
            raise Unseen(f"{host} answers; whether it takes the keys is not known without them")
        if answer.status == _OK:
            try:
                page_of(answer)
            except LookFailed:
                remedy = f"see AitemsBaseUrl, which is {self._base_url}, and whether something in between answers"
                yield bad(f"{host} answers 200 with what is no list of services", remedy)
            else:
                yield well(f"{host} takes the keys, and lists services")
            return
        outcome = prove(answer, "", 0, 0, 1)
        problem = None if isinstance(outcome, Made) else outcome.problem
        upstream = (problem and problem.upstream) or Upstream(status=answer.status)
        told = problem.detail if problem and problem.slug != "outcome-unknown" else f"{host} answers {answer.status}"
        code = f" ({answer.status}{f', code {upstream.code}' if upstream.code else ''})"
        yield bad(told.rstrip(".") + code, self._aitems_remedy(answer.status, upstream.code))

    def _aitems_remedy(self, status: int, code: str | None) -> str:
        if status == _UNAUTHORISED and code == _NOT_SUBSCRIBED:
            return "subscribe the keys' account to AiTEMS in NAVER Cloud's console"
        return {
            _UNAUTHORISED: "see the clock above; else put the two halves of one Sub Account key that is in use there: "
            + self.bridge.fill("KeysSecretArn", "keys.json"),
            _FORBIDDEN: "grant the Sub Account AiTEMS's create, list and detail (docs/deploying.md, The keys)",
            _NOT_FOUND: f"see AitemsBaseUrl, which is {self._base_url}",
            _TOO_MANY: "wait, or ask NAVER for a larger quota",
        }.get(status, "requests wait meanwhile; see NAVER Cloud's status")

    @property
    def _base_url(self) -> str:
        return self.bridge.parameters["AitemsBaseUrl"].rstrip("/")

    @cached_property
    def _keys(self) -> Keys:
        """The keys, read as the functions read them. Raises ``Misconfigured``."""
        text = self.bridge.secret("KeysSecretArn")
        keys, _ = config.KeysSecret(_Read(text))(False)
        return keys

    @property
    def _usable_keys(self) -> Keys | None:
        try:
            return self._keys
        except (Misconfigured, Unseen, ClientError):
            return None

    @cached_property
    def _aitems_says(self) -> tuple[Answer, int, int]:
        """AiTEMS's answer to a signed look at its list, and our clock around it. Raises ``NotSent`` or ``Lost``."""
        target, keys, sent = f"{SERVICES}?offset=0&limit=1", self._usable_keys, self._now()
        headers = {"Accept": "application/json", "User-Agent": "aitems-bridge"}
        headers |= signed_headers("GET", target, sent, keys) if keys else {}
        url = self._base_url + target
        answer = exchange("GET", url, headers=headers, body=None, connect_timeout=CONNECT, permit=lambda: PATIENCE)
        return answer, sent, self._now()

    @cached_property
    def _aws_clock(self) -> Clock:
        sent = self._now()
        answer = self.bridge.aws.cloudformation.describe_stacks(StackName=self.bridge.described["StackName"])
        clock = _clock(answer["ResponseMetadata"]["HTTPHeaders"], sent, self._now())
        if clock is None:
            raise Unseen("AWS's answer has no date")
        return clock


class _Read(config.Secret):
    """A secret's text that was read."""

    def __init__(self, text: str) -> None:
        super().__init__("")
        self._text = text

    def text(self, *, early: bool = False) -> tuple[str, bool]:  # noqa: ARG002  there is nothing to read
        """Return it."""
        return self._text, True


def _clock(headers: Mapping[str, str], sent: int, answered: int) -> Clock | None:
    """Return how far the clock that dated an answer is ahead of ours; the header is cut to the second."""
    try:
        stamped = round(parsedate_to_datetime(headers["date"]).timestamp() * SECOND)
    except (KeyError, ValueError):
        return None
    return Clock(stamped - answered, stamped + SECOND - sent)


def _apart(clock: Clock) -> int:
    """Return by how many seconds a clock is surely ahead; negative, behind; 0 where it may agree."""
    return round((max(clock.low, 0) + min(clock.high, 0)) / SECOND)


def _seconds(ahead: int) -> str:
    return f"{span(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'}"
