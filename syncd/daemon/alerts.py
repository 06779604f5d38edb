"""Notifies people: of a change of a link's health, a refused plan, old holds, and that all is well again.

Each notification is sent once, and again every `remind_every` while its cause lasts. What was sent is not stored: it
follows from the runs in the state database. A daemon compares its pass with the pass before, of any daemon. What falls
due at a moment (a hold's age, the length of a failure, a reminder) is sent in the first pass or minute after it. So a
restart repeats nothing, and of several daemons the one that made the pass notifies.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import structlog

from syncd import __version__
from syncd.config.service_settings import NotifySettings
from syncd.core.model import Hold, MaybeOwner
from syncd.core.pacing import pause
from syncd.core.plan import Values, is_worse, values_by_guard
from syncd.core.ports import Clock
from syncd.daemon import notices
from syncd.daemon.channels import Channel, Undelivered
from syncd.daemon.notices import Severity
from syncd.daemon.runner_context import PassResult
from syncd.engine.report import iso
from syncd.errors import SyncdError
from syncd.status.health import WELL, Health, LinkHealth
from syncd.status.owners import NO_LABELS, Labels, owners_of_facts

log = structlog.get_logger("syncd.daemon")

WAITING = 100
"""Notifications that may wait for delivery; the oldest are dropped first."""
TRIES = 4


class Rules(NamedTuple):
    """When people are notified.

    Args:
        holds_after: The age in seconds at which a hold is reported.
        failing_passes: How many passes in a row must fail before a failure is reported.
        failing_seconds: For how long passes must have failed before it is reported.
        remind_every: Seconds between two notifications of the same cause while it lasts; None: once only.
        severity: Less severe notifications are not sent.
    """

    holds_after: float = 3600.0
    failing_passes: int = 1
    failing_seconds: float = 0.0
    remind_every: float | None = None
    severity: Severity = Severity.INFO


def alert_rules(settings: NotifySettings) -> Rules:
    """Given `[notify]`, return when people are notified."""
    passes, seconds = settings.failing_threshold
    return Rules(
        settings.holds_after_seconds,
        passes,
        seconds,
        settings.remind_every_seconds,
        Severity[settings.severity.name],
    )


@dataclass(slots=True)
class _Watch:
    """The last pass of a link that this daemon made, and up to which moment all that was due has been reported."""

    result: PassResult
    notified_until: float
    holds: Sequence[Hold] = field(default_factory=tuple)


class Alerts:
    """Makes notifications of what happens, and delivers them, one after the other.

    Args:
        clock: Time and chance.
        delivered: Called with the channel and the outcome (delivered, failed, dropped) of each.
        channels: How they are delivered.
        rules: When people are notified.
        labels: Returns the titles and addresses of a link's owners; None leaves them out.
    """

    def __init__(
        self,
        clock: Clock,
        delivered: Callable[[str, str], None],
        channels: Sequence[Channel] = (),
        rules: Rules = Rules(),  # noqa: B008 - a constant
        labels: Callable[[str, Collection[MaybeOwner]], Awaitable[Labels]] | None = None,
    ) -> None:
        self._clock = clock
        self._delivered = delivered
        self._channels = channels
        self._rules = rules
        self._watches: dict[str, _Watch] = {}
        self._refusals: dict[str, Values] = {}
        self._labels = labels
        self._waiting: deque[tuple[dict[str, Any], Sequence[Hold]]] = deque()
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def configure(self, channels: Sequence[Channel], rules: Rules) -> None:
        """Use other channels and rules from now on."""
        self._channels = channels
        self._rules = rules

    def ended(self, result: PassResult) -> None:
        """Take in how a pass ended."""
        before, after = result.before, result.after
        watch = self._watches.get(result.link)
        previous = result.previous.finished_at if result.previous is not None else None
        # The process that made the pass before has reported all that was due by then.
        notified = max(previous or 0.0, watch.notified_until if watch is not None else 0.0)
        if before.health is Health.FAILING and not self._was_notified(result, notified):
            before = result.earlier
        is_due = after.health is not Health.FAILING or self._is_due(result.failures, after.since, self._clock.now())
        worse = self._is_worse(result)
        if is_due and (worse or self._is_change(before, after)):
            self._notify(notices.of_change(result, before), _held(result))
        holds = result.report.holds if result.report is not None else watch.holds if watch is not None else ()
        self._watches[result.link] = _Watch(result, notified, holds)
        self._notify_due(result.link, self._watches[result.link])

    def forget(self, link: str) -> None:
        """Drop a link that this daemon no longer runs."""
        self._watches.pop(link, None)
        self._refusals.pop(link, None)

    def notify_due(self) -> None:
        """Report what has become due since the last call."""
        for link, watch in self._watches.items():
            self._notify_due(link, watch)

    def _notify_due(self, link: str, watch: _Watch) -> None:
        now, rules, result = self._clock.now(), self._rules, watch.result
        old = [hold for hold in watch.holds if watch.notified_until < hold.since + rules.holds_after <= now]
        if old:
            self._notify(notices.of_holds(link, old, len(watch.holds), rules.holds_after), old)
        after = result.after
        if after.health is Health.FAILING and not self._is_due(result.failures, after.since, _ended_at(result, now)):
            # The pass itself was too early to be reported; the time since may be long enough by now.
            due = after.since + rules.failing_seconds
            if result.failures >= rules.failing_passes and watch.notified_until < due <= now:
                self._notify(notices.of_change(result, result.earlier))
        elif after.health not in WELL and rules.remind_every is not None:
            count = (now - after.since) // rules.remind_every
            if count >= 1 and watch.notified_until < after.since + count * rules.remind_every:
                self._notify(notices.of_reminder(result, now), _held(result))
        watch.notified_until = max(watch.notified_until, now)

    def _is_due(self, failures: int, since: float, at: float) -> bool:
        """Return whether a failure that lasts since then, over so many passes, is to be reported at a moment."""
        return failures >= self._rules.failing_passes and at - since >= self._rules.failing_seconds

    def _was_notified(self, result: PassResult, notified_until: float) -> bool:
        """Return whether the failure before this pass has been reported."""
        before = result.before
        return self._is_due(max(1, result.failures_before), before.since, max(notified_until, before.since))

    @staticmethod
    def _is_change(before: LinkHealth, after: LinkHealth) -> bool:
        return after.health is not before.health and not (before.health is Health.NEW and after.health in WELL)

    def _is_worse(self, result: PassResult) -> bool:
        """Return whether a refused plan that waits would now do notably more than was reported."""
        if result.after.health is not Health.REFUSED or result.report is None:
            self._refusals.pop(result.link, None)
            return False
        hits = result.report.row.guards
        notified: Values | None = None
        if result.before.health is Health.REFUSED and result.previous is not None:
            notified = self._refusals.get(result.link, values_by_guard(result.previous.guards))
        worse = notified is not None and is_worse(notified, hits)
        self._refusals[result.link] = values_by_guard(hits) if notified is None or worse else notified
        return worse

    async def run(self) -> None:
        """Deliver notifications. Never returns."""
        while True:
            while self._waiting:
                self._idle.clear()
                notice = await self._labelled(*self._waiting.popleft())
                await asyncio.gather(*(self._deliver(channel, notice) for channel in self._channels))
            self._idle.set()
            self._more.clear()
            await self._more.wait()

    async def drain(self) -> None:
        """Wait until everything has been delivered, or given up."""
        if self._waiting:
            self._idle.clear()
        await self._idle.wait()

    async def _labelled(self, notice: dict[str, Any], holds: Sequence[Hold]) -> dict[str, Any]:
        """Return a notification with the titles and addresses of the orders it is about."""
        if self._labels is None or not holds:
            return notice
        shown = holds[: notices.SHOWN_HOLDS]
        try:
            labels = await self._labels(notice["link"], owners_of_facts(hold.facts for hold in shown))
        except SyncdError as error:
            log.info("notification without titles", link=notice["link"], reason=error.message)
            labels = NO_LABELS
        return notices.with_labels(notice, shown, labels)

    def _notify(self, notice: dict[str, Any], holds: Sequence[Hold] = ()) -> None:
        if notice["severity"] in {one.word for one in Severity if one < self._rules.severity}:
            return
        notice = stamped(notice, self._clock.now())
        log.info("notification", about=notice["event"], link=notice["link"], text=notice["text"])
        if not self._channels:
            return
        if len(self._waiting) >= WAITING:
            self._waiting.popleft()
            self._delivered("any", "dropped")
        self._waiting.append((notice, holds))
        self._more.set()

    async def _deliver(self, channel: Channel, notice: Mapping[str, Any]) -> None:
        for attempt in range(1, TRIES + 1):
            try:
                await channel.deliver(notice)
            except Undelivered as error:
                log.warning("notification not delivered", way=channel.way, attempt=attempt, reason=str(error))
            except Exception:
                # A bug in one channel must not end the daemon.
                log.exception("notification crashed", way=channel.way, attempt=attempt)
            else:
                self._delivered(channel.way, "delivered")
                return
            if attempt < TRIES:
                await self._clock.sleep(pause(attempt, first=2, most=60, spread=0.5, chance=self._clock.random()))
        self._delivered(channel.way, "failed")


def _held(result: PassResult) -> Sequence[Hold]:
    """Return the orders that a notification of held orders is about."""
    return result.report.holds if result.after.health is Health.HELD and result.report is not None else ()


def stamped(notice: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Given a notification, return it with when and by which syncd it was made."""
    return {**notice, "at": iso(now), "host": socket.gethostname(), "version": __version__}


def _ended_at(result: PassResult, now: float) -> float:
    """Return when a pass ended, in seconds since the epoch."""
    row = result.report.row if result.report is not None else None
    return now if row is None or row.finished_at is None else row.finished_at
