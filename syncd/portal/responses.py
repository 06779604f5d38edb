"""Decoding answers in every shape they come in (portal.md 2, 6.4, 7.1).

Empty PHP arrays arrive as `[]` where an object is meant, maps with keys 0..n-1 as lists, numbers as strings, error
codes as numbers (0 among them); and bodies may be HTML, cut off or nonsense.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from syncd.obs.redact import redact
from syncd.portal.api_errors import ApiError
from syncd.portal.transport import Reply

TEXT_LIMIT: Final = 300
"""Characters that are kept of a code or a text."""


class UnusableAnswer(Exception):
    """The body is not what a portal answers; the request may have been executed."""


class CommandAnswer(NamedTuple):
    """What became of one command of a batch: a result, or an error."""

    result: Any = None
    error: ApiError | None = None
    total: int | None = None
    time: Mapping[str, Any] | None = None


class BatchAnswer(NamedTuple):
    """What became of a batch, by key.

    A key that is in neither `result` nor `result_error`, or in both, is left out: what became of it is unknown.
    """

    commands: dict[str, CommandAnswer]
    time: Mapping[str, Any]


def open_envelope(reply: Reply) -> dict[str, Any] | ApiError:
    """Given an HTTP answer, return the decoded body of a success, or the error.

    The body decides, whatever its content type: one with `result` or `error` is a portal's answer.

    Raises:
        UnusableAnswer: Status 200 without a portal's answer.
    """
    try:
        body = json.loads(reply.body)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict):
        if "error" in body:
            return error_of(body, reply.status)
        if "result" in body and reply.status < 400:
            return body
    is_page = reply.body.lstrip()[:1] == b"<"
    if reply.status >= 400:
        # No code of the portal's own: a proxy or a front server answered in its place.
        return ApiError(
            "", f"a web page with HTTP {reply.status} instead of an answer" if is_page else "", reply.status
        )
    if is_page:
        raise UnusableAnswer("a web page instead of JSON")
    raise UnusableAnswer("a body that is not a portal's answer" if body is not None else "a body that is not JSON")


def open_batch(body: Mapping[str, Any], keys: Iterable[str]) -> BatchAnswer:
    """Given the body of a success and the keys sent, return what became of each command.

    Raises:
        UnusableAnswer: The body is not a batch's answer.
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
            error=error_of(errors[key]) if key in errors else None,
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


def as_list(value: Any) -> list[Any] | None:
    """Given a PHP list as JSON shows it, an object where its keys are not 0 to n-1, return its items; None: neither."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else None


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
    """Given a number in any JSON form, return it as a float; None when it is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def error_of(error: Any, status: int = 0) -> ApiError:
    """Given an error's body, return the error, free of secrets that the portal may repeat, and not too long."""
    code, text = (error.get("error", ""), error.get("error_description")) if isinstance(error, dict) else ("", error)
    return ApiError(redact(str(code))[:TEXT_LIMIT], redact(text)[:TEXT_LIMIT] if isinstance(text, str) else "", status)
