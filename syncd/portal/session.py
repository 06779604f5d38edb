"""Sending batches: what is sent again, what is read first, and what ends the run.

Everything goes to the portal as a `batch`. A batch of reads is sent again after any failure, a batch of writes only
when the portal certainly did not execute it (portal.md 13.20).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeAlias

import structlog
from pydantic import SecretBytes

from syncd.core.pacing import pause
from syncd.core.ports import WAITING, Clock, Progress, Usage
from syncd.errors import SyncdError, UnavailableError
from syncd.obs.clock import NULL_METER, Meter, time_of_day
from syncd.portal.auth import Auth, Credentials
from syncd.portal.budget import STOP, BatchSizer
from syncd.portal.commands import BATCH, batch_body, method_in
from syncd.portal.hosts import HOPS, Host
from syncd.portal.responses import (
    ENDS_THE_RUN,
    ApiError,
    ApiErrorKind,
    BatchAnswer,
    CommandAnswer,
    UnusableAnswer,
    kind_of,
    open_batch,
    open_envelope,
    to_exception,
)
from syncd.portal.transport import JSON, NotExecuted, PerhapsExecuted, Reply, RequestFailed

log = structlog.get_logger(__name__)

Again: TypeAlias = Callable[[], Awaitable[Mapping[str, str]]]
"""Called after a wait: reads again what a batch of writes was made from, and returns the commands still to be sent."""

FRESH_SECONDS: Final = 1.0
"""Seconds: a reading must not be older when a write that was made from it is sent."""

LONGEST_RETRY_AFTER: Final = 60.0
"""Seconds: a server that asks for a longer wait is asked again after these."""

LONG_WAIT: Final = 5.0
"""Seconds: a wait of this length or more is reported, with its end."""

_PAGE_HINT: Final = (
    "Something in front of the portal answers instead of it: a proxy, or a maintenance page. "
    "Open https://{host} in a browser."
)
_BUDGET: Final = "its operating budget is nearly spent"
_NOT_KNOWN: Final = "at {origin}, where it seems to have moved, these credentials are not known ({error})"
_NEW_ADDRESS: Final = (
    "If the portal has a new address, write it into the configuration; otherwise find out what redirects."
)
_MOST: Final = {"closed": 4, "broken": 4, "limit": 10, "reset": 5, "stale": 3}
"""How often a request is sent in total, by kind of failure: not executed, perhaps executed, over the rate, over the
budget of `batch`, expired credentials."""


class OverLimit(NotExecuted):
    """Over the portal's rate, as the portal itself says."""

    kind: ClassVar[str] = "limit"


class OverBudget(NotExecuted):
    """The operating budget of `batch` itself is spent."""

    kind: ClassVar[str] = "reset"


class ExpiredCredentials(NotExecuted):
    """The credentials have expired; perhaps they can be renewed."""

    kind: ClassVar[str] = "stale"

    def __init__(self, error: ApiError, shown: Auth) -> None:
        super().__init__(str(error))
        self.error = error
        self.shown = shown


class Redirected(NotExecuted):
    """The address only redirects, to where the portal may be now.

    Args:
        target: What a request to that address carries.
    """

    def __init__(self, target: Auth) -> None:
        super().__init__("it redirects")
        self.target = target


@dataclass(slots=True)
class _Sending:
    """A batch on its way.

    Args:
        commands: What is to be sent of it.
        reads, again: As `Session.send` was given them.
        read_at: When the reading that the batch is made from was taken (monotonic seconds).
    """

    commands: Mapping[str, str]
    reads: bool
    again: Again | None
    read_at: float
    tries: Counter[str] = field(default_factory=Counter)
    """How often a request of it failed, by kind of failure."""
    shown: Auth = field(init=False, repr=False)
    """What the credentials gave it last."""
    redirected: Auth | None = None
    """What its next request carries if the last one was redirected."""
    hops: int = 0


class Session:
    """One link's way to its portal.

    Args:
        host: The portal's host, shared with other links.
        credentials: How to be let in.
        clock: Time and chance.
        link: The link's name, for hints and logs.
        seconds: How long to wait for an answer: longer than the portal's own limit for a request.
        sizer: How much fits into one batch.
        meter: Receives the duration of every request.
        progress: Shows long waits.
    """

    def __init__(
        self,
        host: Host,
        credentials: Credentials,
        clock: Clock,
        *,
        link: str,
        seconds: float,
        sizer: BatchSizer,
        meter: Meter = NULL_METER,
        progress: Progress | None = None,
    ) -> None:
        self.host = host
        self.clock = clock
        self.link = link
        self.budget = host.budget(credentials.key)
        self.sizer = sizer
        self.usage = Usage()
        self._under_way: Counter[str] = Counter()
        self.credentials = credentials
        self.seconds = seconds
        self._meter = meter
        self._progress = progress

    async def send(self, commands: Mapping[str, str], *, reads: bool = True, again: Again | None = None) -> BatchAnswer:
        """Send a batch until there is an answer, or until further tries are useless.

        Args:
            commands: Commands by alphabetic key.
            reads: They only read, and are sent again after any failure, as soon as the budget allows it. Writes are
                sent again only if the portal certainly did not execute them.
            again: For writes without a condition of their own, which were made from a reading: called when that reading
                is stale after a wait. If it returns no commands, nothing is sent. None: each write has a condition.

        Returns:
            What became of each; the caller judges errors of single commands.

        Raises:
            PerhapsExecuted: Writes; no usable answer came, so each may have been executed.
            OverBudget: Writes; not executed, and not to be sent again before the budget's reset.
            AuthError, PortalBlocked: Not executed, and the run must end.
            UnavailableError: No try got a usable answer; writes were not executed.
        """
        sending = _Sending(commands, reads, again, self.clock.monotonic())
        while True:
            shown = await self._prepare(sending)
            if not sending.commands:
                return BatchAnswer({}, {})
            # No local holds the token or the URL in the clear: tracebacks may be shown with their locals.
            url, body = shown.url(BATCH), SecretBytes(batch_body(sending.commands, shown.token))
            try:
                with self._counted(sending.commands):
                    reply = await self.host.client.post(url, body, JSON, seconds=self.seconds)
                return await self._judge(reply, sending.commands, shown)
            except RequestFailed as error:
                failure = error
            await self._recover(sending, failure)

    async def _prepare(self, sending: _Sending) -> Auth:
        """Wait until the batch's next request may be sent, and return what it carries."""
        if sending.reads and sending.redirected is None:
            await self._wait_for_budget({BATCH, *map(method_in, sending.commands.values())})
        self.usage.throttled_seconds += await self.host.limiter.take(self._sleep)
        if sending.redirected is not None:
            return sending.redirected
        sending.shown = await self.credentials.current()
        if sending.again is not None and self.clock.monotonic() - sending.read_at > FRESH_SECONDS:
            sending.commands = await sending.again()
            sending.shown = await self.credentials.current()
        return sending.shown

    @contextmanager
    def _counted(self, commands: Mapping[str, str]) -> Iterator[None]:
        """Count a request and its calls while it is under way, and measure how long it takes."""
        calls, began = Counter(map(method_in, commands.values())), self.clock.monotonic()
        self.usage.requests += 1
        self.usage.calls += len(commands)
        self._under_way.update(calls)
        try:
            yield
        finally:
            self._under_way.subtract(calls)
            self._meter.request(self.link, self.clock.monotonic() - began)

    async def _recover(self, sending: _Sending, failure: RequestFailed) -> None:
        """Given why a batch's last request failed, prepare the next one, or raise the error that ends the tries.

        Raises:
            PerhapsExecuted, OverBudget, AuthError, UnavailableError: See `send`.
        """
        if isinstance(failure, Redirected):
            sending.hops += 1
            if sending.hops < HOPS:
                sending.redirected = failure.target
                return
            failure = NotExecuted("it redirects in a circle")
        sending.hops, sending.redirected = 0, None
        kind = failure.kind
        if kind in {"closed", "broken"} and self.credentials.fall_back(sending.shown):
            log.info("portal asked at another address", link=self.link, reason=str(failure))
        if not sending.reads and kind in {"broken", "reset"}:
            raise failure
        sending.tries[kind] += 1
        tries = sending.tries[kind]
        if isinstance(failure, ExpiredCredentials):
            if tries >= _MOST[kind] or not await self._renew(failure, sending.shown):
                raise self._refused(failure)
            return
        if tries >= _MOST[kind]:
            raise UnavailableError(
                f"The portal {self.host.name} cannot be used: {failure}.",
                hint=failure.hint or "Check the host in the configuration, and that this machine can reach it.",
            )
        log.info("portal asked again", link=self.link, reason=str(failure), attempt=tries + 1)
        await self.pause(self._pause_after(failure, tries), str(failure))
        sending.read_at = float("-inf")  # a reading from before the wait is stale

    def end_if_refused(self, answer: CommandAnswer | None) -> None:
        """Given the answer to one command, raise its error if that ends the run.

        Raises:
            AuthError, PortalBlocked, UnavailableError: As their names say.
        """
        if answer is not None and answer.error is not None and kind_of(answer.error) in ENDS_THE_RUN:
            raise to_exception(answer.error, host=self.host.name, link=self.link) from None

    async def pause(self, seconds: float, reason: str) -> None:
        """Wait because of a limit or a failure; a long wait is reported."""
        if seconds <= 0:
            return
        self.usage.throttled_seconds += seconds
        await self._sleep(seconds, reason)

    async def _sleep(self, seconds: float, reason: str = "its limit of requests") -> None:
        if seconds < LONG_WAIT:
            await self.clock.sleep(seconds)
            return
        until = time_of_day(self.clock.now() + seconds)
        log.info(
            "waiting for the portal",
            link=self.link,
            reason=reason,
            seconds=round(seconds, 1),
            until=until.isoformat(timespec="seconds"),
        )
        self._report(f"{WAITING}{until:%H:%M:%S %Z}", 0, round(seconds))
        await self.clock.sleep(seconds)
        self._report(f"{WAITING}{until:%H:%M:%S %Z}", round(seconds), round(seconds))

    def _report(self, stage: str, done: int, expected: int) -> None:
        if self._progress is not None:
            self._progress(stage, done, expected)

    async def _renew(self, failure: ExpiredCredentials, shown: Auth) -> bool:
        """Given the refusal of expired credentials, return whether there are newer ones, or another address, to try."""
        if not self.credentials.is_proved(shown) and self.credentials.fall_back(shown):
            return True  # perhaps another portal answered, so they need not be renewed
        return await self.credentials.renew(failure.shown)

    def _refused(self, failure: ExpiredCredentials) -> SyncdError:
        """Return the error that ends the run: the portal refuses the credentials, or something else answered."""
        if self.credentials.is_proved(failure.shown):
            return to_exception(failure.error, host=self.host.name, link=self.link)
        words = _NOT_KNOWN.format(origin=failure.shown.origin, error=failure.error)
        return UnavailableError(f"The portal {self.host.name} cannot be used: {words}.", hint=_NEW_ADDRESS)

    def _pause_after(self, failure: RequestFailed, tries: int) -> float:
        """Given a failure for the n-th time, return the seconds to wait: at least what the server asks for."""
        own = pause(tries, first=0.5, most=15, spread=0.5, chance=self.clock.random())
        return max(own, min(failure.retry_after or 0.0, LONGEST_RETRY_AFTER))

    async def _wait_for_budget(self, methods: Collection[str]) -> None:
        """Wait until these methods may be called; one at a time if the calls under way may use up the budget."""
        await self.pause(max(map(self.budget.slowdown, methods)), _BUDGET)
        while wait := max(map(self.budget.blocked_for, methods)) or (1.0 if self._is_crowded(methods) else 0.0):
            await self.pause(wait, _BUDGET)

    def _is_crowded(self, methods: Collection[str]) -> bool:
        return any(
            self._under_way[method] > 0
            and self.budget.used(method) + self._under_way[method] * self.sizer.seconds(method) > STOP
            for method in methods
        )

    async def _judge(self, reply: Reply, commands: Mapping[str, str], shown: Auth) -> BatchAnswer:
        """Given a reply, return the batch's answer, or raise what the reply means instead."""
        if 300 <= reply.status < 400:
            raise self._redirection(shown, reply.location)
        unusable = ""
        try:
            body = open_envelope(reply)
            answer = None if isinstance(body, ApiError) else open_batch(body, commands)
        except UnusableAnswer as error:
            body, answer, unusable = {}, None, str(error)
        if isinstance(body, ApiError):
            await self._fail(body, shown, reply.retry_after)
        if answer is None:
            raise PerhapsExecuted(unusable)
        self.sizer.observe(commands, answer.commands)
        self._note_budget(answer, commands)
        # Only an address that has answered as the portal is used again.
        if await self.credentials.confirm(shown):
            log.warning("portal address changed", link=self.link, host=self.host.name, origin=shown.origin)
        return answer

    def _redirection(self, shown: Auth, location: str) -> RequestFailed:
        """Return what a redirect means. A POST is repeated by hand, or it would become a GET."""
        origin = self.host.follow(shown.url(BATCH), location)
        if origin is not None:
            return Redirected(shown.at(origin))
        words = "it redirects to something that is not the same portal at a new address"
        return PerhapsExecuted(words, hint=_NEW_ADDRESS)

    async def _fail(self, error: ApiError, shown: Auth, retry_after: float | None) -> None:
        """Given the error of a whole request, raise what it means."""
        meaning = kind_of(error)
        if meaning in {ApiErrorKind.AUTH, ApiErrorKind.CLOSED} and not self.credentials.is_proved(shown):
            # Perhaps another portal answered, which says nothing about the credentials at their own.
            raise NotExecuted(_NOT_KNOWN.format(origin=shown.origin, error=error), hint=_NEW_ADDRESS)
        match meaning:
            case ApiErrorKind.RATE:
                self.usage.refused += 1
                await self.host.limiter.refused()
                raise OverLimit(f"it refuses requests for their rate ({error})", retry_after=retry_after)
            case ApiErrorKind.OPERATING:
                self.usage.refused += 1
                self.budget.blocked(BATCH)
                raise OverBudget(f"it refuses requests for their operating time ({error})")
            case ApiErrorKind.EXPIRED:
                raise ExpiredCredentials(error, shown)
            case ApiErrorKind.PASSING:
                raise NotExecuted(str(error))
            case ApiErrorKind.BROKEN | ApiErrorKind.REFUSED:
                hint = "" if error.code else _PAGE_HINT.format(host=self.host.name)
                raise PerhapsExecuted(f"it answers {error}", hint=hint, retry_after=retry_after)
            case _:
                raise to_exception(error, host=self.host.name, link=self.link)

    def _note_budget(self, answer: BatchAnswer, commands: Mapping[str, str]) -> None:
        """Note what the answer says of the operating budget, in `result_time` and outside of it."""
        times: dict[str, list[Mapping[str, Any]]] = {BATCH: [answer.time]}
        blocked = set()
        for key, command in answer.commands.items():
            if command.time is not None:
                times.setdefault(method_in(commands[key]), []).append(command.time)
            elif command.error is not None and kind_of(command.error) is ApiErrorKind.OPERATING:
                blocked.add(method_in(commands[key]))
        for method, several in times.items():
            self.budget.observe(method, several)
        # Last, since earlier calls of the same batch said when the budget is reset.
        for method in blocked:
            self.usage.refused += 1
            self.budget.blocked(method)
