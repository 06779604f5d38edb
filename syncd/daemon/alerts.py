"""Who is told, and of what: a change of a link's health, a refused plan, holds that grow old, and that all is well.

Each thing is told once. What was told is not kept anywhere: it follows from the runs in the state database. A daemon
compares its pass with the pass before, whichever daemon made that, and a hold is due to be told in the first pass or
minute after it has come of age. So a restart repeats nothing, and of several daemons the one that made the pass tells.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from syncd import __version__
from syncd.core.backoff import pause
from syncd.core.model import Hold
from syncd.core.ports import Clock
from syncd.core.refusals import Numbers, is_news, numbers
from syncd.daemon.couriers import Courier, Undelivered
from syncd.daemon.desk import Ending
from syncd.daemon.health import WELL, Condition, Health
from syncd.engine.report import guard_json, hold_json, iso
from syncd.obs.redact import redact

log = structlog.get_logger("syncd.daemon")

WAITING = 100
"""Notifications kept while nobody takes them; the oldest are dropped first."""
TRIES = 4
SHOWN_HOLDS = 20
_WORDS: Mapping[Health, str] = {
    Health.IN_STEP: "in step",
    Health.HELD: "in step but for orders that are held",
    Health.REFUSED: "refused by a guard; nothing was written",
    Health.PARKED: "parked: its portal or database refuses it",
    Health.FAILING: "failing",
    Health.WAITING: "waiting for its first pass",
}


@dataclass(slots=True)
class _Watch:
    """The holds of a link whose last pass was ours, and up to which moment those that came of age have been told."""

    holds: Sequence[Hold]
    told_until: float


class Alerts:
    """Makes notifications of what happens, and delivers them, one after the other.

    Args:
        clock: Time and chance.
        delivered: Told the way and the outcome (delivered, failed, dropped) of each.
        couriers: The ways they go.
        holds_after: The age in seconds at which a hold is worth telling.
    """

    def __init__(
        self,
        clock: Clock,
        delivered: Callable[[str, str], None],
        couriers: Sequence[Courier] = (),
        holds_after: float = 3600.0,
    ) -> None:
        self._clock = clock
        self._delivered = delivered
        self._couriers = couriers
        self._holds_after = holds_after
        self._watches: dict[str, _Watch] = {}
        self._refusals: dict[str, Numbers] = {}
        self._waiting: deque[dict[str, Any]] = deque()
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def configure(self, couriers: Sequence[Courier], holds_after: float) -> None:
        """Use other ways from now on."""
        self._couriers = couriers
        self._holds_after = holds_after

    def ended(self, ending: Ending) -> None:
        """Take in how a pass ended."""
        before, after = ending.before, ending.after
        worse = self._is_worse(ending)
        if worse or (
            after.health is not before.health and not (before.health is Health.WAITING and after.health in WELL)
        ):
            self._tell(_notice_of(ending))
        if ending.report is None:
            return
        watch = self._watches.get(ending.link)
        previous = ending.previous.finished_at if ending.previous is not None else None
        # Whoever made the pass before told what had come of age by then.
        told = max(previous or 0.0, watch.told_until if watch is not None else 0.0)
        self._watches[ending.link] = _Watch(ending.report.holds, told)
        self.tell_old_holds()

    def forget(self, link: str) -> None:
        """Another daemon looks after the link now, or nobody."""
        self._watches.pop(link, None)
        self._refusals.pop(link, None)

    def _is_worse(self, ending: Ending) -> bool:
        """Return whether a refused plan that waits would do notably more by now than was told of it."""
        if ending.after.health is not Health.REFUSED or ending.report is None:
            self._refusals.pop(ending.link, None)
            return False
        hits = ending.report.row.guards
        told: Numbers | None = None
        if ending.before.health is Health.REFUSED and ending.previous is not None:
            told = self._refusals.get(ending.link, numbers(ending.previous.guards))
        worse = told is not None and is_news(told, hits)
        self._refusals[ending.link] = numbers(hits) if told is None or worse else told
        return worse

    def tell_old_holds(self) -> None:
        """Tell of the holds that have come of age since this was asked last."""
        now = self._clock.now()
        for link, watch in self._watches.items():
            limit = self._holds_after
            old = [hold for hold in watch.holds if watch.told_until < hold.since + limit <= now]
            watch.told_until = max(watch.told_until, now)
            if old:
                self._tell(_notice_of_holds(link, old, len(watch.holds), limit))

    async def run(self) -> None:
        """Deliver, for ever."""
        while True:
            while self._waiting:
                self._idle.clear()
                notice = self._waiting.popleft()
                await asyncio.gather(*(self._deliver(courier, notice) for courier in self._couriers))
            self._idle.set()
            self._more.clear()
            await self._more.wait()

    async def drain(self) -> None:
        """Wait until everything has been delivered, or given up."""
        if self._waiting:
            self._idle.clear()
        await self._idle.wait()

    def _tell(self, notice: dict[str, Any]) -> None:
        notice = {
            **notice,
            "text": redact(str(notice["text"])),
            "at": iso(self._clock.now()),
            "host": socket.gethostname(),
            "version": __version__,
        }
        log.info("notification", about=notice["event"], link=notice["link"], text=notice["text"])
        if not self._couriers:
            return
        if len(self._waiting) >= WAITING:
            self._waiting.popleft()
            self._delivered("any", "dropped")
        self._waiting.append(notice)
        self._more.set()

    async def _deliver(self, courier: Courier, notice: Mapping[str, Any]) -> None:
        for attempt in range(1, TRIES + 1):
            try:
                await courier.deliver(notice)
            except Undelivered as error:
                log.warning("notification not delivered", way=courier.way, attempt=attempt, reason=str(error))
            else:
                self._delivered(courier.way, "delivered")
                return
            if attempt < TRIES:
                await self._clock.sleep(pause(attempt, first=2, most=60, spread=0.5, chance=self._clock.random()))
        self._delivered(courier.way, "failed")


def _notice_of(ending: Ending) -> dict[str, Any]:
    before, after = ending.before, ending.after
    notice: dict[str, Any] = {
        "event": _event(before, after),
        "link": ending.link,
        "health": after.health.value,
        "before": before.health.value,
        "before_since": iso(before.since),
        "run": after.run or None,
        "detail": redact(after.detail),
    }
    text = f"syncd: link {ending.link} is {_WORDS[after.health]} (it was {_WORDS[before.health]})."
    if after.health is before.health:
        text = f"syncd: link {ending.link} is still {_WORDS[after.health]}, and the plan has grown."
    if after.detail:
        text += f" {after.detail}"
    if after.health is Health.REFUSED and ending.report is not None:
        notice["guards"] = [guard_json(hit) for hit in ending.report.row.guards]
        notice["commands"] = [f"syncd show {after.run}", f"syncd apply {after.run}"]
        text += f" Look with `syncd show {after.run}`; `syncd apply {after.run}` carries it out."
    if after.health is Health.HELD and ending.report is not None:
        notice["holds"] = len(ending.report.holds)
        text += f" See `syncd holds {ending.link}`."
    return {**notice, "text": text}


def _event(before: Condition, after: Condition) -> str:
    if after.health is Health.REFUSED:
        return "refused"
    return "recovered" if after.health in WELL and before.health not in WELL else "health"


def _notice_of_holds(link: str, old: Sequence[Hold], open_holds: int, limit: float) -> dict[str, Any]:
    shown = [hold_json(hold) for hold in old[:SHOWN_HOLDS]]
    count = "1 order has" if len(old) == 1 else f"{len(old)} orders have"
    return {
        "event": "holds",
        "link": link,
        "count": len(old),
        "open": open_holds,
        "holds": shown,
        "text": f"syncd: {count} been held on link {link} for more than {limit / 3600:g} h. See `syncd holds {link}`.",
    }
