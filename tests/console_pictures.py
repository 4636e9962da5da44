"""Pictures of the console, to be looked at: `make browser PICTURES=1`, or with a folder to put all of them into.

Everything in them happens: a stack of its own is started, and really made to fail.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from aitems_bridge.record import State
from aitems_local import senders
from aitems_local.console.send import Asked, Sent
from aitems_local.console.server import Console
from aitems_local.stack import Stack
from test_console_browser import ARGUMENTS, CHROMIUM

KEPT = ("console-light", "console-dark")
"""Those that the documents show."""
STORM = 1_000
WIDE = {"width": 1280, "height": 860}


def main(folder: Path, *, everything: bool) -> None:
    """Make the pictures that are kept, or everything there is to see."""
    with Stack.start() as stack, Console(stack) as console, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)

        @contextmanager
        def page(viewport: dict[str, int] | None = None, **settings: str) -> Iterator[Page]:
            options: dict[str, Any] = {"viewport": viewport or WIDE, "locale": "en-US"} | settings
            context = browser.new_context(**options)
            opened = context.new_page()
            opened.goto(console.url)
            opened.wait_for_selector("#live.well")
            yield opened
            context.close()

        def picture(name: str, shown: Page, *, whole: bool = False) -> None:
            if everything or name in KEPT:
                shown.wait_for_timeout(600)
                path = folder / f"{name}.png"
                shown.screenshot(path=path, full_page=whole)
                if small := shutil.which("pngquant"):  # a third of the size, and nobody sees it
                    subprocess.run([small, "--force", "--strip", "--output", path, "64", path], check=True)  # noqa: S603

        if everything:
            with page() as idle:
                picture("idle", idle)
        _ask(stack, console)
        for scheme in ("light", "dark"):
            with page(color_scheme=scheme) as shown:
                _unfold(shown, "shop-lost")
                picture(f"console-{scheme}", shown)
        if everything:
            _rest(stack, console, page, picture)
        browser.close()


def _ask(stack: Stack, console: Console) -> None:
    """Ask through each door, and let one answer be lost."""
    for door, name, said in (
        ("standard:backoffice", "shop-main", "봄 시즌 추천"),
        ("bus:com.acme.shop", "blog-main", ""),
        ("github:deploys", "ci-models", "from a deployment"),
        ("hmac:shopfront", "shop-shoes", "신발 추천"),
        ("slack:slack", "try-chat", "from a chat"),
        ("works:works", "try-works", "웍스에서"),
        ("standard:backoffice", "shop-main", "the name is taken by now"),
    ):
        console.desk.send(Asked(door, name, said))
    console.desk.send(Asked("standard:backoffice", "shop-lost", "the answer was lost", fault="lost"))
    console.desk.send(Asked("standard:backoffice", "shop-fake", forged=True))
    stack.journal.wait(lambda event: event.event["detail"]["request"]["name"] == "shop-lost", 30)
    time.sleep(2)


def _rest(stack: Stack, console: Console, page: Callable[..., Any], picture: Callable[..., None]) -> None:
    with page() as shown:
        shown.fill("#name", "shop-dark")
        shown.select_option("#fault", "cut")
        shown.click("button.go")
        shown.locator("#result .status").wait_for()
        _unfold(shown, "shop-dark")
        picture("unknown", shown, whole=True)
    _fail(stack, console, console.desk.send(Asked("standard:backoffice", "shop-gone", fault="cut")))
    for name, settings in (("failed", {}), ("failed-korean-dark", {"locale": "ko-KR", "color_scheme": "dark"})):
        with page(**settings) as shown:
            _unfold(shown, "shop-gone")
            picture(name, shown, whole=True)
    with page({"width": 360, "height": 780}, locale="ko-KR") as shown:
        _unfold(shown, "shop-lost")
        picture("narrow-korean", shown, whole=True)
    with page({"width": 360, "height": 780}) as shown:
        picture("narrow", shown, whole=True)
    with page({"width": 820, "height": 1100}) as shown:
        _unfold(shown, "shop-main")
        picture("medium", shown)
    with page() as shown:
        shown.evaluate(_MEASURE)
        begun = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            storm = pool.submit(_storm, stack)
            shown.wait_for_timeout(6000)
            picture("storm", shown)
            storm.result()
        seconds = time.monotonic() - begun
        while console.watch.counts[State.CREATED] < STORM and time.monotonic() - begun < 300:
            shown.wait_for_timeout(250)
        picture("storm-after", shown)
        took = f"sent in {seconds:.1f} s, created in {time.monotonic() - begun:.1f} s"
        print(took, shown.evaluate("measured"))  # noqa: T201  it measures, too


_MEASURE = """() => {
    window.measured = {longest: 0, long: 0, frames: 0, worst: 0};
    new PerformanceObserver(list => { for (const each of list.getEntries()) {
        measured.long += 1; measured.longest = Math.max(measured.longest, each.duration); } })
        .observe({entryTypes: ["longtask"]});
    let before = performance.now();
    (function frame(now) { measured.frames += 1; measured.worst = Math.max(measured.worst, now - before);
        before = now; requestAnimationFrame(frame); })(before);
}"""


def _storm(stack: Stack) -> None:
    producer, bus = stack.document.as_producer().events, stack.outputs["EventBusName"]
    details = [json.dumps({"name": f"storm-{number}", "idempotency_key": f"storm-{number}"}) for number in range(STORM)]
    for begin in range(0, STORM, 10):
        entries: list[Any] = [
            {"Source": senders.PRODUCER, "DetailType": senders.REQUESTED, "Detail": detail, "EventBusName": bus}
            for detail in details[begin : begin + 10]
        ]
        producer.put_events(Entries=entries)


def _fail(stack: Stack, console: Console, sent: Sent) -> None:
    request = console.watch.find(sent.request_id)
    assert request
    pointer = json.dumps({"request_id": sent.request_id, "version": request.record.version})
    stack.cloud.sqs.send_message(QueueUrl=stack.outputs["DeadLetterQueueUrl"], MessageBody=pointer)
    while request.record.state is not State.FAILED:
        console.watch.look()
        time.sleep(0.2)
    time.sleep(1)


def _unfold(shown: Page, name: str) -> None:
    shown.locator("#list > li > details > summary").filter(has_text=name).first.click()


if __name__ == "__main__":
    main(Path(sys.argv[1]), everything=sys.argv[2:] == ["all"])
