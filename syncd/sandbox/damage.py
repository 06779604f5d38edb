"""What faults do to answers and responses that would otherwise be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from syncd.sandbox.answers import Answer, SandboxResponse
from syncd.sandbox.faults import Fault, FaultRule
from syncd.sandbox.page import Page, PageRow
from syncd.sandbox.phpjson import encode

HTML = "text/html; charset=utf-8"


@dataclass(slots=True)
class LastPage:
    """The rows of the list page that was answered last, for a portal that repeats it."""

    rows: list[PageRow]


def damage_answer(answer: Answer, rules: Sequence[FaultRule], last: LastPage) -> None:
    """Given a call's right answer, spoil it as the rules say, in place."""
    if not isinstance(answer.result, Page):
        return
    page = answer.result
    true_rows = page.rows
    for rule in rules:
        if rule.action is Fault.SHORT:
            page.rows = page.rows[: max(0, len(page.rows) - rule.rows)]
        elif rule.action is Fault.GAP:
            middle = max(0, (len(page.rows) - rule.rows) // 2)
            page.rows = page.rows[:middle] + page.rows[middle + rule.rows :]
        elif rule.action is Fault.EMPTY:
            page.rows = []
        elif rule.action is Fault.REPEAT:
            page.rows = last.rows
        elif rule.action is Fault.SHUFFLE:
            page.rows = page.rows[::-1]
        elif rule.action is Fault.TOTAL and answer.total is not None:
            answer.total += rule.by
    last.rows = true_rows


def instead_of_answer(rule: FaultRule) -> SandboxResponse | None:
    """Given a rule that strikes before the effect, return what is sent instead of executing; None: nothing is."""
    if rule.action in (Fault.DROP, Fault.ZOMBIE):
        return SandboxResponse(dropped=True)
    if rule.action is Fault.STATUS:
        return _error_page(rule) if rule.body == "html" else _json_error(rule)
    if rule.action is Fault.HTML:
        return html(200, "Sign in")
    if rule.action is Fault.REDIRECT:
        response = html(302, "Found")
        return replace(response, headers=(*response.headers, ("Location", rule.location)))
    return None


def damage_response(response: SandboxResponse, rule: FaultRule) -> SandboxResponse:
    """Given the right response and a rule, return what arrives of it."""
    if rule.action is Fault.TRUNCATE:
        return replace(response, cut_at=len(response.body) // 2)
    if rule.action is Fault.OVERSIZE:
        return replace(response, body=response.body + b" " * max(0, rule.size - len(response.body)))
    if rule.action is Fault.CONTENT_TYPE:
        headers = tuple(line for line in response.headers if line[0].lower() != "content-type")
        return replace(response, headers=(*headers, ("Content-Type", rule.content_type)))
    return instead_of_answer(rule) or response


def html(status: int, title: str, text: str = "") -> SandboxResponse:
    """Return a page as the front server sends it."""
    body = f"<html><head><title>{status} {title}</title></head><body><h1>{title}</h1>{text}</body></html>"
    return SandboxResponse(status, (("Content-Type", HTML),), body.encode())


def _error_page(rule: FaultRule) -> SandboxResponse:
    return html(rule.status or 500, "Error")


def _json_error(rule: FaultRule) -> SandboxResponse:
    body = encode({"error": rule.code, "error_description": rule.text})
    return SandboxResponse(rule.status or 500, (("Content-Type", "application/json; charset=utf-8"),), body.encode())
