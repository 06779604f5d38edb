"""Scripted faults of the portal and of the network before it: which ones, when, how often, and what they do.

Rules are read from JSON (`syncd sandbox --faults FILE`). They are deterministic: which calls they hit follows from
counts, and from seeded random numbers where a rule has a probability.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from syncd.sandbox.bindings import ListPage, PageRow
from syncd.sandbox.php import encode
from syncd.sandbox.requests import Answer, SandboxResponse


class Fault(StrEnum):
    """The kinds of faults. The first group hits whole requests, the second single calls: a batch or a call in it."""

    DROP = "drop"
    TRUNCATE = "truncate"
    STATUS = "status"
    HTML = "html"
    CONTENT_TYPE = "content-type"
    OVERSIZE = "oversize"
    DELAY = "delay"
    ZOMBIE = "zombie"
    OVERTAKEN = "overtaken"
    REDIRECT = "redirect"

    ERROR = "error"
    SLOW = "slow"
    SHORT = "short"
    GAP = "gap"
    EMPTY = "empty"
    REPEAT = "repeat"
    SHUFFLE = "shuffle"
    LOSE_KEY = "lose-key"
    TOTAL = "total"
    RACE = "race"


PAGE_FAULTS = frozenset({Fault.SHORT, Fault.GAP, Fault.EMPTY, Fault.REPEAT, Fault.SHUFFLE, Fault.TOTAL})
CALL_FAULTS = PAGE_FAULTS | {Fault.ERROR, Fault.SLOW, Fault.LOSE_KEY, Fault.RACE}
LIST, BATCH = "crm.orderentity.list", "batch"


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One rule. It hits what meets all its conditions, except for the first `skip` matches.

    Args:
        action: The fault. Of a request: `drop` closes the connection, `truncate` does so within the body,
            `status` answers `status` as JSON or HTML, `html` answers a page with 200, `content-type` names another
            type, `oversize` pads the body to `size` bytes, `delay` waits `seconds`, `zombie` drops now and executes
            `seconds` later, `overtaken` holds the answer until another request has been answered (at most `seconds`),
            `redirect` answers 302 to `location`. Of a call: `error` refuses it with `code`, `slow` takes `seconds`
            longer, `short` loses the last `rows` rows of a list, `gap` loses them in the middle, `empty` loses all,
            `repeat` sends the page before again, `shuffle` reverses a page, `lose-key` forgets a batch key, `total` is
            off by `by`; `race` binds one of the orders that the request is about to write to another deal
            while the call runs.
        method: The method's name in any case, with `*`; a request matches when it is, or its batch holds, such a call.
        key: The batch key.
        request: The number of the request, from 1.
        call: The number of the call among those of its method, from 1; for call faults only.
        skip: How many matches are not hit first.
        times: How many matches are hit; None is all.
        probability: The chance of a match to be hit; for `race`, per second of the call's documented duration, whatever
            it takes here.
        when: Whether a request fault or an `error` comes before or after the effect.
        status, body: The HTTP status of `status` (500) and `error` (400), and `json` or `html`.
        code, text: The error code and description.
        seconds, rows, by, size, location, content_type: See `action`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    action: Fault
    method: str | None = None
    key: str | None = None
    request: int | None = None
    call: int | None = None
    skip: int = 0
    times: int | None = 1
    probability: float = 1.0
    when: Literal["before", "after"] = "before"
    status: int | None = None
    body: Literal["json", "html"] = "json"
    code: str | int = "INTERNAL_SERVER_ERROR"
    text: str = "Internal server error"
    seconds: float = 1.0
    rows: int = 1
    by: int = 1
    size: int = 64 * 1024 * 1024
    location: str = ""
    content_type: str = "text/html; charset=utf-8"

    @property
    def hits_calls(self) -> bool:
        """Whether this rule hits single calls rather than requests."""
        return self.action in CALL_FAULTS

    def hits(self, name: str) -> bool:
        """Return whether this rule applies to calls of a method, given by its lower-case name."""
        if self.method is not None and not fnmatchcase(name, self.method.lower()):
            return False
        if self.action in PAGE_FAULTS:
            return name == LIST
        return name != BATCH or self.action is not Fault.LOSE_KEY

    @classmethod
    def from_json(cls, value: Any) -> FaultRule:
        """Given a decoded JSON object, return the rule.

        Raises:
            ValueError: It is not one. The message names every wrong key.
        """
        try:
            return TypeAdapter(cls).validate_json(json.dumps(value))
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, wrong['loc'])) or 'it'}: {wrong['msg']}" for wrong in error.errors()]
        raise ValueError(f"This is not a fault rule: {'; '.join(problems)}.")

    def to_json(self) -> dict[str, Any]:
        """Return the rule as a JSON object, without default values."""
        plain = asdict(self)
        kept = {field.name: plain[field.name] for field in fields(self) if plain[field.name] != field.default}
        return {**kept, "action": str(self.action)}


class Faults:
    """The active rules, with the number of matches and hits of each.

    Args:
        rules: In order; all that match a request or call apply.
        seed: Of the random numbers behind `probability`.
    """

    def __init__(self, rules: Iterable[FaultRule] = (), *, seed: int = 0) -> None:
        self._chance = random.Random(seed)  # noqa: S311  # reproducible faults, never a secret
        self._rules: list[FaultRule] = []
        self._seen: list[int] = []
        self._fired: list[int] = []
        for rule in rules:
            self.add(rule)

    @classmethod
    def load(cls, text: str) -> Faults:
        """Given JSON, one rule or a list of them, return the faults.

        Raises:
            ValueError: It is not JSON, or a rule is wrong.
        """
        value = json.loads(text)
        return cls(FaultRule.from_json(item) for item in (value if isinstance(value, list) else [value]))

    def add(self, rule: FaultRule) -> None:
        """Add a rule."""
        self._rules.append(rule)
        self._seen.append(0)
        self._fired.append(0)

    def clear(self) -> None:
        """Remove all rules."""
        self._rules, self._seen, self._fired = [], [], []

    @property
    def fired(self) -> int:
        """The number of hits of all rules."""
        return sum(self._fired)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def for_request(self, number: int, names: Sequence[str]) -> list[FaultRule]:
        """Given a request's number and the lower-case methods in it, return the rules that hit it."""
        return [
            rule
            for index, rule in enumerate(self._rules)
            if not rule.hits_calls
            and rule.request in (None, number)
            and (rule.method is None or any(fnmatchcase(name, rule.method.lower()) for name in names))
            and self._hits(index)
        ]

    def for_call(self, number: int, call: int, name: str, key: int | str | None, seconds: float) -> list[FaultRule]:
        """Given a call, return the rules that hit it.

        Args:
            number: The request's number.
            call: How many calls of this method there have been, this one included.
            name: The method's lower-case name.
            key: Its batch key; None outside a batch.
            seconds: The documented duration of such a call.
        """
        return [
            rule
            for index, rule in enumerate(self._rules)
            if rule.hits_calls
            and rule.request in (None, number)
            and rule.call in (None, call)
            and (rule.key is None or str(key) == rule.key)
            and rule.hits(name)
            and self._hits(index, seconds if rule.action is Fault.RACE else 1.0)
        ]

    def chance(self) -> float:
        """Return a random number in [0, 1), from the seed."""
        return self._chance.random()

    def _hits(self, index: int, weight: float = 1.0) -> bool:
        rule = self._rules[index]
        self._seen[index] += 1
        if self._seen[index] <= rule.skip or (rule.times is not None and self._fired[index] >= rule.times):
            return False
        chance = rule.probability * weight
        if chance < 1 and self._chance.random() >= chance:
            return False
        self._fired[index] += 1
        return True


HTML = "text/html; charset=utf-8"


@dataclass(slots=True)
class LastPage:
    """The rows of the last list page, for the fault `repeat`."""

    rows: list[PageRow]


def damage_answer(answer: Answer, rules: Sequence[FaultRule], last: LastPage) -> None:
    """Apply the rules to a correct answer, in place."""
    if not isinstance(answer.result, ListPage):
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
    """Return the response that a rule sends instead of executing the request; None for rules that send none."""
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
    """Return a correct response as a rule changes it."""
    if rule.action is Fault.TRUNCATE:
        return replace(response, cut_at=len(response.body) // 2)
    if rule.action is Fault.OVERSIZE:
        return replace(response, body=response.body + b" " * max(0, rule.size - len(response.body)))
    if rule.action is Fault.CONTENT_TYPE:
        headers = tuple(line for line in response.headers if line[0].lower() != "content-type")
        return replace(response, headers=(*headers, ("Content-Type", rule.content_type)))
    return instead_of_answer(rule) or response


def html(status: int, title: str, text: str = "") -> SandboxResponse:
    """Return a page of the front server."""
    body = f"<html><head><title>{status} {title}</title></head><body><h1>{title}</h1>{text}</body></html>"
    return SandboxResponse(status, (("Content-Type", HTML),), body.encode())


def _error_page(rule: FaultRule) -> SandboxResponse:
    return html(rule.status or 500, "Error")


def _json_error(rule: FaultRule) -> SandboxResponse:
    body = encode({"error": rule.code, "error_description": rule.text})
    return SandboxResponse(rule.status or 500, (("Content-Type", "application/json; charset=utf-8"),), body.encode())
