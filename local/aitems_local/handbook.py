"""The parts of the documents that are made from the code: `python -m aitems_local.handbook` writes them.

`docs/errors.md`, `docs/commands.md`, `docs/parameters.md` and `docs/packages.md` whole, and in `README.md` what stands
between two comments of the same name. `tests/test_readme.py` fails when one of them is behind.
"""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, NamedTuple

from aitems_bridge.errors import KINDS, type_prefix
from aitems_local import cli, sbom
from aitems_local.document import ROOT
from aitems_local.stack import load_template

_MADE_BY = "<!-- Made by `python -m aitems_local.handbook`: change it there. -->"


class Told(NamedTuple):
    """What a person wants to know of a problem: when it comes, and what to do."""

    when: str
    remedy: str


_NOTHING_RECORDED = "Nothing was recorded, so the same key can be used again."

REMEDIES: dict[str, Told] = {
    "malformed-request": Told(
        "The body is not one JSON object in UTF-8: it is broken off, a list, a text, or names a member twice (two "
        "parsers would read two requests in it).",
        f"Read `detail`, which says which of these it is, and send an object. {_NOTHING_RECORDED}",
    ),
    "signature-refused": Told(
        "No secret of this caller makes that signature, or it was made more than 5 minutes ago or ahead. One text for "
        "every cause, so that nobody learns from it what to try next; the function's log names the cause.",
        "Compare your clock with the server time in `detail`. Then check, in this order: the secret, that the bytes "
        "signed are the bytes sent (sign the body you send, do not serialise it twice), and the order of the signed "
        f"parts. A signature is good for 5 minutes: sign anew for each try. {_NOTHING_RECORDED}",
    ),
    "name-not-allowed": Told(
        "The name matches none of the patterns in this caller's `allow`.",
        f"Choose a name that is allowed, or ask the operator for another pattern. {_NOTHING_RECORDED}",
    ),
    "unknown-caller": Told(
        "No caller of that name stands in the callers document.",
        "Check the last part of the address: small letters, exactly as in the document. A caller that was added just "
        "now works at once.",
    ),
    "unknown-request": Told(
        "This caller has no request of that id: it never had, or it was settled longer ago than `RetentionDays`.",
        "Take the address from the `Location` header of the first answer, with the same caller's secret.",
    ),
    "body-too-large": Told(
        "The body has more than 65,536 bytes, counted after decoding.",
        "Send less; a request for a service needs a few hundred bytes. A webhook with a large payload needs a "
        "setting on its sender's side that leaves parts of it out.",
    ),
    "unsupported-media-type": Told(
        "`Content-Type` is not JSON in UTF-8, or there is a `Content-Encoding`.",
        "Send `Content-Type: application/json`. In GitHub's webhook settings, set *Content type* to "
        f"`application/json`. {_NOTHING_RECORDED}",
    ),
    "invalid-request": Told(
        "The request is readable and breaks the rules of AiTEMS. `errors` lists every field that is wrong, with the "
        "rule and what the value did.",
        "Mend the fields and send again. Over HTTP nothing was recorded, and the same key will do. On the event bus, "
        "and for callers that are answered `delivery`, it was recorded and announced as rejected: use a new key.",
    ),
    "key-reused": Told(
        "The idempotency key belongs to an earlier request with other content.",
        "Send this one under a key of its own. Make a key from what makes the request (an order's number), not from "
        "the time or a counter that starts again.",
    ),
    "duplicate-name": Told(
        "AiTEMS has a service of that name, and it is not this request's.",
        "Choose another name; or delete the other service, and send the request under a *new* key: this one stays "
        "rejected.",
    ),
    "refused-by-aitems": Told(
        "AiTEMS itself refused the service for a reason of its own, which `detail` and `upstream` repeat.",
        "Read `upstream.message`. Mend the request and send it under a new key.",
    ),
    "closed": Told(
        "An operator settled the request as rejected, after looking at what AiTEMS has.",
        "Ask the operator. A new attempt needs a new key.",
    ),
    "caller-unavailable": Told(
        "This caller's entry is invalid, disabled or has no secret, or the secrets cannot be read. Nobody gets in, and "
        "no sender should give up over an operator's slip.",
        "Send again later, as `Retry-After` says. Operators: the function's log names the entry and what is wrong.",
    ),
    "not-recorded": Told(
        "The ledger did not confirm the write. Most likely nothing is recorded; it cannot be known.",
        "Send the same request again **under the same key**. If it was recorded after all, you get its outcome.",
    ),
    "outcome-unknown": Told(
        "A creation may have taken effect and nobody could prove it: the answer was lost and AiTEMS could not be read, "
        "or what it shows contradicts the rules. `may_exist` is true.",
        "Do not send it under another key: that could make a second service. While a request is open, this is its "
        "`last_problem` and the bridge goes on looking. In a `Failed` event: repeat it under the same key, or let an "
        "operator redrive it; both look first and send afterwards. `detail` names services that need a person's eye.",
    ),
    "aitems-unavailable": Told(
        "AiTEMS could not be connected to, or the request could not be worked on; nothing was sent.",
        "Wait: the bridge tries again until `GiveUpAfterMinutes`. After a `Failed` event, repeat it under the same key "
        "or redrive it.",
    ),
    "aitems-throttled": Told(
        "AiTEMS's gateway answers 429: too many requests, or the quota is used up.",
        "Wait, as above. If it comes often, lower `WorkerConcurrency` and `RateLimit`, or ask NAVER for a larger "
        "quota.",
    ),
    "keys-refused": Told(
        "AiTEMS's gateway does not accept the bridge's keys, or the keys secret is not filled in.",
        "Operators: check the keys secret and the Sub Account (`docs/deploying.md`). Requests wait meanwhile and are "
        "done once the keys are right; nothing has to be sent again.",
    ),
    "not-permitted": Told(
        "The account is not subscribed to AiTEMS, the Sub Account lacks a permission, or the address is wrong.",
        "Operators: subscribe, grant, or mend `AitemsBaseUrl`. Requests wait meanwhile, as above.",
    ),
    "name-in-use": Told(
        "Another request for that name is not settled yet: one creation a name is under way at a time.",
        "Nothing: this request waits its turn and gets the true answer, most likely that the name is taken then.",
    ),
}

_ABOUT_ERRORS = (
    "Every refusal is a problem document ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457), "
    "`application/problem+json`, [schema](../schemas/problem.v1.json)), the same over HTTP, in events and in the "
    f"ledger. Its `type` is `{type_prefix}` and one of the headings below; an identifier, not an address. Match on "
    "`type`, show `detail` to people, and let `retryable` decide whether to send again. "
    "For kinds that are told in events only, the status says what HTTP would."
)
_ABOUT_COMMANDS = """\
`make setup` puts it into `.venv/bin`: type `.venv/bin/aitems-bridge`, or put that folder on your `PATH`. An id may be
shortened, as terminals are shown it, as long as one request only begins so.

Commands look at the stack that runs on this machine. With `--stack NAME` (and `--region`, `--profile`) they look at one
on AWS, found through CloudFormation with your own AWS credentials:

| With `--stack` | needs the right to |
|---|---|
| all | describe the stack; read the ledger (`dynamodb:GetItem`, `Scan`) |
| `send` over HTTP | read the callers secret, for it signs as one of them; the service is really made |
| `send bus`, `submit` | put events on the bus |
| `events` | nothing more: outcomes are told from the ledger, each request's as it stands now |
| `redrive`, `resolve` | write the ledger (`dynamodb:PutItem`, `UpdateItem`); `--created` also reads the keys secret |
| `doctor` | whatever it is to look at; what you may not see, it says, and goes on |

`--json` prints for machines: one document a line on standard output, and everything else on standard error. `demo` and
`completion` have none.

| Exit code | means |
|---|---|
| 0 | done as asked; for `doctor`, nothing is wrong (what is only to be thought about counts with `--strict`) |
| 1 | refused or failed: the service was not created, there is no such request, an entry or a check is at fault |
| 2 | wrong usage |
| 3 | the environment is in the way: a port, a dependency, no stack, no credentials, no network |
| 4 | not settled within `--timeout`; it still may be |
| 130, 143 | ended by Ctrl-C or SIGTERM, before it was done; `up`, once ready, and `events --follow` end with 0 |

Shells complete commands, options and, of the local stack, callers and requests, once they have read the script:

| Shell | In | the line |
|---|---|---|
| bash | `~/.bashrc` | `eval "$(aitems-bridge completion bash)"` |
| zsh | `~/.zshrc`, after `compinit` | `eval "$(aitems-bridge completion zsh)"` |
| fish | `~/.config/fish/config.fish` | `aitems-bridge completion fish \\| source` |"""
_ABOUT_PACKAGES = (
    "Besides the source of this repository (MIT), the functions carry these packages and no others; the AWS SDK comes "
    "with Lambda's runtime. The licence is the one that the package itself declares. Versions and digests are fixed by "
    "the locks in `requirements/`. What a build really contains is written down by `make sbom`: a bill of materials in "
    "CycloneDX for each function, in `build/sbom`, compared with the artefact, with the lock and with what each "
    "package says it needs."
)
_ABOUT_PARAMETERS = (
    "What `sam deploy --guided` asks, and what `--parameter-overrides NAME=VALUE` sets. Every one has a default "
    "that works; the limits are checked before anything is deployed."
)

_RETRYABLE = {
    "no": "no: the same request will be refused again",
    "yes": "yes",
    "same-key-only": "under the same key only",
}


def errors() -> str:
    """Return `docs/errors.md`: each kind of problem, when it comes and what to do."""
    parts = [
        "# Errors",
        _MADE_BY,
        _ABOUT_ERRORS,
        "| Kind | Status | Send again? |\n|---|---|---|\n"
        + "\n".join(
            f"| [`{slug}`](#{slug}) | {kind.status} | {_RETRYABLE[kind.retryable]} |" for slug, kind in KINDS.items()
        ),
    ]
    for slug, kind in KINDS.items():
        told = REMEDIES[slug]
        parts += [
            f"## {slug}",
            f"*{kind.title}* · status {kind.status} · `retryable: {kind.retryable}`",
            f"**When.** {told.when}",
            f"**What to do.** {told.remedy}",
        ]
    return "\n\n".join(parts) + "\n"


def help_of(*command: str) -> str:
    """Return what `aitems-bridge COMMAND --help` prints on a terminal of 80 columns without colours."""
    said = io.StringIO()
    before = {name: os.environ.get(name) for name in ("COLUMNS", "NO_COLOR")}
    os.environ |= {"COLUMNS": "80", "NO_COLOR": "1"}
    try:
        with contextlib.redirect_stdout(said):
            cli.main([*command, "--help"])
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
    return said.getvalue().rstrip()


def usages() -> list[tuple[str, ...]]:
    """Return each command as it is called, one with commands of its own as those."""
    parts = {"callers": [("callers", "check"), ("callers", "new")]}
    return [words for name in command_names() for words in parts.get(name, [(name,)])]


def command_names() -> list[str]:
    """Return the names of the commands, in the order of the help."""
    return re.findall(r"^ {4}([a-z]+) ", help_of(), re.MULTILINE)


def commands() -> str:
    """Return `docs/commands.md`: what each command's help says."""
    parts = [
        "# The command line",
        _MADE_BY,
        _ABOUT_COMMANDS,
    ]
    for words in ((), *usages()):
        parts += [f"## {' '.join(['aitems-bridge', *words])}", f"```text\n{help_of(*words)}\n```"]
    return "\n\n".join(parts) + "\n"


def _default(parameter: dict[str, Any]) -> str:
    default = str(parameter.get("Default", ""))
    return f"`{default}`" if default else "empty"


def _groups(template: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield the parameters by group, those in no group last."""
    left = dict.fromkeys(template["Parameters"])
    for group in template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]:
        for name in group["Parameters"]:
            left.pop(name, None)
        yield group["Label"]["default"], list(group["Parameters"])
    if left:
        yield "Others", list(left)


def parameters() -> str:
    """Return `docs/parameters.md`: every parameter of the template, by group."""
    template = load_template()
    parts = [
        "# Parameters",
        _MADE_BY,
        _ABOUT_PARAMETERS,
    ]
    for label, names in _groups(template):
        rows = []
        for name in names:
            parameter = template["Parameters"][name]
            limits = [f"{word} {parameter[key]}" for word, key in (("at least", "MinValue"), ("at most", "MaxValue"))
                      if key in parameter]  # fmt: skip
            if "AllowedValues" in parameter:
                limits.append("one of " + ", ".join(f"`{value}`" for value in parameter["AllowedValues"]))
            said = " ".join(str(parameter["Description"]).split())
            rows.append(f"| `{name}` | {_default(parameter)} | {'; '.join(limits)} | {said} |")
        parts += [f"## {label}", "| Name | Default | Limits | Meaning |\n|---|---|---|---|\n" + "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


def parameter_overview() -> str:
    """Return the README's table: one row a group, each parameter with its default."""
    template = load_template()
    rows = ["| About | Parameters and their defaults |", "|---|---|"]
    for label, names in _groups(template):
        said = " · ".join(f"`{name}` {_default(template['Parameters'][name]).strip('`')}" for name in names)
        rows.append(f"| {label} | {said} |")
    return "\n".join(rows)


def packages() -> str:
    """Return `docs/packages.md`: what ships besides the source, in which version, where, and under which licence."""
    locks = {lock: sbom.locked(lock) for lock in dict.fromkeys(sbom.LOCKS.values())}
    functions = {
        lock: [name.removesuffix("Function") for name, its in sbom.LOCKS.items() if its == lock] for lock in locks
    }
    rows = []
    for name, package in sorted({name: package for found in locks.values() for name, package in found.items()}.items()):
        places = [function for lock, found in locks.items() if name in found for function in functions[lock]]
        licence = sbom.licence(distribution(name))
        rows.append(f"| {name} | {package.version} | {licence} | {', '.join(places)} |")
    table = "| Package | Version | Licence | In |\n|---|---|---|---|\n" + "\n".join(rows)
    return f"# What ships\n\n{_MADE_BY}\n\n{_ABOUT_PACKAGES}\n\n{table}\n"


def with_region(text: str, name: str, inner: str) -> str:
    """Return ``text`` with what stands between the two comments of that name replaced. Raises ``ValueError``."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"README.md needs one {begin} and one {end}")
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n{inner}\n{end}{rest.partition(end)[2]}"


def documents() -> dict[Path, str]:
    """Return every document that is made here, whole or in part, as it should stand."""
    readme = ROOT / "README.md"
    text = with_region(readme.read_text("utf-8"), "parameters", parameter_overview())
    text = with_region(text, "help", f"```text\n{help_of()}\n```")
    return {
        ROOT / "docs" / "errors.md": errors(),
        ROOT / "docs" / "commands.md": commands(),
        ROOT / "docs" / "parameters.md": parameters(),
        ROOT / "docs" / "packages.md": packages(),
        readme: text,
    }


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text, "utf-8")
