"""Sending batches: what is sent again, what is read first, and what ends the run.

Everything goes to the portal as a `batch`. Reads are repeated whatever became of them; a batch of writes only when the
portal certainly did not execute it (bitrix24-rest.md 13.20).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Final

import structlog
from pydantic import SecretBytes, SecretStr

from syncd.core.backoff import pause
from syncd.core.ports import Clock, Usage
from syncd.errors import UnavailableError
from syncd.obs.measure import UNMEASURED, Measure
from syncd.portal.auth import Credentials, Pass
from syncd.portal.budget import STOP
from syncd.portal.codes import Fault, Verdict, terminal, verdict
from syncd.portal.commands import BATCH, batch_body, method_in
from syncd.portal.envelope import BatchAnswer, UnusableAnswer, open_batch, open_envelope
from syncd.portal.hosts import Host
from syncd.portal.pace import Pace
from syncd.portal.transport import NotExecuted, PerhapsExecuted, Reply

log = structlog.get_logger(__name__)

_HOPS: Final = 3
_MOST: Final = {"closed": 4, "broken": 4, "limit": 10, "reset": 5, "stale": 3}
"""How often in all a request is sent when it is not executed, perhaps executed, over the rate, over the budget of
`batch`, or with credentials that are over."""


class OverLimit(NotExecuted):
    """503 or 429: over the portal's rate."""

    kind: ClassVar[str] = "limit"


class OverBudget(NotExecuted):
    """The operating budget of `batch` itself is spent."""

    kind: ClassVar[str] = "reset"


class Stale(NotExecuted):
    """The credentials are over; perhaps they can be renewed."""

    kind: ClassVar[str] = "stale"

    def __init__(self, fault: Fault, shown: Pass) -> None:
        super().__init__(str(fault))
        self.fault = fault
        self.shown = shown


class Session:
    """One link's way to its portal.

    Args:
        host: The portal's host, shared with other links.
        credentials: How to be let in.
        clock: Time and chance.
        link: The link's name, for hints and logs.
        seconds: How long to wait for an answer; above the portal's own limit for a request.
        pace: How long the portal takes for a call.
        measure: Told of every request.
    """

    def __init__(
        self,
        host: Host,
        credentials: Credentials,
        clock: Clock,
        *,
        link: str,
        seconds: float,
        pace: Pace,
        measure: Measure = UNMEASURED,
    ) -> None:
        self.host = host
        self.clock = clock
        self.link = link
        self.budget = host.budget(credentials.key)
        self.pace = pace
        self.usage = Usage()
        self._under_way: Counter[str] = Counter()
        self._credentials = credentials
        self._seconds = seconds
        self._measure = measure

    async def read(self, commands: Mapping[str, str]) -> BatchAnswer:
        """Send a batch of reads, again and again if need be, each time once the budget allows it.

        Args:
            commands: Commands by alphabetic key.

        Returns:
            What each came to; a command's own fault is the caller's to judge.

        Raises:
            AuthError, PortalBlocked: The run must end.
            UnavailableError: No usable answer came in the tries there are.
        """
        return await self._insist(commands, is_read=True)

    async def write(self, commands: Mapping[str, str]) -> BatchAnswer:
        """Send a batch of writes; again only if it certainly was not executed.

        Raises:
            PerhapsExecuted: No usable answer came: each write may have been executed.
            OverBudget: Not executed, and not to be sent again before the budget's reset.
            AuthError, PortalBlocked: Not executed, and the run must end.
            UnavailableError: Not executed in the tries there are.
        """
        return await self._insist(commands, is_read=False)

    async def pause(self, seconds: float) -> None:
        """Wait because of a limit or a failure."""
        if seconds > 0:
            self.usage.throttled_seconds += seconds
            await self.clock.sleep(seconds)

    async def _insist(self, commands: Mapping[str, str], *, is_read: bool) -> BatchAnswer:
        """Send until there is an answer, or until that is of no use."""
        calls = Counter(map(method_in, commands.values()))
        tries = dict.fromkeys(_MOST, 0)
        while True:
            if is_read:
                await self._wait_for_budget({BATCH, *calls})
            self._under_way.update(calls)
            try:
                return await self._send(commands)
            except (NotExecuted, PerhapsExecuted) as error:
                failure = error
            finally:
                self._under_way.subtract(calls)
            kind = failure.kind
            if not is_read and kind in {"broken", "reset"}:
                raise failure
            tries[kind] += 1
            if isinstance(failure, Stale):
                if tries[kind] >= _MOST[kind] or not await self._credentials.renew(failure.shown):
                    raise terminal(failure.fault, host=self.host.name, link=self.link)
            elif tries[kind] >= _MOST[kind]:
                raise UnavailableError(
                    f"The portal {self.host.name} cannot be used: {failure}.",
                    hint="Nothing was sent twice. `syncd check` finds out what is reachable; the next run tries again.",
                )
            else:
                log.info("portal asked again", link=self.link, reason=str(failure), attempt=tries[kind] + 1)
                await self.pause(pause(tries[kind], first=0.5, most=15, spread=0.5, chance=self.clock.random()))

    async def _wait_for_budget(self, methods: Collection[str]) -> None:
        """Wait until these methods may be called; while what is under way may use the budget up, one at a time."""
        await self.pause(max(map(self.budget.slowdown, methods)))
        while wait := max(map(self.budget.blocked_for, methods)) or (1.0 if self._is_crowded(methods) else 0.0):
            await self.pause(wait)

    def _is_crowded(self, methods: Collection[str]) -> bool:
        return any(
            self._under_way[method] > 0
            and self.budget.used(method) + self._under_way[method] * self.pace.seconds(method) > STOP
            for method in methods
        )

    async def _send(self, commands: Mapping[str, str]) -> BatchAnswer:
        """Send once (and again where the portal's address changed), and judge the answer."""
        for _ in range(_HOPS):
            self.usage.throttled_seconds += await self.host.limiter.take()
            shown = await self._credentials.present()
            url = SecretStr(shown.base.get_secret_value() + BATCH)
            self.usage.requests += 1
            self.usage.calls += len(commands)
            # No local holds the token or the URL in the clear: tracebacks may be shown with their locals.
            body, began = SecretBytes(batch_body(commands, shown.token)), self.clock.monotonic()
            try:
                reply = await self.host.wire.post(url, body, "application/json", seconds=self._seconds)
            finally:
                self._measure.request(self.link, self.clock.monotonic() - began)
            if not 300 <= reply.status < 400:
                return await self._judge(reply, commands, shown)
            # The old address only redirects; a POST must be repeated by hand, or it would become a GET.
            origin = self.host.follow(url, reply.location)
            if origin is None:
                raise PerhapsExecuted("it redirects to something that is not the same portal at a new address")
            log.warning("portal address changed", link=self.link, host=self.host.name, origin=origin)
            await self._credentials.moved(origin)
        raise NotExecuted("it redirects in a circle")

    async def _judge(self, reply: Reply, commands: Mapping[str, str], shown: Pass) -> BatchAnswer:
        unusable = ""
        try:
            body = open_envelope(reply)
            answer = None if isinstance(body, Fault) else open_batch(body, commands)
        except UnusableAnswer as error:
            body, answer, unusable = {}, None, str(error)
        if isinstance(body, Fault):
            await self._fail(body, shown)
        if answer is None:
            raise PerhapsExecuted(unusable)
        self.pace.observe(commands, answer.commands)
        self._meter(answer, commands)
        return answer

    async def _fail(self, fault: Fault, shown: Pass) -> None:
        """Given the fault of a whole request, raise what it means."""
        match verdict(fault):
            case Verdict.RATE:
                self.usage.refused += 1
                await self.host.limiter.refused()
                raise OverLimit(f"it refuses requests for their rate ({fault})")
            case Verdict.OPERATING:
                self.usage.refused += 1
                self.budget.blocked(BATCH)
                raise OverBudget(f"it refuses requests for their operating time ({fault})")
            case Verdict.EXPIRED:
                raise Stale(fault, shown)
            case Verdict.PASSING:
                raise NotExecuted(str(fault))
            case Verdict.BROKEN | Verdict.REFUSED:
                raise PerhapsExecuted(f"it answers {fault}")
            case _:
                raise terminal(fault, host=self.host.name, link=self.link)

    def _meter(self, answer: BatchAnswer, commands: Mapping[str, str]) -> None:
        """Take in what the answer says of the operating budget, inside `result_time` and outside."""
        times: dict[str, list[Mapping[str, Any]]] = {BATCH: [answer.time]}
        blocked = set()
        for key, command in answer.commands.items():
            if command.time is not None:
                times.setdefault(method_in(commands[key]), []).append(command.time)
            elif command.fault is not None and verdict(command.fault) is Verdict.OPERATING:
                blocked.add(method_in(commands[key]))
        for method, several in times.items():
            self.budget.observe(method, several)
        # After what the same batch's earlier calls said: they know until when.
        for method in blocked:
            self.usage.refused += 1
            self.budget.blocked(method)
