"""The console in a real browser: `make browser` brings what drives it, and runs these.

Debian's Chromium, without a window. Each page is watched: a request to anywhere but this console fails the test.
"""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from aitems_bridge.record import State
from aitems_local import senders
from aitems_local.console.send import Asked
from aitems_local.console.server import Console
from aitems_local.stack import Stack

playwright = pytest.importorskip("playwright.sync_api", reason="there is no Playwright here: `make browser` brings it")
if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = Path(__file__).parent.parent / ".browser" / "axe.min.js"
MARKUP = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
SECONDS = 1_000

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium"),
    # Playwright's own event loop is closed by the interpreter, after pytest has looked.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def console(stack: Stack) -> Iterator[Console]:
    """Return the console of the shared stack."""
    with Console(stack) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Return Chromium."""
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def opened(browser: "Browser", console: Console) -> Iterator[Open]:
    """Return what opens the page; afterwards, whatever it asked for or complained about is judged."""
    contexts: list[Any] = []
    elsewhere: list[str] = []
    complaints: list[str] = []

    def note(request: Any) -> None:  # noqa: ANN401  Playwright's own
        if urlsplit(request.url).netloc != urlsplit(console.url).netloc:
            elsewhere.append(request.url)

    def complain(message: Any) -> None:  # noqa: ANN401  Playwright's own
        if message.type in ("error", "warning") and "ERR_" not in message.text:
            complaints.append(message.text)

    def open_(path: str = "/", *, width: int = 1280, height: int = 900, **settings: Any) -> "Page":  # noqa: ANN401
        context = browser.new_context(viewport={"width": width, "height": height}, **{"locale": "en-US"} | settings)
        context.set_default_timeout(15 * SECONDS)
        contexts.append(context)
        page = context.new_page()
        page.on("request", note)
        page.on("console", complain)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(console.url + path)
        if settings.get("java_script_enabled", True):
            page.wait_for_selector("#live.well")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert elsewhere == []
    assert complaints == []


def row(page: "Page", name: str) -> Any:  # noqa: ANN401  Playwright's locator
    """Return the newest request of a name."""
    return (
        page.locator("#list > li")
        .filter(has=page.locator(".name", has_text=re.compile(rf"^{re.escape(name)}(\s|$)")))
        .first
    )


def fill(page: "Page", name: str, *, door: str = "standard:backoffice", **fields: str) -> None:
    """Fill in the form."""
    page.select_option("#door", door)
    page.fill("#name", name)
    for field, value in fields.items():
        page.select_option(f"#{field}", value) if field == "fault" else page.fill(f"#{field}", value)


def kinds(page: "Page", name: str) -> list[str]:
    """Return the kinds of steps that are shown of a request that is unfolded."""
    row(page, name).locator(".way > li").first.wait_for()
    return [
        each.removeprefix("k-")
        for each in row(page, name).locator(".way > li").evaluate_all("e => e.map(x => x.className)")
    ]


def test_a_request_through_each_door_appears_with_its_whole_way(opened: Open, console: Console, name: str) -> None:
    """Sent with the form, it appears by itself, and ends with its announced outcome."""
    page = opened()
    doors = [door.value for door in console.desk.doors]
    assert len(doors) == 6
    for number, door in enumerate(doors):
        fill(page, f"{name}{number}", door=door)
        page.click("button.go")
        page.locator("#result .outcome").get_by_text(f"{name}{number}: ● created").wait_for()
    for number in range(len(doors)):
        asked = f"{name}{number}"
        event = row(page, asked).locator("details.event")
        row(page, asked).locator(".t-announced").wait_for(state="attached")
        row(page, asked).locator("summary").first.click()
        assert {"verified", "recorded", "posted", "settled", "announced"} <= set(kinds(page, asked))
        event.locator("summary").click()
        assert json.loads(event.locator("pre").inner_text())["detail"]["request"]["name"] == asked


def test_a_refused_one_says_why_and_what_to_do(opened: Open, name: str) -> None:
    """The answer's status, the reason in words, and the state beside the name."""
    page = opened()
    fill(page, name, fault="refused")
    page.click("button.go")
    page.locator("#result .status", has_text="422").wait_for()
    page.click("#result .to")
    shown = row(page, name)
    shown.locator(".state", has_text="rejected").wait_for()
    assert shown.locator("summary").first.evaluate("e => e === document.activeElement")
    assert "AiTEMS refuses this service" in shown.locator(".problem").inner_text()
    assert "under a new key" in shown.locator(".problem").inner_text()


def test_a_lost_answer_then_the_same_again(opened: Open, stack: Stack, name: str) -> None:
    """The fault switch: 202, unknown, looked for, found; sending the same again gets the answer of the record."""
    page = opened()
    fill(page, name, fault="lost")
    page.click("button.go")
    page.locator("#result .status", has_text="202").wait_for()
    shown = row(page, name)
    shown.locator(".state", has_text="unknown").wait_for()
    assert page.title().startswith("(")
    shown.locator(".tag", has_text="found").wait_for()
    page.click("#result .again button")
    page.get_by_text("the answer to the earlier request of that key").wait_for()
    assert len(stack.aitems.services_named(name)) == 1
    page.click("#result .to")
    assert kinds(page, name).count("posted") == 1
    assert "looked" in kinds(page, name)


def test_one_byte_changed_is_turned_away(opened: Open, name: str) -> None:
    """401, no request in the list, and one more at the door."""
    page = opened()
    fill(page, name)
    page.check("#forged")
    page.click("button.go")
    page.locator("#result .status", has_text="401").wait_for()
    page.locator(".refusals").wait_for()
    assert row(page, name).count() == 0


def test_a_fault_for_everybody_is_switched_on_and_off(opened: Open, console: Console) -> None:
    """What waits in the emulator is said beside the switch, as long as it waits."""
    page = opened()
    page.click(".standing > summary")
    page.select_option("#kind", "throttled")
    page.click("button[value=on]")
    page.locator(".armed", has_text="error_before").wait_for()
    page.click("button[value=off]")
    page.locator(".armed").wait_for(state="detached")
    assert console.watch.faults == ()


def test_by_keyboard_alone(opened: Open, name: str) -> None:
    """Tab, Enter, Space and letters only: skip the form, send, unfold, filter, change the appearance; focus is seen."""
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "requests"
    page.reload()
    page.wait_for_selector("#live.well")

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", f"the focus on {selector} is not seen"
                return
        pytest.fail(f"no Tab leads to {selector}")

    tab_to("#name")
    page.keyboard.press("Control+a")
    page.keyboard.type(name)
    tab_to("button.go")
    page.keyboard.press("Enter")
    page.locator("#result .outcome").wait_for()
    tab_to("#result .to")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('details').open")
    row(page, name).locator(".event").wait_for()
    tab_to(".event > summary")
    page.keyboard.press("Enter")
    row(page, name).locator("pre").first.wait_for()
    page.keyboard.press("Tab")
    page.reload()
    page.wait_for_selector("#live.well")
    tab_to("a[href*='to=dark']")
    page.keyboard.press("Enter")
    page.wait_for_selector("html[data-theme=dark]")
    page.wait_for_selector("#live.well")
    tab_to("a[data-state=rejected]")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?state=rejected")
    tab_to("#q")
    page.keyboard.type("no such request")
    page.get_by_text("No request fits.").wait_for()


def test_what_is_unfolded_and_focused_stays_so(opened: Open, console: Console, name: str) -> None:
    """While other requests come in, whoever reads or types is not disturbed."""
    console.desk.send(Asked("standard:backoffice", name))
    page = opened()
    row(page, name).locator("summary").first.click()
    row(page, name).locator(".event > summary").click()
    page.focus("#description")
    page.keyboard.type("half a sen")
    for number in range(5):
        console.desk.send(Asked("standard:backoffice", f"{name}-{number}"))
    console.desk.again(1)
    row(page, f"{name}-4").locator(".t-announced").wait_for(state="attached")
    page.keyboard.type("tence")
    assert page.input_value("#description") == "half a sentence"
    assert row(page, name).locator("details.event").evaluate("e => e.open")


def test_both_languages_and_both_appearances(opened: Open) -> None:
    """By the browser's wish, and by the switches, which are remembered."""
    page = opened(locale="ko-KR", color_scheme="dark")
    assert page.locator("html").get_attribute("lang") == "ko"
    page.get_by_role("button", name="서명하여 보내기").wait_for()
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.click("text=English")
    page.get_by_role("button", name="Sign and send").wait_for()
    page.click("a[href*='to=light']")
    page.wait_for_selector("html[data-theme=light]")
    assert page.evaluate(background) != dark
    page.reload()
    assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
def test_no_window_is_too_narrow(opened: Open, console: Console, locale: str, name: str) -> None:
    """Nothing is cut off or has to be pushed sideways, all of a request unfolded."""
    console.desk.send(Asked("standard:backoffice", name, "a-description-without-a-single-space-" * 2))
    page = opened(locale=locale)
    row(page, name).locator("summary").first.click()
    row(page, name).locator(".event > summary").click()
    page.evaluate("document.querySelectorAll('.send details').forEach(each => each.open = true)")
    beyond = "e => e.filter(x => x.getBoundingClientRect().right > innerWidth + 1).map(x => x.outerHTML.slice(0, 200))"
    for width in (320, 360, 768, 1100, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator("body *").evaluate_all(beyond) == []


@pytest.mark.parametrize(("scheme", "locale"), [("light", "en-US"), ("dark", "ko-KR")])
def test_nothing_stands_in_a_screen_readers_way(  # noqa: PLR0917  # fixtures
    opened: Open, stack: Stack, console: Console, scheme: str, locale: str, name: str
) -> None:
    """What axe-core knows of WCAG 2.2 AA, contrast too, with every state in the list and everything unfolded."""
    if not AXE.exists():
        why = "there is no axe-core here: `make browser` fetches it where there is npm"
        pytest.skip(why)  # it comes with npm only; no other test of this file needs it, and `make browser` says so
    console.desk.send(Asked("standard:backoffice", f"{name}-1"))
    console.desk.send(Asked("standard:backoffice", f"{name}-2", fault="refused"))
    unknown = console.desk.send(Asked("standard:backoffice", f"{name}-3", fault="cut"))
    failed = console.desk.send(Asked("standard:backoffice", f"{name}-4", fault="cut"))
    assert unknown.status == 202
    bury(stack, console, failed.request_id)
    page = opened(f"/?q={name}", locale=locale, color_scheme=scheme, reduced_motion="reduce")
    fill(page, f"{name}-5")
    page.click("button.go")
    page.locator("#result .outcome").wait_for()
    for summary in page.locator("summary").all():
        if summary.is_visible() and not summary.evaluate("e => e.parentNode.open"):
            summary.click()
    page.evaluate(AXE.read_text("utf-8"))
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = page.evaluate("tags => axe.run(document, {runOnly: tags})", tags)
    wrong = [(each["id"], [node["html"][:160] for node in each["nodes"]]) for each in found["violations"]]
    assert wrong == []
    assert len(found["passes"]) > 20


def bury(stack: Stack, console: Console, request_id: str) -> None:
    """Let a request in doubt be given up: its message ends among the dead letters."""
    console.watch.look()
    request = console.watch.find(request_id)
    assert request
    pointer = json.dumps({"request_id": request_id, "version": request.record.version})
    stack.cloud.sqs.send_message(QueueUrl=stack.outputs["DeadLetterQueueUrl"], MessageBody=pointer)
    deadline = time.monotonic() + 15
    while request.record.state is not State.FAILED:
        assert time.monotonic() < deadline
        console.watch.look()
        time.sleep(0.1)


def test_a_failed_one_names_the_commands(opened: Open, stack: Stack, console: Console, name: str) -> None:
    """What waits for a person is counted apart, and says what that person types."""
    sent = console.desk.send(Asked("standard:backoffice", name, fault="cut"))
    page = opened()
    row(page, name).locator(".state", has_text="unknown").wait_for()
    bury(stack, console, sent.request_id)
    row(page, name).locator(".state", has_text="failed").wait_for()
    page.click("a[data-state=failed]")
    row(page, name).locator("summary").first.click()
    said = row(page, name).locator(".problem").inner_text()
    assert f"resolve {sent.request_id[:12]}" in said
    assert "waits for a person" in said


def test_markup_from_outside_stays_text(opened: Open, console: Console, name: str) -> None:
    """No script of a description runs, nothing is fetched for it, and it is read as it was written."""
    page = opened()
    fill(page, name, description=MARKUP[:100])
    page.click("button.go")
    row(page, name).locator(".t-announced").wait_for(state="attached")
    console.desk.send(Asked("bus:com.acme.shop", MARKUP, MARKUP))
    page.locator(".name", has_text="(invalid)").first.wait_for()
    page.fill("#q", MARKUP)
    page.get_by_text("No request fits.").wait_for()
    page.fill("#q", name)
    row(page, name).locator("summary").first.click()
    assert MARKUP[:100] in row(page, name).locator(".facts").inner_text()
    assert "owned" not in page.title()
    assert page.locator("#list img, #list script").count() == 0


def test_the_page_connects_again_and_misses_nothing(opened: Open, console: Console, name: str) -> None:
    """The connection is cut, a request comes in meanwhile, and the page shows it without being loaded again."""
    page = opened()
    page.evaluate("window.loadedOnce = true")
    for ending in "ab":
        console.hang_up()
        console.desk.send(Asked("standard:backoffice", f"{name}{ending}"))
        row(page, f"{name}{ending}").locator(".t-announced").wait_for(state="attached")
        page.wait_for_selector("#live.well")
    assert page.evaluate("window.loadedOnce")


def test_without_javascript_all_is_readable_and_the_form_works(opened: Open, name: str) -> None:
    """The first sight is the server's, the form leads to a page, and a note says what does not happen by itself."""
    page = opened(java_script_enabled=False)
    assert page.locator("#live noscript").bounding_box()["width"] > 100  # it is seen, though not by text selectors
    page.fill("#name", name)
    page.click("button.go")
    page.locator("#result .status", has_text="201").wait_for()
    assert row(page, name).locator(".state", has_text="created").count() == 1
    page.click("a[data-state=rejected]")
    assert urlsplit(page.url).query == "state=rejected"


def test_many_requests_leave_the_page_quick(opened: Open, stack: Stack, console: Console, name: str) -> None:
    """Many at once: only so many rows stand in the page, more on demand, and typing is answered meanwhile."""
    page = opened()
    for number in range(60):
        senders.bus_event(stack.document, senders.service(f"{name}-{number}")).send()
    page.focus("#description")
    begun = time.monotonic()
    page.keyboard.type("as quick as ever")
    assert page.input_value("#description") == "as quick as ever"
    assert time.monotonic() - begun < 5
    page.fill("#q", name)
    page.locator(".shown", has_text="50 of 60").wait_for(timeout=60 * SECONDS)
    assert page.locator("#list > li").count() == 50
    page.click("a.more")
    page.locator(".shown", has_text="60 of 60").wait_for()
    assert page.locator("#list > li").count() == 60
    settled = page.locator("#list details[data-state=created]")
    playwright.expect(settled).to_have_count(60, timeout=90 * SECONDS)
    assert console.watch.made_twice == 0
