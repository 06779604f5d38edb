"""The answers and refusals of calls, with the portal's codes (portal.md 3, 7)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Version(StrEnum):
    """The simulated release: today's cloud, mid-2024 to September 2025, or an older box (portal.md 0.3)."""

    NEW = "new"
    MID = "mid"
    OLD = "old"


GENERIC = 0
ARGUMENT = 100
NO_ACTION = 22002
READ_DENIED = 200040300010
WRITE_DENIED = 200040300020
ORDER_MISSING = 200540400001
OWNER_ID_EMPTY = 201640400001
OWNER_TYPE_EMPTY = 201640400002
ORDER_ID_EMPTY = 201640400003
TRIPLE_MISSING = 201640400004
DUPLICATE = 201650000001


@dataclass(slots=True)
class Answer:
    """A successful call.

    `counted`: whether the database ran a COUNT for `total`. `walked`: how many rows it read without returning them.
    Both take time.
    """

    result: Any
    total: int | None = None
    next: int | None = None
    counted: bool = False
    walked: int = 0


class Refusal(Exception):  # an answer of the portal, not an error of ours
    """A call the portal refuses.

    Args:
        code: Numeric codes of controllers are ints (sent as strings or numbers by version), others are strings.
        text: `error_description`.
        status: HTTP status when the call is not part of a batch.
        extra: Further keys of the body.
    """

    def __init__(self, code: int | str, text: str = "", status: int = 400, **extra: Any) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.status = status
        self.extra = extra

    def body(self, version: Version) -> dict[int | str, Any]:
        """Return the error object: numeric codes are strings on a NEW portal and numbers on older ones."""
        code = str(self.code) if version is Version.NEW else self.code
        body: dict[int | str, Any] = {"error": code, "error_description": self.text}
        body.update(self.extra)
        return body
