"""What the console says, in English and in Korean. What AiTEMS and the bridge themselves said stays as they said it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

LANGUAGES = {"en": "English", "ko": "한국어"}

_WORDS: dict[str, tuple[str, str]] = {
    # the page
    "tagline": ("One request, one service, one outcome.", "요청 하나에 서비스 하나, 결과도 하나."),
    "skip": ("Skip to the requests", "요청 목록으로 건너뛰기"),
    "language": ("Language", "언어"),
    "theme": ("Appearance", "화면 모드"),
    "theme-auto": ("system", "시스템"),
    "theme-light": ("light", "밝게"),
    "theme-dark": ("dark", "어둡게"),
    "live": ("live", "실시간"),
    "waiting": ("connecting again …", "다시 연결하는 중…"),
    "unreachable": ("The stack does not answer.", "로컬 스택이 응답하지 않습니다."),
    "still": (
        "Without JavaScript this page does not follow by itself: load it again to see what is new.",
        "자바스크립트가 꺼져 있어 화면이 자동으로 갱신되지 않습니다. 새로 고치면 최신 상태를 볼 수 있습니다.",
    ),
    "open-count": ("{number} open", "진행 중 {number}"),
    # the sum
    "overview": ("Where everything stands", "전체 현황"),
    "by-state": ("Requests by state", "상태별 요청"),
    "all": ("all", "전체"),
    "open": ("open", "진행 중"),
    "created": ("created", "생성됨"),
    "rejected": ("rejected", "거절됨"),
    "failed": ("failed", "확인 필요"),
    "sum": (
        "{requests} requests, {services} services, {events} outcomes announced; {twice} made twice.",
        "요청 {requests}건, 만든 서비스 {services}개, 알린 결과 {events}건. 중복 생성 {twice}건.",
    ),
    "sum-elsewhere": (
        "{requests} requests, {events} outcomes announced. What another AiTEMS than the emulator made is not counted.",
        "요청 {requests}건, 알린 결과 {events}건. 에뮬레이터가 아닌 AiTEMS를 호출하므로 서비스 수는 세지 않습니다.",
    ),
    "webhooks": ("Webhooks", "웹훅"),
    "queues": ("Queues", "대기열"),
    "queue-work": ("Work", "작업"),
    "queue-dead": ("Dead letters", "데드레터(DLQ)"),
    "queue-relay": ("Relay failures", "전달 실패"),
    "queue-rule": ("Rule’s dead letters", "규칙 DLQ"),
    "queue-replies": ("Chat replies", "채팅 답장"),
    "depth": (
        "{waiting} waiting, {delayed} for later, {taken} in work",
        "대기 {waiting}, 예약 {delayed}, 처리 중 {taken}",
    ),
    "depth-note": (
        "Each request leaves a message for later: the safety net, in case the process that works on it dies.",
        "요청마다 예약 메시지가 하나씩 남습니다. 처리하던 프로세스가 죽었을 때를 위한 안전망입니다.",
    ),
    "letters": ("What lies there", "남아 있는 메시지"),
    "refusals": ("Turned away at the door: {number}", "서명 검증에서 거부: {number}건"),
    "refusals-note": (
        "No valid signature: nothing was recorded, nothing was called.",
        "유효한 서명이 없어 아무것도 기록하거나 호출하지 않았습니다.",
    ),
    # the form
    "send": ("Send a request", "요청 보내기"),
    "send-note": (
        "Really signed, through the real door, into the functions that run here.",
        "실제로 서명해, 실제 입구를 거쳐, 여기서 실행 중인 함수로 보냅니다.",
    ),
    "door": ("Door", "보내는 경로"),
    "door-standard": ("Standard Webhooks", "Standard Webhooks"),
    "door-github": ("GitHub", "GitHub"),
    "door-hmac": ("HMAC", "HMAC"),
    "door-slack": ("Slack", "Slack"),
    "door-works": ("NAVER WORKS", "네이버웍스"),
    "door-bus": ("Event bus", "이벤트 버스"),
    "name": ("Name", "이름"),
    "name-note": ("3 to 20 of A-Z a-z 0-9 _ -, first a letter or _", "A-Z a-z 0-9 _ - 3~20자, 첫 글자는 영문자나 _"),
    "description": ("Description", "설명"),
    "type": ("Type", "유형"),
    "type-unsaid": ("not said (batch)", "지정 안 함 (batch)"),
    "key": ("Idempotency key", "멱등성 키"),
    "key-note": (
        "Left empty, a fresh one. The same key is the same request.",
        "비워 두면 새로 만듭니다. 같은 키는 같은 요청입니다.",
    ),
    "mishaps": ("Let something go wrong", "일부러 실패시키기"),
    "forge": ("Change one byte after signing", "서명한 뒤 1바이트 바꾸기"),
    "fault": ("For this name, AiTEMS …", "이 이름에 대해 AiTEMS가…"),
    "fault-none": ("answers as usual", "평소처럼 응답"),
    "fault-lost": ("creates it, then breaks off", "만든 뒤 연결을 끊음"),
    "fault-silent": ("creates it, and does not answer", "만들고 응답하지 않음"),
    "fault-late": ("answers 504, and creates it 6 s later", "504로 답하고 6초 뒤에 만듦"),
    "fault-broken": ("creates it, and answers broken JSON", "만들고 깨진 JSON으로 응답"),
    "fault-error": ("creates it, and answers 500", "만들고 500으로 응답"),
    "fault-cut": ("breaks off and creates nothing", "만들지 않고 연결을 끊음"),
    "fault-throttled": ("answers 429: too many calls", "429로 응답: 호출이 너무 많음"),
    "fault-refused": ("refuses it", "거절함"),
    "send-button": ("Sign and send", "서명하여 보내기"),
    "sending": ("Sent; waiting for the answer …", "보냈습니다. 응답을 기다리는 중…"),
    "again-button": ("Send the same again", "똑같이 다시 보내기"),
    "standing": ("For everybody", "모든 요청에 적용"),
    "standing-note": (
        "A fault that befalls every creation until it is switched off.",
        "끌 때까지 모든 생성 호출에 일어나는 장애입니다.",
    ),
    "standing-label": ("Each time, AiTEMS …", "매번 AiTEMS가…"),
    "on-button": ("Switch on", "켜기"),
    "off-button": ("Switch off", "끄기"),
    "waiting-faults": ("Waiting for a call: {faults}", "호출을 기다리는 장애: {faults}"),
    "no-faults": ("No fault is waiting.", "대기 중인 장애가 없습니다."),
    "no-emulator": (
        "AiTEMS is not the emulator here: faults cannot be switched on.",
        "에뮬레이터가 아닌 AiTEMS를 호출하므로 장애를 일으킬 수 없습니다.",
    ),
    "no-door": ("No caller has a secret to sign with: see `callers`.", "서명할 비밀 키가 있는 호출자가 없습니다."),
    # what came back
    "answer": ("Answer", "응답"),
    "answered-in": ("{status} in {took}", "{took} 만에 {status}"),
    "answered-bus": ("taken by the bus in {took}", "{took} 만에 버스에 들어감"),
    "answer-replayed": ("the answer to the earlier request of that key", "같은 키의 이전 요청에 대한 응답"),
    "answer-forged": ("One byte was changed after signing.", "서명한 뒤 1바이트를 바꿨습니다."),
    "not-sent": ("Not sent: {why}", "보내지 못했습니다: {why}"),
    "to-request": ("What happened to it", "진행 과정 보기"),
    # the list
    "requests": ("Requests", "요청"),
    "search": ("Find", "찾기"),
    "search-note": ("name, id, key, caller or channel", "이름, ID, 키, 호출자, 채널"),
    "search-button": ("Find", "찾기"),
    "in-doubt": ("in doubt", "결과 불명"),
    "shown": ("{shown} of {all}", "{all}건 중 {shown}건"),
    "more": ("Show more", "더 보기"),
    "empty": ("Nothing has been asked for yet.", "아직 들어온 요청이 없습니다."),
    "empty-do": (
        "Press “Sign and send”, and watch one request become one service and one outcome. Or, in a terminal:",
        "‘서명하여 보내기’를 누르면 요청 하나가 서비스 하나, 결과 하나가 되는 과정을 볼 수 있습니다. 터미널에서는:",
    ),
    "none-fits": ("No request fits.", "조건에 맞는 요청이 없습니다."),
    "invalid-name": ("(invalid)", "(잘못된 요청)"),
    # a request
    "state-received": ("received", "접수됨"),
    "state-creating": ("creating", "생성 중"),
    "state-unknown": ("unknown", "결과 확인 중"),
    "state-created": ("created", "생성됨"),
    "state-rejected": ("rejected", "거절됨"),
    "state-failed": ("failed", "확인 필요"),
    "adopted": ("found", "찾아냄"),
    "attempts": ("Attempts", "시도"),
    "request-id": ("Request", "요청 ID"),
    "asked-by": ("Asked by", "요청자"),
    "service": ("Service", "서비스"),
    "adopted-yes": ("found again after its answer was lost", "응답을 잃은 뒤 다시 찾아낸 서비스"),
    "way": ("What happened", "진행 과정"),
    "left-out": ("{number} steps between are left out.", "중간의 {number}단계는 생략했습니다."),
    "roughly": ("to some milliseconds", "수 밀리초 오차"),
    "outcome-event": ("The announced event", "알린 이벤트"),
    "problem": ("What is wrong", "문제"),
    "what-to-do": ("What to do", "해결 방법"),
    "aitems-said": ("AiTEMS said: {said}", "AiTEMS의 응답: {said}"),
    "next-look": ("The next look: {when}", "다음 확인: {when}"),
    "advice-open": (
        "Nothing: the bridge goes on by itself. Do not send it under another key.",
        "할 일은 없습니다. 브리지가 스스로 처리합니다. 다른 키로 다시 보내지 마세요.",
    ),
    "advice-rejected": (
        "It is refused for good. Mend what is said above, and send it under a new key.",
        "최종 거절되었습니다. 위의 문제를 고쳐 새 키로 보내세요.",
    ),
    "advice-failed": (
        "It is kept, and waits for a person. Have it examined once more, or decide about it:",
        "요청은 보관되어 있고 사람의 확인을 기다립니다. 다시 확인하게 하거나 직접 결정하세요:",
    ),
    # kinds of steps
    "kind-sent": ("sent", "보냄"),
    "kind-arrived": ("arrived", "도착"),
    "kind-verified": ("verified", "검증"),
    "kind-recorded": ("recorded", "기록"),
    "kind-posted": ("posted", "호출"),
    "kind-looked": ("looked", "확인"),
    "kind-settled": ("settled", "확정"),
    "kind-failed": ("gave up", "보류"),
    "kind-revived": ("revived", "재개"),
    "kind-answered": ("answered", "응답"),
    "kind-announced": ("announced", "알림"),
    "kind-told": ("told", "채팅"),
    # steps
    "step-sent": ("by this page", "이 페이지에서"),
    "step-received": ("{status} reached this page", "{status} 응답이 이 페이지에 도착"),
    "step-arrived": ("the webhook function began", "웹훅 함수 시작"),
    "step-came-again": ("the same key once more", "같은 키로 다시 들어옴"),
    "step-verified": ("the signature of {caller} is good; key {key}", "{caller}의 서명이 맞음, 키 {key}"),
    "step-verified-command": (
        "the signature of {caller} is good, but no service is described; key {key}",
        "{caller}의 서명은 맞지만 서비스 요청이 올바르지 않음, 키 {key}",
    ),
    "step-verified-bus": (
        "{caller} may put events on the bus; key {key}",
        "{caller}는 버스에 넣을 권한이 있음, 키 {key}",
    ),
    "step-recorded-creating": (
        "in the ledger as creating, before anything is sent",
        "보내기 전에 원장에 ‘생성 중’으로 기록",
    ),
    "step-recorded-received": (
        "in the ledger as received; the worker takes it from there",
        "원장에 ‘접수됨’으로 기록, 작업 함수가 이어받음",
    ),
    "step-recorded-rejected": (
        "in the ledger as rejected; nothing is sent",
        "원장에 ‘거절됨’으로 기록, 아무것도 보내지 않음",
    ),
    "step-recorded-failed": ("in the ledger as failed", "원장에 ‘확인 필요’로 기록"),
    "step-recorded-unknown": ("in the ledger as unknown", "원장에 ‘결과 확인 중’으로 기록"),
    "step-recorded-created": ("in the ledger as created", "원장에 ‘생성됨’으로 기록"),
    "step-seen-later": ("already {state} when this page began to look", "이 페이지가 보기 시작할 때 이미 {state}"),
    "step-claimed": ("creating: attempt {attempt} may send one POST", "생성 중: {attempt}번째 시도, POST 한 번만 허용"),
    "step-unknown": ("unknown: it may have been made", "결과 불명: 만들어졌을 수도 있음"),
    "step-not-done": ("received again: surely nothing was made", "다시 접수됨: 만들어지지 않은 것이 확실함"),
    "step-put-off-unsent": ("put off; the next try {due}", "미룸, 다음 시도 {due}"),
    "step-create": ("{call} → {status}", "{call} → {status}"),
    "step-list": ("{call} → {status}", "{call} → {status}"),
    "step-read": ("{call} → {status}", "{call} → {status}"),
    "step-post-again": (
        "not there after the quiet time: one more POST is allowed",
        "대기 시간이 지나도 없음: POST를 한 번 더 허용",
    ),
    "step-put-off": ("not decided yet; the next look {due}", "아직 판단할 수 없음, 다음 확인 {due}"),
    "step-seen": (
        "a service that may be ours was seen; the next look {due}",
        "우리 것일 수 있는 서비스를 발견, 다음 확인 {due}",
    ),
    "step-created": ("created: service {service}", "생성됨: 서비스 {service}"),
    "step-adopted": (
        "found, and ours: created, service {service}",
        "찾아냈고 우리 것이 맞음: 생성됨, 서비스 {service}",
    ),
    "step-resolved": ("a person decided: created, service {service}", "사람이 결정: 생성됨, 서비스 {service}"),
    "step-rejected": ("rejected", "거절됨"),
    "step-closed": ("a person decided: rejected", "사람이 결정: 거절됨"),
    "step-gave-up": ("given up for now, and kept", "지금은 포기하고 보관"),
    "step-revived": ("taken up again", "다시 시작"),
    "step-again": ("to be announced, or looked after, once more", "다시 알리거나 다시 확인하도록 함"),
    "step-answered": ("while it was {state}", "‘{state}’ 상태로 응답"),
    "step-acknowledged": ("acknowledged in the chat", "채팅에 접수 알림"),
    "step-replayed": ("from the record: {state}; nothing is sent", "기록에서 응답: {state}, 아무것도 보내지 않음"),
    "step-announced": ("{event}, {event_id}", "{event}, {event_id}"),
    "step-announced-again": ("the same event again: {event_id}", "같은 이벤트를 다시 알림: {event_id}"),
    "step-told": ("{chat}: {text}", "{chat}: {text}"),
    "no-answer": ("no answer", "응답 없음"),
    "under-way": ("under way", "진행 중"),
    "befell": ("(emulator: {fault})", "(에뮬레이터: {fault})"),
    # kinds of problems, whose English titles are the bridge's own
    "slug-invalid-request": ("", "요청이 서비스를 올바르게 설명하지 않습니다"),
    "slug-key-reused": ("", "이미 다른 요청에 쓰인 키입니다"),
    "slug-duplicate-name": ("", "같은 이름의 서비스가 이미 있습니다"),
    "slug-refused-by-aitems": ("", "AiTEMS가 이 서비스를 거절했습니다"),
    "slug-closed": ("", "담당자가 요청을 종료했습니다"),
    "slug-outcome-unknown": ("", "서비스가 만들어졌는지 알 수 없습니다"),
    "slug-aitems-unavailable": ("", "AiTEMS에 연결할 수 없습니다"),
    "slug-aitems-throttled": ("", "AiTEMS가 지금은 더 받지 않습니다"),
    "slug-keys-refused": ("", "AiTEMS가 브리지의 키를 받아들이지 않습니다"),
    "slug-not-permitted": ("", "AiTEMS가 브리지에 이 작업을 허용하지 않습니다"),
    "slug-name-in-use": ("", "같은 이름의 다른 요청이 아직 끝나지 않았습니다"),
    # how long
    "milliseconds": ("{number} ms", "{number} ms"),
    "under-one": ("<1 ms", "<1 ms"),
    "seconds": ("{number} s", "{number}초"),
    "minutes": ("{number} min", "{number}분"),
    "hours": ("{number} h", "{number}시간"),
}


_SECOND = 1_000
_UNITS = (("seconds", _SECOND, 100.5), ("minutes", 60 * _SECOND, 120), ("hours", 3_600 * _SECOND, math.inf))


@dataclass(frozen=True, slots=True)
class Voice:
    """One of the languages."""

    language: str

    @classmethod
    def wanted(cls, cookie: str, accepted: str) -> "Voice":
        """Return the one that was chosen, else the first of an ``Accept-Language`` header that there is."""
        for tag in (cookie, *(part.partition(";")[0].strip() for part in accepted.split(","))):
            language = tag.lower().partition("-")[0]
            if language in LANGUAGES:
                return cls(language)
        return cls("en")

    def __call__(self, what: str, **values: object) -> str:
        """Return the words as plain text."""
        return self._words(what).format(**values)

    def markup(self, what: str, values: Mapping[str, str] | None = None) -> str:
        """Return the words as HTML; the values are HTML already."""
        return escape(self._words(what)).format(**values or {})

    def has(self, what: str) -> bool:
        """Whether there are words of its own for this."""
        return bool(what in _WORDS and self._words(what))

    def duration(self, milliseconds: float) -> str:
        """Return how long, to two or three figures."""
        if milliseconds < 1:
            return self("under-one")
        if round(milliseconds) < _SECOND:
            return self("milliseconds", number=f"{milliseconds:.0f}")
        for what, unit, below in _UNITS:
            number = milliseconds / unit
            if number < below:
                return self(what, number=f"{number:#.3g}" if number < 100 else f"{number:.0f}")  # noqa: PLR2004  figures
        raise AssertionError(milliseconds)

    def _words(self, what: str) -> str:
        return _WORDS[what][list(LANGUAGES).index(self.language)]


def words() -> Mapping[str, tuple[str, str]]:
    """Return every text in each of `LANGUAGES`; one that is empty is said in the bridge's own words."""
    return _WORDS
