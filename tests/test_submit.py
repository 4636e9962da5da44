"""Bulk: a file is checked whole before anything is sent, and no kill at any moment makes two of one row, or none."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from aitems_bridge.bridge import Order
from aitems_bridge.errors import Problem
from aitems_bridge.ledger import Ledger, image_of
from aitems_bridge.record import Record, State
from aitems_local.cli import OK, USAGE, main
from aitems_local.cloud import ACCOUNT, REGION, StackError, UsageError
from aitems_local.document import ROOT
from aitems_local.stack import Stack
from aitems_local.submit import Standing, Submission, order_of, putting, records
from aitems_local.submit_results import WAITING, Result, ResultFile
from aitems_local.submit_rows import Row, Sheet, derived_key, read, read_bytes

SOURCE = "com.acme.bulk"
HEADER = "name,description,type\n"
SHOP_A = {"name": "shop-a", "description": "", "type": "batch"}


def told(sheet: Sheet) -> list[tuple[int, str]]:
    """Return what is wrong with a file: the line, and the sentence."""
    return [(fault.line, str(fault)) for fault in sheet.faults]


def csv_of(text: str, encoding: str = "utf-8") -> Sheet:
    """Return what a CSV file of that text asks for."""
    return read_bytes(text.encode(), ".csv", encoding)


# --- rows ---------------------------------------------------------------------------------------------------------


def test_rows_are_read() -> None:
    """A header names the columns in any order and case; spaces around a value, and lines without one, say nothing."""
    sheet = csv_of('Type, NAME ,description,\r\ninterval, shop-a ," 봄, 여름",\r\n\r\n,,,\r\n,shop-b,,\r\n')
    assert told(sheet) == []
    assert [(row.line, row.command) for row in sheet.rows] == [
        (2, {"name": "shop-a", "description": "봄, 여름", "type": "interval"}),
        (5, {"name": "shop-b", "description": "", "type": "batch"}),
    ]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_spreadsheets_of_other_countries_are_read(delimiter: str) -> None:
    """What stands between the columns of the header stands between the values."""
    sheet = csv_of(delimiter.join(["name", "description"]) + "\n" + delimiter.join(["shop-a", "a, b"]))
    assert [row.command["description"] for row in sheet.rows] == ["a, b"]


def test_lines_are_counted_over_quoted_ends() -> None:
    """A value may go over lines; what is wrong after it is told with the line it begins on."""
    assert told(csv_of(HEADER + 'shop-a,"one\ntwo\nthree",\nx,,\n')) == [
        (5, "name: 'x' has 1 character; 3 to 20 are needed")
    ]


def test_korean_excel_is_recognised() -> None:
    """CP949 is not guessed at: it is told, and read where it is said."""
    content = "name,description\nshop-a,봄 시즌 추천\n".encode("cp949")
    (fault,) = read_bytes(content, ".csv").faults
    assert (fault.line, "--encoding cp949" in fault.detail, "CSV UTF-8" in fault.detail) == (2, True, True)
    assert read_bytes(content, ".csv", "cp949").rows[0].command["description"] == "봄 시즌 추천"
    assert read_bytes("\ufeffname\nshop-a\n".encode(), ".csv", "cp949").rows[0].name == "shop-a"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "the file is empty"),
        ("\n\n", 1, "the file is empty"),
        ("name\n", 1, "there is no row in it"),
        ("shop-a,x\nshop-b,y\n", 1, "there is no header"),
        ("shop-a|x\n", 1, "there is no header"),
        ("nmae\nshop-a\n", 1, "there is no header"),
        ("nmae,type\nshop-a,batch\n", 1, "did you mean name?"),
        ("name,colour\nshop-a,red\n", 1, "it can be one of name, description, type, key"),
        ("name,name\nshop-a,shop-b\n", 1, "is there twice"),
        ("name,key,idempotency_key\nshop-a,a,b\n", 1, "is there twice"),
        (HEADER + "shop-a,a, b\n", 2, "type: 'b' is not one of batch, interval"),
        (HEADER + "shop-a,one, two,batch\n", 2, "in double quotes"),
        (HEADER + 'shop-a,"open,\nshop-b,,\n', 2, "is a quote left open"),
        (HEADER + "shop-a,,\nshop-b,,\nshop-a,x,\n", 4, "stands on line 2 too"),
        ("name,key\nshop-a,k\nshop-b,k\n", 3, "each row needs a key of its own"),
        (f"name,key\nshop-a,\nshop-b,{derived_key(SHOP_A)}\n", 3, "is that of line 2 too"),
        ("name,key\nshop-a,열쇠\n", 2, "printable ASCII"),
        (HEADER + "1abc,,\n", 2, "starts with a digit"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, says: str) -> None:
    """Whatever can be wrong with a CSV file is told with its line and the remedy, and no row of it is sent."""
    faults = told(csv_of(text))
    assert any(at == line and says in sentence for at, sentence in faults), faults


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('{"name": "shop-a"}\n\n{"name": "shop-b",}\n', 3, "at character 19"),
        ('{"name": "shop-a", "name": "shop-b"}', 1, "'name' is there twice"),
        ('{"name": "shop-a", "key": "a", "idempotency_key": "b"}', 1, "is there twice, as"),
        ('{"name": "shop-a", "descripton": ""}', 1, "did you mean description?"),
        ('{"name": 7}', 1, "is not a string"),
        ('{"name": "shop-a", "key": 7}', 1, "printable ASCII"),
        ('["shop-a"]', 1, "is no object"),
        ("[\n{}\n]", 1, "one JSON list"),
        ('{"name": NaN}', 1, "is no JSON"),
        ("[" * 100_000, 1, "is no JSON"),
        ("", 1, "there is no row in it"),
    ],
)
def test_what_is_wrong_with_json_lines_is_told(text: str, line: int, says: str) -> None:
    """The same for a file with one JSON object a line, with the character where it cannot be read."""
    faults = told(read_bytes(text.encode(), ".jsonl"))
    assert any(at == line and says in sentence for at, sentence in faults), faults


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A sheet that was not exported is no broken CSV: the remedy is another one."""
    with pytest.raises(UsageError, match="CSV UTF-8"):
        read(tmp_path / "shops.xlsx")
    with pytest.raises(StackError, match="No such file"):
        read(tmp_path / "shops.csv")
    (fault,) = read_bytes(HEADER.encode("utf-16"), ".csv").faults
    assert "UTF-16" in fault.detail
    (fault,) = read_bytes(b"name\n\xff\xfe\xff\n", ".csv").faults
    assert (fault.line, "0xff" in fault.detail) == (2, True)


def test_the_example_is_in_order() -> None:
    """What a newcomer tries first asks for five services."""
    sheet = read(ROOT / "docs" / "examples" / "services.csv")
    assert (len(sheet.rows), sheet.faults) == (5, [])


def test_a_key_is_made_of_the_row_alone() -> None:
    """The same row has the same key in another file, on another line, in another notation; another row another one."""
    table = csv_of("name,description\nshop-b,\nshop-a,가을\n").rows[1]
    lines = read_bytes('{"description": "\u1100\u1161을", "name": "shop-a", "type": "batch"}'.encode(), ".jsonl").rows[
        0
    ]
    assert table.key == lines.key == derived_key({"name": "shop-a", "description": "가을", "type": "batch"})
    assert table.key != derived_key({"name": "shop-a", "description": "가을", "type": "interval"})


@given(st.lists(st.text(), max_size=5), st.sampled_from([".csv", ".jsonl"]))
def test_any_text_is_read(lines: list[str], kind: str) -> None:
    """Whatever stands in a file: it has rows, or faults on lines that it has; it is never a traceback."""
    content = "\n".join(["name,description" if kind == ".csv" else '{"name": "shop-a"}', *lines])
    sheet = read_bytes(content.encode("utf-8", "surrogatepass"), kind)
    assert sheet.rows or sheet.faults
    assert all(1 <= fault.line <= len(io.StringIO(content, newline="").readlines()) + 1 for fault in sheet.faults)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.text(st.characters(codec="utf-8"), max_size=100)), max_size=8))
def test_what_a_spreadsheet_writes_is_read(services: list[tuple[int, str]]) -> None:
    """Values survive the way through CSV: quotes, separators and line ends in them as well."""
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(["name", "description"])
    asked = {f"shop-{number}": description for number, description in services}
    rows.writerows(asked.items())
    sheet = csv_of(text.getvalue())
    lines = [{"name": name, "description": description.strip()} for name, description in asked.items()]
    same = read_bytes("\n".join(map(json.dumps, lines)).encode(), ".jsonl")
    assert [row.key for row in sheet.rows] == [row.key for row in same.rows]


# --- results ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shops.csv", "shops.jsonl"])
def test_the_last_line_about_a_row_holds(tmp_path: Path, name: str) -> None:
    """What was appended counts, and a line that a kill broke off does not."""
    results = ResultFile(tmp_path / name)
    waiting = [Result(line, f"shop-{line}", f"k{line}", f"r{line}") for line in (2, 3)]
    assert results.read() == []
    results.write(waiting)
    created = replace(waiting[0], state="created", service_id="s", detail='said "so", 봄')
    results.append([created])
    with results.path.open("ab") as file:
        file.write(results.path.read_bytes().splitlines()[-1][:-9])
    assert results.read() == [created, waiting[1]]
    assert sorted(path.name for path in tmp_path.iterdir()) == [results.path.name]


@pytest.mark.parametrize("name", ["shops.csv", "shops.jsonl"])
def test_whatever_a_problem_says_is_written(tmp_path: Path, name: str) -> None:
    """Half of a surrogate pair, which no file takes as it is: the other rows are told all the same."""
    results = ResultFile(tmp_path / name)
    told = Result(2, "shop-2", "k", "r", "rejected", "", "refused-by-aitems", "said \ud83d, \x00 and \u2028 too")
    results.write([told])
    results.append([told])
    (read_back,) = results.read()
    assert read_back.detail.startswith("said ")


def test_a_foreign_result_file_is_left_alone(tmp_path: Path) -> None:
    """What somebody else wrote under that name is not written over."""
    (tmp_path / "shops.result.csv").write_text("a,b\n1,2\n")
    with pytest.raises(StackError, match="move it away"):
        ResultFile(tmp_path / "shops.csv").read()


# --- the run, with a bridge in memory -----------------------------------------------------------------------------


class Bus:
    """A bridge in memory: settles what it was sent ``after`` so many looks, and is told what to refuse."""

    def __init__(self, *, after: int = 1, errors: Sequence[str] = ()) -> None:
        self.after, self.errors = after, iter(errors)
        self.sent: list[str] = []
        self.most_open = 0
        self.known: dict[str, Record] = {}
        self._open: dict[str, int] = {}

    def put(self, rows: Sequence[Row]) -> list[str]:
        """Take rows, but those for which there is an error."""
        errors = [next(self.errors, "") for _ in rows]
        for row, error in zip(rows, errors, strict=True):
            if not error:
                self.sent.append(row.name)
                order = order_of(row, SOURCE, ACCOUNT)
                self.known.setdefault(order.request_id, record(order, State.RECEIVED))
                if not self.known[order.request_id].state.final:
                    self._open[order.request_id] = self.after
        self.most_open = max(self.most_open, len(self._open))
        return errors

    def look(self, ids: Sequence[str]) -> dict[str, Record]:
        """Return what is known of these, a look later."""
        for each in list(self._open):
            self._open[each] -= 1
            if self._open[each] <= 0:
                del self._open[each]
                self.known[each] = replace(self.known[each], state=State.CREATED, service_id=f"s-{each[:5]}")
        return {each: self.known[each] for each in ids if each in self.known}


def record(order: Order, state: State) -> Record:
    """Return a request as the ledger has it."""
    problem = Problem("outcome-unknown", "lost") if state is State.FAILED else None
    return Record(
        order.request_id, 1, state, "bus", order.scope, order.key, SOURCE, None, order.command, order.payload_hash,
        0, 0,
        problem=problem, gave_up=int(state is State.FAILED),
    )  # fmt: skip


def rows_of(number: int) -> list[Row]:
    """Return so many rows."""
    return csv_of("name\n" + "".join(f"shop-{each}\n" for each in range(number))).rows


@pytest.fixture
def submission(tmp_path: Path) -> Callable[..., Submission]:
    """Return what makes a run of rows over a bus, whose clock goes on by sleeping only."""

    def make(rows: Sequence[Row], bus: Bus, *, at_once: int = 25) -> Submission:
        now = [0.0]
        orders = {(order := order_of(row, SOURCE, ACCOUNT)).request_id: order for row in rows}
        standing = Standing(rows, orders, {each: bus.known[each] for each in orders if each in bus.known})
        file = ResultFile(tmp_path / "shops.csv")
        file.write(standing.results.values())

        def sleep(seconds: float) -> None:
            now[0] += seconds

        return Submission(standing, bus.put, bus.look, file, at_once, 60, lambda: now[0], sleep)

    return make


def test_no_more_are_open_than_allowed(submission: Callable[..., Submission]) -> None:
    """However many rows: the rest waits here until some are settled, and each is sent once."""
    bus, rows = Bus(after=3), rows_of(95)
    run = submission(rows, bus)
    run.run()
    assert (bus.most_open, bus.sent) == (25, [row.name for row in rows])
    assert [result.state for result in run.results.read()] == ["created"] * 95


def test_what_the_bus_refused_is_put_again(submission: Callable[..., Submission]) -> None:
    """PutEvents takes some entries and throttles others: those alone are put again."""
    bus = Bus(errors=["", "ThrottlingException", ""] * 9)
    run = submission(rows_of(20), bus)
    run.run()
    assert sorted(bus.sent) == sorted(row.name for row in rows_of(20))
    assert not run.standing.unsettled


def test_a_bus_that_takes_nothing_ends_it(submission: Callable[..., Submission]) -> None:
    """It is tried for a while, and then said."""
    with pytest.raises(StackError, match="took nothing in 10 tries: ThrottlingException"):
        submission(rows_of(1), Bus(errors=["ThrottlingException"] * 99)).run()


def test_what_is_not_settled_in_time_is_left_open(submission: Callable[..., Submission]) -> None:
    """A bridge that stands still keeps nobody here for ever; the rest was not sent."""
    bus = Bus(after=10**9)
    run = submission(rows_of(60), bus)
    run.run()
    assert (len(bus.sent), len(run.standing.unsettled)) == (25, 60)


def test_what_is_known_is_not_sent_again(submission: Callable[..., Submission]) -> None:
    """What is settled is left alone, what is open is waited for; what failed is sent, which revives it."""
    bus, rows = Bus(), rows_of(4)
    orders = [order_of(row, SOURCE, ACCOUNT) for row in rows]
    states = [State.CREATED, State.RECEIVED, State.FAILED]
    bus.known = {order.request_id: record(order, state) for order, state in zip(orders, states, strict=False)}
    run = submission(rows, bus)
    assert [result.state for result in run.standing.results.values()] == ["created", "received", "failed", WAITING]
    assert len(run.standing.unsettled) == 3
    bus._open = {orders[1].request_id: 2}  # noqa: SLF001  somebody works on it
    run.run()
    assert bus.sent == ["shop-2", "shop-3"]
    assert {result.state for result in run.results.read()} == {"created"}


def test_what_fails_again_is_told(submission: Callable[..., Submission]) -> None:
    """The record of an old failure is not taken for the answer; that of a new one is."""
    (row,) = rows_of(1)
    order = order_of(row, SOURCE, ACCOUNT)
    bus = Bus(after=10**9)
    bus.known = {order.request_id: record(order, State.FAILED)}
    run = submission([row], bus)
    assert run.standing.see(order.request_id, bus.known[order.request_id]) is False
    again = replace(bus.known[order.request_id], gave_up=2)
    assert run.standing.see(order.request_id, again) is True
    assert not run.standing.unsettled


def test_a_key_of_another_request_is_never_taken_for_the_rows(submission: Callable[..., Submission]) -> None:
    """The ledger's record of a reused key tells of somebody else's service."""
    (row,) = rows_of(1)
    order = order_of(row, SOURCE, ACCOUNT)
    bus = Bus()
    bus.known = {order.request_id: replace(record(order, State.CREATED), payload_hash="another", service_id="theirs")}
    run = submission([row], bus)
    ((told_row, why),) = run.standing.reused
    assert (told_row, "Give the row another key" in why) == (row, True)
    assert [(result.state, result.service_id) for result in run.standing.results.values()] == [("rejected", "")]


class Client:
    """EventBridge's client in memory: what it says to each entry, or raises."""

    def __init__(self, *said: str | Exception) -> None:
        self.said = said
        self.entries: list[dict[str, str]] = []

    def put_events(self, *, Entries: list[dict[str, str]]) -> dict[str, object]:  # noqa: N803  as boto3 has it
        """Take some entries and refuse others, as `FailedEntryCount` says."""
        self.entries = Entries
        for each in self.said:
            if isinstance(each, Exception):
                raise each
        answers = [{"ErrorCode": each, "ErrorMessage": "no"} if each else {"EventId": "1"} for each in self.said]
        return {"FailedEntryCount": sum(map(bool, self.said)), "Entries": answers}


def put(client: Client, number: int) -> list[str]:
    """Put so many rows on the bus behind that client."""
    return list(putting(cast("Any", client), "bus", SOURCE)(rows_of(number)))


def test_entries_are_answered_one_by_one() -> None:
    """A call that is answered 200 may have taken some entries only: the rest are told apart, by their place."""
    client = Client("", "ThrottlingException", "", "InternalFailure")
    assert put(client, 4) == ["", "ThrottlingException no", "", "InternalFailure no"]
    assert client.entries[1] == {
        "EventBusName": "bus",
        "Source": SOURCE,
        "DetailType": "AiTEMS Service Creation Requested",
        "Detail": json.dumps(rows_of(4)[1].detail),
    }


@pytest.mark.parametrize("code", ["ThrottlingException", "ServiceUnavailable"])
def test_a_call_that_failed_is_made_again(code: str) -> None:
    """Throttling, and a lost answer: what was taken after all is the same request."""
    error = ClientError({"Error": {"Code": code, "Message": "later"}}, "PutEvents")
    assert all(put(Client(error), 2))
    assert all(put(Client(EndpointConnectionError(endpoint_url="https://events")), 2))


class Table:
    """DynamoDB's client in memory, which answers for so many items a call and leaves the rest for the next."""

    def __init__(self, known: Sequence[Record], most: int) -> None:
        self.items = {f"request#{each.id}": image_of(each) for each in known}
        self.most = most
        self.asked: list[int] = []

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803  as boto3 has it
        """Return some of what is asked for."""
        ((table, asked),) = RequestItems.items()
        keys = asked["Keys"]
        self.asked.append(len(keys))
        found = [self.items[each["pk"]["S"]] for each in keys[: self.most] if each["pk"]["S"] in self.items]
        rest = keys[self.most :]
        left = {table: {"Keys": rest, "ConsistentRead": asked["ConsistentRead"]}} if rest else {}
        return {"Responses": {table: found}, "UnprocessedKeys": left}


def test_the_ledger_may_answer_in_parts() -> None:
    """A hundred ids a call at most, and what DynamoDB leaves is asked for once more; unknown ids are left out."""
    orders = [order_of(row, SOURCE, ACCOUNT) for row in rows_of(105)]
    known = [record(order, State.CREATED) for order in orders[:101:25]]
    for most, asked in ((40, [100, 60, 20, 5]), (100, [100, 5])):
        table = Table(known, most)
        found = records(Ledger(cast("Any", table), "ledger"), [order.request_id for order in orders])
        assert (found, table.asked) == ({each.id: each for each in known}, asked)


def test_a_bus_that_refuses_is_not_asked_again() -> None:
    """What no repetition mends ends the run at once."""
    with pytest.raises(StackError, match="the event bus bus refuses a row: NotAuthorizedForSourceException no"):
        put(Client("", "NotAuthorizedForSourceException"), 2)
    with pytest.raises(ClientError):
        put(Client(ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "PutEvents")), 1)


# --- the command, with the bridge on this machine -----------------------------------------------------------------


class Shell:
    """The command line in a folder, with a stack that left word there."""

    def __init__(self, folder: Path, stack: Stack) -> None:
        self.folder = folder
        stack.document.save(folder / "state")
        self._environment = os.environ | {"AITEMS_BRIDGE_FOLDER": str(folder / "state"), "NO_COLOR": "1"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `aitems-bridge submit`."""
        return subprocess.Popen(  # noqa: S603  our own command
            [sys.executable, "-m", "aitems_local.cli", "submit", *arguments],
            cwd=self.folder, env=self._environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run it to its end; return the exit code and what it wrote."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def write(self, name: str, names: Sequence[str]) -> Path:
        """Write a file that asks for services."""
        path = self.folder / name
        path.write_text(HEADER + "".join(f"{each},봄 추천,batch\n" for each in names), "utf-8")
        return path


@pytest.fixture
def shell(tmp_path: Path, stack: Stack) -> Shell:
    """Return the command line beside the shared stack."""
    return Shell(tmp_path, stack)


def test_a_run_that_is_killed_again_and_again_makes_each_service_once(shell: Shell, stack: Stack, name: str) -> None:
    """SIGKILL in the middle, several times, then to the end: a service, a request and an outcome a row, none twice."""
    rows, kills = int(os.environ.get("SUBMIT_ROWS", "150")), 3
    names = [f"{name}-{number:05}" for number in range(rows)]
    path = shell.write("shops.csv", names)
    results = ResultFile(path)
    for kill in range(kills):
        process = shell.start("shops.csv", *(["--resume"] * bool(kill)), "--at-once", "20")
        wanted, deadline = rows * (kill + 1) // (kills + 2), time.monotonic() + 60
        while sum(each.settled for each in results.read()) < wanted and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    code, out, err = shell.run("shops.csv")
    assert (code, out, "--resume" in err) == (2, "", True), out + err
    code, out, err = shell.run("shops.csv", "--resume")
    assert code == 0, out + err
    assert f"{rows:,} rows: {rows:,} created" in out
    told = results.read()
    assert [(each.name, each.state) for each in told] == [(each, "created") for each in names]
    made = Counter(service.made_as for service in stack.aitems.services if service.made_as.startswith(name))
    assert made == Counter(names)
    recorded = [each for each in stack.ledger.scan() if each.name.startswith(name)]
    assert sorted(each.id for each in recorded) == sorted(each.request_id for each in told)
    ids = {each.request_id for each in told}
    deadline = time.monotonic() + 30
    while len(announced := [each for each in stack.events() if each.metadata["request_id"] in ids]) < rows:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len({each.metadata["event_id"] for each in announced}) == rows
    assert {each.kind for each in announced} == {"AiTEMS Service Created"}
    code, out, _ = shell.run("shops.csv")
    assert (code, "submitted in full before" in out) == (0, True)


def test_fifty_bad_rows_are_told_and_nothing_is_sent(shell: Shell, stack: Stack, name: str) -> None:
    """All of them with their lines, exit code 1, no result file, and nothing in the ledger."""
    good, bad = [f"{name}-{number}" for number in range(50)], [f"{number}-bad" for number in range(50)]
    shell.write("shops.csv", [each for pair in zip(good, bad, strict=True) for each in pair])
    code, out, err = shell.run("shops.csv")
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == [f"shops.csv:{line}" for line in range(3, 102, 2)]
    assert lines[-1].startswith("50 lines are wrong (the file has 100 rows). Nothing was sent")
    assert not (shell.folder / "shops.result.csv").exists()
    assert not [each for each in stack.ledger.scan() if each.name.startswith(name)]
    code, out, _ = shell.run("shops.csv", "--json")
    assert [json.loads(line)["line"] for line in out.splitlines()] == list(range(3, 102, 2))


def test_what_became_of_each_row_is_told(shell: Shell, name: str) -> None:
    """A name that is taken is rejected in its line; the rest is created; machines read the same as the result file."""
    (shell.folder / "earlier.jsonl").write_text(json.dumps({"name": f"{name}-1", "type": "interval"}))
    assert shell.run("earlier.jsonl")[0] == 0
    shell.write("shops.csv", [f"{name}-0", f"{name}-1"])
    code, out, _ = shell.run("shops.csv", "--dry-run")
    assert (code, "2 rows in order: 2 to be sent." in out) == (0, True)
    assert not (shell.folder / "shops.result.csv").exists()
    code, out, err = shell.run("shops.csv", "--json")
    assert (code, f"shops.csv:3  {name}-1  rejected: " in err) == (1, True), err
    told = [json.loads(line) for line in out.splitlines()]
    assert [(each["line"], each["state"], each["problem"]) for each in told] == [
        (2, "created", ""),
        (3, "rejected", "duplicate-name"),
    ]
    assert told == [json.loads(each.json()) for each in ResultFile(shell.folder / "shops.csv").read()]


def test_a_file_that_changed_is_noticed(shell: Shell, name: str) -> None:
    """Between two runs of one file: what is gone and what is new, and how to go on."""
    shell.write("shops.csv", [f"{name}-0", f"{name}-1"])
    assert shell.run("shops.csv")[0] == 0
    shell.write("shops.csv", [f"{name}-0", f"{name}-2"])
    code, _, err = shell.run("shops.csv", "--resume")
    assert code == 2
    assert f"1 of its rows gone (line 3 {name}-1), 1 new (line 3 {name}-2)" in err
    code, _, err = shell.run("shops.csv", "--source", "com.acme.other")
    assert (code, "of another file, --source or account" in err) == (2, True)
    (shell.folder / "shops.result.csv").unlink()
    code, out, _ = shell.run("shops.csv")
    assert (code, "1 of 2 rows were asked for before" in out) == (0, True)


def test_results_of_another_bridge_are_noticed(shell: Shell, stack: Stack, name: str) -> None:
    """What the result file calls settled and the ledger does not know was settled elsewhere, or was forgotten."""
    path = shell.write("shops.csv", [name])
    (row,) = read(path).rows
    order = order_of(row, "aitems-bridge.submit", ACCOUNT)
    ResultFile(path).write([Result(row.line, row.name, row.key, order.request_id, State.CREATED, "s")])
    code, _, err = shell.run("shops.csv", "--resume")
    assert (code, "the ledger does not know: it is of another bridge" in err) == (2, True), err
    assert stack.ledger.get(order.request_id) is None


def test_a_reused_key_is_a_wrong_row(shell: Shell, name: str) -> None:
    """A key that another request has is told before anything is sent."""
    (shell.folder / "one.jsonl").write_text(json.dumps({"name": f"{name}-0", "key": name}))
    assert shell.run("one.jsonl")[0] == 0
    (shell.folder / "two.jsonl").write_text(json.dumps({"name": f"{name}-1", "key": name}))
    code, out, _ = shell.run("two.jsonl")
    assert (code, "two.jsonl:1  key: The key was used for another request" in out) == (1, True)


def test_ctrl_c_says_how_to_go_on(shell: Shell, name: str) -> None:
    """What was sent is not taken back, and the command to go on with can be typed."""
    shell.write("shops.csv", [f"{name}-{number:04}" for number in range(400)])
    process = shell.start("shops.csv", "--at-once", "20")
    while not [each for each in ResultFile(shell.folder / "shops.csv").read() if each.settled]:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, "submit shops.csv --resume" in err) == (130, True), err


def test_two_at_once_on_one_file_are_one_too_many(shell: Shell, name: str) -> None:
    """The second says so; the first one's end lets go of the file, however it ends."""
    shell.write("shops.csv", [f"{name}-{number:04}" for number in range(400)])
    process = shell.start("shops.csv", "--at-once", "10")
    while not ResultFile(shell.folder / "shops.csv").read():
        assert process.poll() is None
        time.sleep(0.01)
    code, _, err = shell.run("shops.csv", "--resume")
    process.kill()
    process.communicate()
    assert (code, "is being submitted by another process" in err) == (3, True)
    assert shell.run("shops.csv", "--dry-run", "--resume")[0] == 0


def test_without_a_bridge_the_file_is_checked(tmp_path: Path) -> None:
    """A dry run needs nothing that runs; a real one says what to start."""
    (tmp_path / "shops.csv").write_text("name\nshop-a\n")
    environment = os.environ | {"AITEMS_BRIDGE_FOLDER": str(tmp_path / "none")}
    for arguments, code in ((["--dry-run"], 0), ([], 3)):
        ran = subprocess.run(  # noqa: S603  our own command
            [sys.executable, "-m", "aitems_local.cli", "submit", "shops.csv", *arguments],
            cwd=tmp_path, env=environment, text=True, capture_output=True, check=False,
        )  # fmt: skip
        assert (ran.returncode, "no local stack is running" in ran.stdout + ran.stderr) == (code, True)


def test_a_deployed_bridge_takes_rows_from_whom_the_handbook_says(
    stack: Stack, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stack known by its name, the three permissions of docs/bulk.md and no other; its `RequestSources` first."""
    with stack.deploy(f"far{name}", parameters={"RequestSources": "com.acme.shop,com.acme.bulk"}) as far:
        table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{far.outputs['LedgerTable']}"
        allowed = {
            "cloudformation:DescribeStacks": "*",
            "events:PutEvents": far.outputs["EventBusArn"],
            "dynamodb:BatchGetItem": table,
        }
        statements = [{"Effect": "Allow", "Action": what, "Resource": where} for what, where in allowed.items()]
        iam = stack.cloud.iam
        iam.create_user(UserName=name)
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        iam.put_user_policy(UserName=name, PolicyName="submit", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        monkeypatch.setenv("AWS_ENDPOINT_URL", stack.cloud.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        monkeypatch.setenv("AITEMS_BRIDGE_FOLDER", str(tmp_path / "none"))
        path = tmp_path / "shops.jsonl"
        path.write_text("".join(json.dumps({"name": f"{name}-{number}"}) + "\n" for number in range(12)))
        where = ["--stack", far.name, "--region", REGION]
        assert main(["submit", str(path), *where]) == USAGE
        assert "from com.acme.shop, com.acme.bulk only (RequestSources): say --source" in capsys.readouterr().err
        assert main(["submit", str(path), *where, "--source", SOURCE]) == OK
        assert "12 rows: 12 created" in capsys.readouterr().out
        assert len(far.aitems.services) == 12
