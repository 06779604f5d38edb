"""A script of faults: what the portal, or the network before it, does wrong, when, and how often.

Rules are values, read from JSON (`syncd sandbox --fault …`) and deterministic: which calls they hit follows from
counts, and from a seeded chance where a probability is asked for.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError


class Fault(StrEnum):
    """What goes wrong. The first group hits whole requests, the second single calls: a batch, or one inside it."""

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


PAGE_FAULTS = frozenset({Fault.SHORT, Fault.GAP, Fault.EMPTY, Fault.REPEAT, Fault.SHUFFLE, Fault.TOTAL})
CALL_FAULTS = PAGE_FAULTS | {Fault.ERROR, Fault.SLOW, Fault.LOSE_KEY}
LIST, BATCH = "crm.orderentity.list", "batch"


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One rule: what happens, and to what. Every condition given must hold; the first `skip` matches pass unharmed.

    Args:
        action: What goes wrong. Of a request: `drop` closes the connection, `truncate` does so within the body,
            `status` answers `status` as JSON or HTML, `html` answers a page with 200, `content-type` names another
            type, `oversize` pads the body to `size` bytes, `delay` waits `seconds`, `zombie` drops now and executes
            `seconds` later, `overtaken` holds the answer until another request has been answered (at most `seconds`),
            `redirect` answers 302 to `location`. Of a call: `error` refuses it with `code`, `slow` takes `seconds`
            longer, `short` loses the last `rows` rows of a list, `gap` loses them in the middle, `empty` loses all,
            `repeat` sends the page before again, `shuffle` reverses a page, `lose-key` forgets a batch key, `total` is
            off by `by`.
        method: The method's name in any case, with `*`; a request matches when it is, or its batch holds, such a call.
        key: The batch key.
        request: The number of the request, from 1.
        call: The number of the call among those of its method, from 1; for call faults only.
        skip: How many matches pass first.
        times: How many are hit; None is all.
        probability: The chance of each match to be hit.
        when: Whether a request fault strikes before or after the effect.
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
        """Whether it is single calls that this rule hits."""
        return self.action in CALL_FAULTS

    def hits(self, name: str) -> bool:
        """Given a method's lower-case name, return whether this rule is about such calls."""
        if self.method is not None and not fnmatchcase(name, self.method.lower()):
            return False
        if self.action in PAGE_FAULTS:
            return name == LIST
        return name != BATCH or self.action is not Fault.LOSE_KEY

    @classmethod
    def from_json(cls, value: Any) -> FaultRule:
        """Given a decoded JSON object, return the rule.

        Raises:
            ValueError: It is none; the message is a sentence that names every key that is wrong.
        """
        try:
            return TypeAdapter(cls).validate_json(json.dumps(value))
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, wrong['loc'])) or 'it'}: {wrong['msg']}" for wrong in error.errors()]
        raise ValueError(f"This is no fault rule: {'; '.join(problems)}.")

    def to_json(self) -> dict[str, Any]:
        """Return the rule as a JSON object, without what is default."""
        plain = asdict(self)
        kept = {field.name: plain[field.name] for field in fields(self) if plain[field.name] != field.default}
        return {**kept, "action": str(self.action)}


class Faults:
    """The rules in force, with what each has seen so far.

    Args:
        rules: In order; all that match a request or call apply.
        seed: Of the chance behind `probability`.
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
            ValueError: It is no JSON, or a rule is wrong.
        """
        value = json.loads(text)
        return cls(FaultRule.from_json(item) for item in (value if isinstance(value, list) else [value]))

    def add(self, rule: FaultRule) -> None:
        """Put a rule in force."""
        self._rules.append(rule)
        self._seen.append(0)
        self._fired.append(0)

    def clear(self) -> None:
        """Have nothing go wrong any more."""
        self._rules, self._seen, self._fired = [], [], []

    @property
    def fired(self) -> int:
        """How often rules have struck."""
        return sum(self._fired)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def for_request(self, number: int, names: Sequence[str]) -> list[FaultRule]:
        """Given a request's number and the lower-case methods in it, return the rules that strike it."""
        return [
            rule
            for index, rule in enumerate(self._rules)
            if not rule.hits_calls
            and rule.request in (None, number)
            and (rule.method is None or any(fnmatchcase(name, rule.method.lower()) for name in names))
            and self._strikes(index)
        ]

    def for_call(self, number: int, call: int, name: str, key: int | str | None) -> list[FaultRule]:
        """Given a call, return the rules that strike it.

        Args:
            number: The request's number.
            call: How many calls of this method there have been, this one included.
            name: The method's lower-case name.
            key: Its batch key; None outside a batch.
        """
        return [
            rule
            for index, rule in enumerate(self._rules)
            if rule.hits_calls
            and rule.request in (None, number)
            and rule.call in (None, call)
            and (rule.key is None or str(key) == rule.key)
            and rule.hits(name)
            and self._strikes(index)
        ]

    def _strikes(self, index: int) -> bool:
        rule = self._rules[index]
        self._seen[index] += 1
        if self._seen[index] <= rule.skip or (rule.times is not None and self._fired[index] >= rule.times):
            return False
        if rule.probability < 1 and self._chance.random() >= rule.probability:
            return False
        self._fired[index] += 1
        return True
