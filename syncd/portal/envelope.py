"""Decoding answers in every shape they come in (bitrix24-rest.md 2, 6.4, 7.1).

Empty PHP arrays arrive as `[]` where an object is meant, maps with keys 0..n-1 as lists, numbers as strings, error
codes as numbers (0 among them); and bodies may be HTML, cut off or nonsense.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from syncd.obs.redact import redact
from syncd.portal.codes import Fault
from syncd.portal.transport import Reply

TEXT_LIMIT: Final = 300
"""Characters of a code or a text that are kept."""


class UnusableAnswer(Exception):
    """The body is not what a portal answers; the request may have been executed."""


class CommandAnswer(NamedTuple):
    """What one command of a batch came to: a result, or a fault."""

    result: Any = None
    fault: Fault | None = None
    total: int | None = None
    time: Mapping[str, Any] | None = None


class BatchAnswer(NamedTuple):
    """What a batch came to, by key. A key in neither `result` nor `result_error`, or in both, is not here: unknown."""

    commands: dict[str, CommandAnswer]
    time: Mapping[str, Any]


def open_envelope(reply: Reply) -> dict[str, Any] | Fault:
    """Given an HTTP answer, return the decoded body of a success, or the fault.

    The body decides, the content type is not asked: what holds `result` or `error` is a portal's answer.

    Raises:
        UnusableAnswer: Status 200 without a portal's answer.
    """
    try:
        body = json.loads(reply.body)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict):
        if "error" in body:
            return fault_of(body, reply.status)
        if "result" in body and reply.status < 400:
            return body
    if reply.status >= 400:
        return Fault("", "", reply.status)
    if reply.body.lstrip()[:1] == b"<":
        raise UnusableAnswer("HTML instead of JSON")
    raise UnusableAnswer("a body that is not a portal's answer" if body is not None else "a body that is not JSON")


def open_batch(body: Mapping[str, Any], keys: Iterable[str]) -> BatchAnswer:
    """Given a success's body and the keys sent, return what each command came to.

    Raises:
        UnusableAnswer: It is not a batch's answer.
    """
    inner = body["result"]
    if not isinstance(inner, dict) or "result" not in inner:
        raise UnusableAnswer("an answer that is not a batch's")
    results, errors = as_map(inner["result"]), as_map(inner.get("result_error"))
    totals, times = as_map(inner.get("result_total")), as_map(inner.get("result_time"))
    commands: dict[str, CommandAnswer] = {}
    for key in keys:
        if (key in results) == (key in errors):
            continue
        time = times.get(key)
        commands[key] = CommandAnswer(
            result=results.get(key),
            fault=fault_of(errors[key]) if key in errors else None,
            total=whole(totals.get(key)),
            time=time if isinstance(time, dict) else None,
        )
    outer = body.get("time")
    return BatchAnswer(commands, outer if isinstance(outer, dict) else {})


def as_map(value: Any) -> dict[str, Any]:
    """Given a PHP array as JSON shows it, return it as a map: `[]` is empty, a list has the keys "0", "1", ….

    Raises:
        UnusableAnswer: It is neither.
    """
    if isinstance(value, dict):
        return value
    if isinstance(value, list):
        return {str(index): item for index, item in enumerate(value)}
    if value is None:
        return {}
    raise UnusableAnswer("an answer that is not a batch's")


def whole(value: Any) -> int | None:
    """Given a number in any JSON form (5, "5", 5.0), return it as an int; None when it is not a whole number."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit():
        return int(value) if len(value) < 20 else None
    return None


def number(value: Any) -> float | None:
    """Given a number in any JSON form, return it as a float; None when it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def fault_of(error: Any, status: int = 0) -> Fault:
    """Given an error's body, return the fault, free of secrets that the portal may repeat, and not too long."""
    code, text = (error.get("error", ""), error.get("error_description")) if isinstance(error, dict) else ("", error)
    return Fault(redact(str(code))[:TEXT_LIMIT], redact(text)[:TEXT_LIMIT] if isinstance(text, str) else "", status)
