"""Bodies such as a caller's sender makes: the request itself, or something in which the caller's mapping finds it.

A mapping is read backwards, as far as that goes: plain paths, and names joined from fixed parts and a path.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import jmespath

from aitems_local.cloud import UsageError

Json = dict[str, Any]
Node = dict[str, Any]


def hook_body(caller: str, entry: Mapping[str, Any], asked: Json, key: str) -> Json:
    """Return a body that asks for this, with its key where the caller has it there. Raises `UsageError`."""
    body: Json = {}
    wanted: dict[str, object] = {}
    if key_path := entry.get("hmac", {}).get("key", {}).get("body"):
        wanted[key_path] = key
    mapping = entry.get("mapping")
    if mapping is None:
        body |= asked
    else:
        if unknown := [field for field in asked if field not in mapping]:
            raise UsageError(f"the mapping of caller {caller} finds no {unknown[0]} in a body: leave it out")
        wanted |= {mapping[field]: value for field, value in asked.items()}
    try:
        for expression, value in wanted.items():
            _put(_parsed(expression), value, body)
        when = entry.get("when")
        if when:
            _satisfy(_parsed(when), body)
        _check_found(wanted | ({when: True} if when else {}), body)
    except _NotBackwards as error:
        raise UsageError(
            f"no body can be made up for caller {caller} in which {error} is as asked: "
            "record one that its sender sends, and send that with --file"
        ) from None
    return body


def found(expression: str, body: bytes) -> str:
    """Return what an expression finds in a recorded body, as a key. Raises ``ValueError``."""
    value = jmespath.search(expression, json.loads(body))
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError(f"{expression} finds no key in the body")  # noqa: TRY004  # its value is wrong
    return str(value)


def slack_form(entry: Mapping[str, Any], asked: Json, key: str, response_url: str) -> bytes:
    """Return a slash command as Slack sends it."""
    settings = entry["slack"]
    fields = {
        "team_id": settings["teams"][0],
        "team_domain": "example",
        "channel_id": settings.get("channels", ["G8PSS9T3V"])[0],
        "channel_name": "services",
        "user_id": settings.get("users", ["U2CERLKJA"])[0],
        "user_name": "sender",
        "command": "/aitems",
        "text": chat_text(asked),
        "api_app_id": "A123456",
        "is_enterprise_install": "false",
        "response_url": response_url,
        "trigger_id": key,
    }
    return urlencode(fields).encode()


def works_message(entry: Mapping[str, Any], asked: Json, user: str, issued: str) -> bytes:
    """Return a message to a bot as NAVER WORKS passes it on."""
    settings = entry["works"]
    source = {"userId": settings.get("users", [user])[0], "domainId": settings["domains"][0]}
    if "channels" in settings:
        source["channelId"] = settings["channels"][0]
    content = {"type": "text", "text": f"aitems {chat_text(asked)}"}
    body = {"type": "message", "source": source, "issuedTime": issued, "content": content}
    return json.dumps(body, ensure_ascii=False).encode()


def chat_text(asked: Json) -> str:
    """Return the command that asks for this."""
    said = [asked.get("name"), asked.get("type"), asked.get("description")]
    return " ".join(["create", *(word for word in said if word)])


class _NotBackwards(Exception):
    """This expression cannot be read backwards."""


def _parsed(expression: str) -> Node:
    return dict(jmespath.compile(expression).parsed) | {"expression": expression}


def _check_found(wanted: Mapping[str, object], body: Json) -> None:
    for expression, value in wanted.items():
        if jmespath.search(expression, body) != value:
            raise _NotBackwards(expression)


def _put(node: Node, value: object, body: Json) -> None:
    """Have the expression find the value in the body."""
    path = _path(node)
    if path is None:
        fixed = _joined(node)
        if fixed is None or not isinstance(value, str):
            raise _NotBackwards(node.get("expression", "a part of it"))
        before, inner, after = fixed
        if not (value.startswith(before) and value.endswith(after) and len(value) > len(before) + len(after)):
            raise _NotBackwards(f"{node.get('expression')} (it makes names like {before}…{after})")
        _put(inner, value[len(before) : len(value) - len(after)], body)
        return
    for name in path[:-1]:
        body = body.setdefault(name, {})
    body[path[-1]] = value


def _path(node: Node) -> list[str] | None:
    if node["type"] == "field":
        return [node["value"]]
    if node["type"] != "subexpression":
        return None
    parts = [_path(child) for child in node["children"]]
    return None if None in parts else [name for part in parts if part for name in part]


def _joined(node: Node) -> tuple[str, Node, str] | None:
    """Return what ``join`` puts before and after the one part that is no literal."""
    match node:
        case {
            "type": "function_expression",
            "value": "join",
            "children": [{"type": "literal", "value": glue}, {"type": "multi_select_list", "children": parts}],
        }:
            open_parts = [place for place, part in enumerate(parts) if part["type"] != "literal"]
            if len(open_parts) == 1:
                (place,) = open_parts
                return _fixed(parts[:place], glue, end=glue), parts[place], _fixed(parts[place + 1 :], glue, start=glue)
    return None


def _fixed(parts: Sequence[Node], glue: str, *, start: str = "", end: str = "") -> str:
    text = glue.join(str(part["value"]) for part in parts)
    return f"{start}{text}{end}" if parts else ""


def _satisfy(node: Node, body: Json) -> None:
    """Have comparisons with a literal hold; whether that was enough shows later."""
    match node:
        case {"type": "and_expression", "children": children}:
            for child in children:
                _satisfy(child, body)
        case {"type": "comparator", "value": "eq", "children": [path, {"type": "literal", "value": value}]}:
            if _path(path):
                _put(path, value, body)
