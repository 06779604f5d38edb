"""A request and a call while the portal answers them: its time, its method, and the outcome.

Requests and calls are answered by generators, which yield how long the portal works or waits. The caller of a generator
decides what that means: the server waits, tests move a simulated clock or ignore it. Requests that are advanced in turn
run side by side; the commands of one batch run one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, NamedTuple

from syncd.sandbox.data import PortalData
from syncd.sandbox.limits import Spending
from syncd.sandbox.oauth import Caller
from syncd.sandbox.php import JsonValue, PhpArray, encode
from syncd.sandbox.requests import Answer, Refusal, SandboxRequest, Version


class Wait(NamedTuple):
    """Wait this many seconds, or until another request has been answered if that is sooner."""

    seconds: float
    until_overtaken: bool = False


class GatewayTimeout(Exception):  # an answer of the portal, not an error of ours
    """The request took longer than the front server waits. What was executed stays executed."""


@dataclass(slots=True)
class Exchange:
    """One request while it is being answered."""

    number: int
    request: SandboxRequest
    started: float
    wall: float | None = None
    worked: float = 0.0
    caller: Caller | None = None
    spending: Spending = field(default_factory=Spending)
    delivered: set[str] = field(default_factory=set)

    def work(self, seconds: float) -> Generator[Wait, None, None]:
        """Spend time.

        Raises:
            GatewayTimeout: The request's time is up.
        """
        if seconds <= 0:
            return
        if self.wall is not None and self.worked + seconds > self.wall:
            yield Wait(max(0.0, self.wall - self.worked))
            raise GatewayTimeout
        self.worked += seconds
        yield Wait(seconds)


Running = Generator[Wait, None, "CallOutcome"]
"""A call while it is executed."""


@dataclass(slots=True)
class CallOutcome:
    """A finished call: its answer or refusal, its time, and whether a fault removes it from the batch's answer."""

    outcome: Answer | Refusal
    timing: Timing | None = None
    lost: bool = False

    def parts(self, version: Version) -> dict[str, Any]:
        """Return the parts of its answer: result, next, total and time, or the body of a refusal as `error`."""
        if isinstance(self.outcome, Refusal):
            return {"error": self.outcome.body(version)}
        parts: dict[str, Any] = {"result": self.outcome.result}
        if self.outcome.next is not None:
            parts["next"] = self.outcome.next
        if self.outcome.total is not None:
            parts["total"] = self.outcome.total
        parts["time"] = self.timing
        return parts


ZONE = timezone(timedelta(hours=3))
"""The portal's time zone; not UTC, so that a client that ignores zones fails."""


@lru_cache(maxsize=64)
def local_time(second: int) -> str:
    """Given seconds since the epoch, return the portal's ISO 8601 time with offset."""
    return datetime.fromtimestamp(second, UTC).astimezone(ZONE).isoformat()


class Timing(JsonValue):
    """One `time` object.

    Args:
        version: Which portal is played.
        start, finish: Seconds since the epoch.
        processing: Seconds the method itself took.
        operating: (seconds used, reset at), or None where the load limiter is off.
    """

    __slots__ = ("_finish", "_operating", "_processing", "_start")

    def __init__(
        self, version: Version, start: float, finish: float, processing: float, operating: tuple[float, int] | None
    ) -> None:
        whole = version is Version.NEW
        self._start = int(start) if whole else start
        self._finish = finish
        self._processing = int(processing) if whole else processing
        self._operating = operating

    def json(self) -> str:
        """Return the JSON text."""
        start, finish = self._start, self._finish
        text = (
            f'{{"start":{start},"finish":{finish!r},"duration":{encode(float(finish - start))},'
            f'"processing":{encode(self._processing)},"date_start":"{local_time(int(start))}",'
            f'"date_finish":"{local_time(int(finish))}"'
        )
        if self._operating is None:
            return text + "}"
        seconds, reset_at = self._operating
        return f'{text},"operating_reset_at":{reset_at},"operating":{encode(float(seconds))}}}'

    def value(self) -> dict[str, Any]:
        """Return the same as plain values, for `$result` references."""
        plain: dict[str, Any] = {
            "start": self._start,
            "finish": self._finish,
            "duration": self._finish - self._start,
            "processing": self._processing,
            "date_start": local_time(int(self._start)),
            "date_finish": local_time(int(self._finish)),
        }
        if self._operating is not None:
            plain |= {"operating_reset_at": self._operating[1], "operating": self._operating[0]}
        return plain


@dataclass(slots=True)
class Call:
    """One call: the portal, its parameters, the number of its request, its caller, and the handlers notified so far."""

    portal: PortalData
    params: PhpArray
    request: int
    caller: Caller
    delivered: set[str]


@dataclass(frozen=True, slots=True)
class Method:
    """A method.

    Args:
        run: Executes a call; raises `Refusal`.
        scope: The scope it needs; empty for none.
        cost: The field of `Latencies` that says how long it takes.
        app_only: Refuses webhooks with WRONG_AUTH_TYPE.
    """

    run: Callable[[Call], Answer]
    scope: str = "crm"
    cost: str = "other"
    app_only: bool = False
