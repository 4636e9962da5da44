"""The chat doors' words: what a command means, what people are told, and that text is only ever text."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]
from slack_sdk.models.blocks import Block

from aitems_bridge import chat
from aitems_bridge.chat import Create, Help, Status, read_command, slack_voice, works_voice
from aitems_bridge.errors import KINDS, Problem, Refused, Upstream
from aitems_bridge.models import CreateService
from aitems_bridge.record import SECOND, State
from contract import RECORDS, UNKNOWN
from world import ROOT

CREATED, _ = RECORDS["created"]
REJECTED, _ = RECORDS["rejected by AiTEMS"]
FAILED, _ = RECORDS["failed"]
SERVICE = {"serviceId": "v5tmlhw3e5b", "status": "datasetRequired"}
SLACK, KOREAN, ENGLISH = slack_voice(), works_voice("ko"), works_voice("en")
VOICES = {"slack": SLACK, "works ko": KOREAN, "works en": ENGLISH}
each_voice = pytest.mark.parametrize("voice", VOICES.values(), ids=VOICES)


# --- what a command means -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", Help()),
        ("   ", Help()),
        ("help", Help()),
        ("HELP me", Help()),
        ("도움말", Help()),
        ("create shop", Create({"name": "shop"})),
        ("  Create \t shop\n", Create({"name": "shop"})),
        ("만들기 shop", Create({"name": "shop"})),
        ("create shop batch", Create({"name": "shop", "type": "batch"})),
        ("create shop INTERVAL", Create({"name": "shop", "type": "interval"})),
        ("create shop interval 봄 시즌", Create({"name": "shop", "type": "interval", "description": "봄 시즌"})),
        ("create shop spring season", Create({"name": "shop", "description": "spring season"})),
        ("create shop spring batch", Create({"name": "shop", "description": "spring batch"})),
        ('create shop "spring season"', Create({"name": "shop", "description": "spring season"})),
        ("create shop “봄 시즌”", Create({"name": "shop", "description": "봄 시즌"})),
        ("create 'shop' batch", Create({"name": "shop", "type": "batch"})),
        ('create shop "spring', Create({"name": "shop", "description": '"spring'})),
        ('create shop spring"', Create({"name": "shop", "description": 'spring"'})),
        ('create shop "', Create({"name": "shop", "description": '"'})),
        ('create shop ""', Create({"name": "shop"})),
        ('create shop "batch"', Create({"name": "shop", "description": "batch"})),
        ("create", Help("create-name")),
        ("create shop realtime", Help("type", "realtime")),
        ("create shop 실시간 추천", Help("type", "실시간")),
        ("status shop", Status("shop")),
        ("상태 'shop'", Status("shop")),
        ("status", Help("status-name")),
        ("status a b", Help("status-name")),
        ("delete shop", Help("verb", "delete")),
        ("createshop", Help("verb", "createshop")),
        ("🎉", Help("verb", "🎉")),
        ("x" * 200, Help("verb", "x" * 40)),
    ],
)
def test_grammar(text: str, meant: chat.Command) -> None:
    """``create NAME [batch|interval] [DESCRIPTION…]``, ``status NAME``, ``help``; quotes are optional."""
    assert read_command(text) == meant


@given(st.text(max_size=300))
def test_every_text_means_something(text: str) -> None:
    """If only a mistake, which is answered with the usage."""
    command = read_command(text)
    for voice in VOICES.values():
        assert isinstance(command, Help) is False or voice.usage(command)  # type: ignore[arg-type]


# --- a tired person -----------------------------------------------------------------------------------------------

USAGE = """Usage:
• `/aitems create NAME [batch|interval] [DESCRIPTION]`: create a service
• `/aitems status NAME`: what became of it
• `/aitems help`: this
A name has 3 to 20 characters: letters, digits, `_` and `-`, first a letter or `_`."""
KOREAN_USAGE = """사용법:
• aitems create 이름 [batch|interval] [설명]: 서비스 만들기
• aitems status 이름: 요청 결과 보기
• aitems help: 도움말
이름은 3~20자의 영문, 숫자, _, - 이며 영문이나 _ 로 시작해야 합니다."""


_NO_REALTIME = (
    "There is no type `realtime`: only `batch` (trains once per run) and `interval` (retrains on a cycle). "
    "If it is meant as the description, put the type before it."
)
_NO_REALTIME_KO = (
    "'실시간' 유형은 없습니다. batch(실행할 때마다 한 번 학습) 또는 interval(주기적으로 다시 학습)입니다. "
    "설명으로 쓰려면 앞에 유형을 적어 주세요."
)
_NAME_KO = "• 이름: 영문이나 _ 로 시작하고 영문, 숫자, _, - 만 쓸 수 있습니다."


def told(voice: chat.Voice, text: str) -> str:
    """Return what a command is answered that is not accepted."""
    command = read_command(text)
    if isinstance(command, Help):
        return voice.usage(command)
    assert isinstance(command, Create)
    with pytest.raises(Refused) as refused:
        CreateService.parse(dict(command.asked))
    return voice.problem(refused.value.problem)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("", []),
        ("create", ["Which name shall the service have?"]),
        ("create 1abc", ["• Name: '1abc' starts with a digit; start with a letter or '_'"]),
        (
            "create shop realtime",
            [_NO_REALTIME],
        ),
        (
            "create 추천서비스",
            ["• Name: '추천서비스' holds '비', '서', '스', '천', '추'; use A-Z, a-z, 0-9, '_' and '-' only"],
        ),
        ("create shop🎉", ["• Name: 'shop🎉' holds '🎉'; use A-Z, a-z, 0-9, '_' and '-' only"]),
        ("create " + "x" * 200, [f"• Name: '{'x' * 40}…' has 200 characters; 3 to 20 are needed"]),
        ("create shop " + "설" * 200, ["• Description: has 200 characters; at most 100 are allowed"]),
        ("create sh", ["• Name: 'sh' has 2 characters; 3 to 20 are needed"]),
        ("crate shop", ["There is no command `crate`."]),
        ("status", ["The status of which service? Give one name."]),
    ],
)
def test_what_slack_answers_a_tired_person(text: str, first: list[str]) -> None:
    """What is wrong, in one line, and how it is done."""
    assert told(SLACK, text).splitlines() == [*first, *USAGE.splitlines()]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("", []),
        ("create", ["서비스 이름을 적어 주세요."]),
        (
            "create shop 실시간",
            [_NO_REALTIME_KO],
        ),
        ("create 1abc", [_NAME_KO]),
        ("create 1추천서비스", [_NAME_KO]),
        ("create sh", ["• 이름: 3자 이상이어야 합니다."]),
        ("create " + "x" * 21, ["• 이름: 20자 이하여야 합니다."]),
        ("create shop " + "설" * 101, ["• 설명: 100자 이하여야 합니다."]),
        ("삭제 shop", ["'삭제' 명령은 없습니다."]),
        ("상태", ["어느 서비스의 상태를 볼까요? 이름을 하나 적어 주세요."]),
    ],
)
def test_what_works_answers_a_tired_person(text: str, first: list[str]) -> None:
    """The same, in the language of the caller's entry."""
    assert told(KOREAN, text).splitlines() == [*first, *KOREAN_USAGE.splitlines()]


def test_the_command_keeps_the_name_it_has_in_the_workspace() -> None:
    """The usage names the command as it was typed, if that is what Slack allows as one."""
    assert "`/services help`" in slack_voice("/services").usage()
    for odd in ("", "/a b", "/<!channel>", "services", "/" + "x" * 33):
        assert slack_voice(odd) == SLACK


# --- what people are told -----------------------------------------------------------------------------------------


def test_the_acknowledgement_promises_what_will_come() -> None:
    """Where chats are replied to, a report; where they are not, how to ask."""
    assert SLACK.accepted("shop-main", replies=True) == (
        "Creating *shop-main* … I'll report here. If it takes longer than half an hour, ask `/aitems status shop-main`."
    )
    assert SLACK.accepted("shop-main", replies=False) == (
        "Creating *shop-main* … Ask `/aitems status shop-main` for the outcome."
    )
    assert "만들고 있습니다" in KOREAN.accepted("shop-main", replies=True)


@pytest.mark.parametrize(
    ("seconds", "english", "korean"),
    [
        (-5, "0 s", "0초"),
        (0, "0 s", "0초"),
        (20, "20 s", "20초"),
        (59, "59 s", "59초"),
        (60, "1 min", "1분"),
        (3599, "59 min", "59분"),
        (3600, "1 h", "1시간"),
        (86_399, "23 h", "23시간"),
        (86_400, "1 d", "1일"),
    ],
)
def test_how_long_ago(seconds: int, english: str, korean: str) -> None:
    """In the one unit a person would use; a clock that is behind makes no negative time."""
    then = UNKNOWN.requested_at + seconds * SECOND
    assert SLACK.again(UNKNOWN, then) == f"*shop-main* is already being created (asked {english} ago)."
    assert KOREAN.again(UNKNOWN, then) == f"shop-main 서비스는 이미 만드는 중입니다({korean} 전 요청)."


def test_asking_twice_after_it_was_made() -> None:
    """The earlier result, with the service it made."""
    then = CREATED.requested_at + 20 * SECOND
    assert SLACK.again(CREATED, then) == (
        "You asked for *shop-main* 20 s ago, and it was created: service `v5tmlhw3e5b`."
    )


def test_status_of_every_state() -> None:
    """Unknown here, being worked on and why not done yet, or how it ended."""
    then = UNKNOWN.requested_at + 20 * SECOND
    assert SLACK.status("shop-x", None, then) == "No request for *shop-x* is known here."
    assert SLACK.status("shop-main", UNKNOWN, then) == (
        "*shop-main* is being worked on (unknown, asked 20 s ago). "
        "Last: AiTEMS did not answer within 15 s; the request is being examined."
    )
    assert SLACK.status("shop-main", CREATED, then) == "*shop-main* is created: service `v5tmlhw3e5b`."
    assert SLACK.status("shop-main", REJECTED, then).startswith(
        "*shop-main* was not created: AiTEMS already has a service named 'shop-main'."
    )
    failed = SLACK.status("shop-main", FAILED, then)
    assert failed.startswith("*shop-main* is not settled: The answer to the creation was lost")
    assert failed.endswith("The bridge's operators can take it up again.")


@each_voice
def test_every_word_is_there_in_every_language(voice: chat.Voice) -> None:
    """Nothing is said with a hole in it."""
    said = [
        voice.usage(),
        *(voice.usage(Help(mistake, "x")) for mistake in ("verb", "create-name", "status-name", "type")),
        voice.denied(),
        voice.shut(),
        voice.problem(Problem("duplicate-name", "It exists.")),
        voice.accepted("shop-main", replies=True),
        voice.accepted("shop-main", replies=False),
        *(voice.again(record, record.requested_at) for record in (CREATED, UNKNOWN)),
        *(voice.status("shop-main", record, 0) for record in (None, CREATED, REJECTED, FAILED, UNKNOWN)),
    ]
    assert all(text and "{" not in text and "None" not in text for text in said)


def test_a_type_that_is_none_is_told_in_korean() -> None:
    """A command cannot say one, but an entry's defaults are the same fields."""
    with pytest.raises(Refused) as refused:
        CreateService.parse({"name": "shop", "type": "daily"})
    assert KOREAN.problem(refused.value.problem).startswith("• 유형: batch 또는 interval 중 하나여야 합니다.\n")


def test_every_reason_that_a_request_can_have_is_told_in_korean() -> None:
    """By its kind. AiTEMS's own words follow where it refused, and an operator's where a person closed it."""
    lasting = ["duplicate-name", "refused-by-aitems", "closed", "name-not-allowed"]
    for slug in (*lasting, *(slug for slug, kind in KINDS.items() if kind.retryable == "same-key-only")):
        assert "English" not in KOREAN.outcome(replace(REJECTED, problem=Problem(slug, "English words.")))
    refused = Problem("refused-by-aitems", "x", upstream=Upstream(message="설명이 너무 깁니다"))
    assert "(설명이 너무 깁니다)" in KOREAN.outcome(replace(REJECTED, problem=refused))
    closed = Problem("closed", "Closed by an operator: 중복 요청")
    assert "(중복 요청)" in KOREAN.outcome(replace(REJECTED, problem=closed))


# --- text is only text --------------------------------------------------------------------------------------------

MARKUP = "<!channel> <https://evil.example|click> & *x*"


def test_slacks_mark_up_in_what_strangers_wrote_is_text() -> None:
    """Nobody is called to the channel, and no link is made, by a name, a mistake or a message of AiTEMS."""
    problem = Problem("refused-by-aitems", f"AiTEMS said: {MARKUP}")
    rejected = replace(REJECTED, problem=problem, command={"name": MARKUP, "description": MARKUP, "type": "batch"})
    waiting = replace(UNKNOWN, last=problem)
    said = [
        SLACK.usage(Help("verb", MARKUP)),
        SLACK.problem(problem),
        SLACK.accepted(MARKUP, replies=True),
        SLACK.status(MARKUP, None, 0),
        SLACK.status("x", rejected, 0),
        SLACK.status("x", waiting, 0),
        str(chat.slack_message(rejected, {})),
        str(chat.slack_message(replace(CREATED, command=rejected.command), {"status": MARKUP})),
    ]
    for text in said:
        assert "<" not in text
        assert "&lt;!channel&gt;" in text


def test_works_takes_text_as_it_is() -> None:
    """There is no mark-up in NAVER WORKS' text, so nothing is escaped."""
    assert "<b> & co" in KOREAN.usage(Help("verb", "<b> & co"))


@pytest.mark.parametrize("braces", ["{", "}", "{name}", "{0}", "{command.__class__}"])
def test_braces_are_text(braces: str) -> None:
    """What a person typed is no template."""
    assert f"`{braces}`" in SLACK.usage(Help("verb", braces))
    assert f"*{braces}*" in SLACK.status(braces, None, 0)


# --- outcomes -----------------------------------------------------------------------------------------------------


def blocks(message: dict[str, Any]) -> list[Block]:
    """Return a message's blocks, checked by Slack's own library."""
    read = Block.parse_all(message["blocks"])
    for block in read:
        block.validate_json()
    return read


def test_a_creation_in_block_kit() -> None:
    """Name, type, service, status and how long it took; only the person who asked sees it."""
    message = chat.slack_message(CREATED, SERVICE)
    assert (message["response_type"], message["replace_original"]) == ("ephemeral", False)
    assert message["text"] == "*shop-main* is created: service `v5tmlhw3e5b`."
    _, facts = blocks(message)
    assert [field["text"] for field in facts.to_dict()["fields"]] == [
        "*Name*\nshop-main",
        "*Type*\nbatch",
        "*Service*\nv5tmlhw3e5b",
        "*Status*\ndatasetRequired",
        "*Took*\n0.3 s",
        "*Description*\n봄 시즌 추천",
    ]


def test_a_refusal_in_block_kit() -> None:
    """The reason, and the usage."""
    message = chat.slack_message(REJECTED, {})
    reason, usage = blocks(message)
    assert "already has a service named" in str(reason.to_dict())
    assert usage.to_dict()["elements"][0]["text"] == USAGE


def test_giving_up_in_block_kit() -> None:
    """Not final, and it says so."""
    (only,) = blocks(chat.slack_message(FAILED, {}))
    assert "is not settled" in str(only.to_dict())


@pytest.mark.parametrize("language", ["ko", "en"])
def test_outcomes_as_text(language: str) -> None:
    """A sentence, and for a creation what there is to know, a line each."""
    text = chat.works_text(CREATED, SERVICE, language)
    labels = ["이름", "유형", "서비스", "상태", "걸린 시간", "설명"]
    labels = labels if language == "ko" else ["Name", "Type", "Service", "Status", "Took", "Description"]
    assert [line.partition(":")[0] for line in text.splitlines()[1:]] == labels
    assert "DUPLICATE" not in chat.works_text(REJECTED, {}, language)


def test_a_text_is_never_too_long() -> None:
    """NAVER WORKS takes 2,000 characters, and Slack's section 3,000, whatever AiTEMS had to say."""
    problem = Problem("refused-by-aitems", "x" * 5000)
    assert len(chat.works_text(replace(REJECTED, problem=problem), {}, "en")) == 2000
    blocks(chat.slack_message(replace(REJECTED, problem=problem), {}))
    blocks(chat.slack_message(CREATED, SERVICE | {"status": "x" * 5000}))


def test_states_are_all_told() -> None:
    """There is no state that nobody thought of."""
    assert {record.state for record in (CREATED, REJECTED, FAILED, UNKNOWN)} | {State.RECEIVED, State.CREATING} == set(
        State
    )


def test_the_slack_apps_manifest() -> None:
    """``docs/slack-app-manifest.yaml`` names the command as the usage does, and asks for no more than it needs."""
    manifest = yaml_parse((ROOT / "docs" / "slack-app-manifest.yaml").read_text("utf-8"))
    (command,) = manifest["features"]["slash_commands"]
    assert command["command"] == SLACK.command
    assert command["url"].endswith("/hooks/slack")
    for hint in command["usage_hint"].split(" | "):
        assert f"{SLACK.command} {hint}`" in SLACK.usage()
    assert manifest["oauth_config"]["scopes"] == {"bot": ["commands"]}
