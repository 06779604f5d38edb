"""A daemon to show: a real state database whose past is written through the store, and pages read through HTTP."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from syncd.config.model import Settings
from syncd.core.model import (
    Action,
    Change,
    Counts,
    Facts,
    Hold,
    HoldKind,
    MaybeOwner,
    Outcome,
    Owner,
    Reason,
    Side,
    Unreadable,
)
from syncd.core.records import (
    Attempt,
    BindingUpdate,
    ChangeOutcome,
    Decision,
    GuardHit,
    Lease,
    LinkRow,
    Reached,
    RunRow,
    StoredHold,
)
from syncd.daemon import pages
from syncd.daemon.lifecycle import Process
from syncd.daemon.web import application
from syncd.daemon.web_server import Access
from syncd.errors import UnavailableError
from syncd.portal.hosts import Hosts
from syncd.state import migrate
from syncd.state.store import SqlStore, open_store
from syncd.status.health import LinkHealth
from syncd.status.links import LinkStatus, link_statuses
from syncd.status.owners import Titles
from syncd.wiring import AppContext
from tests.fakes.clock import SetClock

NOON = 1_800_000_000.0
SECRET = "topsecretcode"

PROCESS = Process("host:1", "running", NOON - 3600, "/etc/syncd/syncd.toml", NOON - 3600)

HOSTILE = (
    "<script>document.title='pwned'</script>",
    '"><img src=x onerror="document.title=\'pwned\'">',
    "' onmouseover='document.title=1' x='",
    "</title></textarea></script><svg onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }} {% raw %}",
    "\u202egnp.exe\x00\u2028",
)
HOSTILE_TEXT = " ".join(HOSTILE)


def settings(directory: Path, links: Mapping[str, Mapping[str, Any]]) -> Settings:
    made = {
        name: {
            "schedule": "5m",
            "portal": {"webhook": f"https://{name}.bitrix24.com/rest/1/{SECRET}/"},
            "table": {
                "url": f"sqlite:///{directory / name}.db",
                "name": "bindings",
                "columns": {"order_id": "order_id", "owner_type_id": 2, "owner_id": "deal_id"},
            },
        }
        | dict(more)
        for name, more in links.items()
    }
    return Settings.model_validate({"state": {"url": f"sqlite:///{directory / 'state.db'}"}, "links": made})


def deal(number: int | None) -> MaybeOwner:
    return None if number is None else Owner(2, number)


def change(
    order: int,
    before: int | None,
    after: int | None,
    *,
    side: Side = Side.TABLE,
    reason: Reason = Reason.CRM_CHANGED,
) -> Change:
    there, wanted = deal(before), deal(after)
    action = Action.REMOVE if wanted is None else Action.ADD if there is None else Action.MOVE
    facts = Facts(wanted, there, there) if side is Side.TABLE else Facts(there, wanted, there)
    return Change(order, side, action, there, wanted, reason, facts, agreed_after=wanted)


def agreement(order: int, after: int | None = 2, before: int | None = None) -> Change:
    facts = Facts(deal(after), deal(after), deal(before))
    return Change(
        order, None, Action.AGREE, deal(before), deal(after), Reason.BOTH_EQUAL, facts, agreed_after=deal(after)
    )


def held(
    order: int,
    kind: HoldKind = HoldKind.EDIT_EDIT,
    *,
    facts: Facts = Facts(deal(11), deal(12), deal(10)),  # noqa: B008 - a value that never changes
    detail: str = "Both sides changed it.",
    decision: str = "",
) -> StoredHold:
    return StoredHold(Hold(order, kind, facts, detail), sticky=False, decision=decision)


def no_portal(_link: str) -> AbstractAsyncContextManager[Any]:
    raise UnavailableError("The portal is away.")


@dataclass
class ShownDaemon:
    """A daemon's state database and what the daemon says of itself; also what the pages are given (`DaemonState`)."""

    context: AppContext
    known: dict[str, LinkHealth] = field(default_factory=dict)
    broken: Exception | None = None
    looks: int = 0
    said: Process = PROCESS
    known_titles: Titles = field(init=False)

    def __post_init__(self) -> None:
        place = self.context
        self.known_titles = Titles(lambda: place.settings, place.store, place.clock, no_portal)

    @property
    def titles(self) -> Titles:
        return self.known_titles

    @property
    def store(self) -> SqlStore:
        return self.context.store

    @property
    def clock(self) -> Any:
        return self.context.clock

    def process(self) -> Process:
        return self.said

    async def links(self) -> list[LinkStatus]:
        self.looks += 1
        if self.broken is not None:
            raise self.broken
        return await link_statuses(self.context.settings, self.store, self.clock.now(), self.known)

    # -------------------------------------------------------------- the past

    async def link_row(self) -> LinkRow:
        row = await self.store.find_link("shop")
        assert row is not None
        return row

    async def lease(self, link: str = "shop", holder: str = "host:1") -> Lease:
        row = await self.store.link(link, "ends")
        return await self.store.acquire(row, holder, 600.0, self.clock.now())

    async def run(
        self,
        link: str = "shop",
        *,
        kind: str = "pass",
        state: str = "applied",
        origin: str = "schedule",
        source: int | None = None,
        counts: Counts | None = None,
        changes: Sequence[tuple[Change, Outcome, str]] = (),
        found: Mapping[int, MaybeOwner] | None = None,
        agreements: Iterable[Change] = (),
        holds: Sequence[StoredHold] = (),
        released: Sequence[int] = (),
        guards: Sequence[GuardHit] = (),
        error: str = "",
        requests: int = 2,
        operating: float = 0.0,
        took: float = 2.0,
        before: float = 0.0,
    ) -> int:
        """Write a run that began `before` seconds ago (from the clock's now), and what it did; return its number."""
        later = self.clock.time
        now = self.clock.time = later - before
        lease = await self.lease(link)
        number = await self.store.start_run(lease, kind, origin, now, source)
        planned = await self.store.save_plan(lease, number, [one for one, _, _ in changes])
        outcomes = [
            ChangeOutcome(
                change_id,
                outcome,
                error=text,
                found=(found or {}).get(one.order_id),
                found_known=one.order_id in (found or {}),
                update=BindingUpdate(one.order_id, one.after, one.agreed_after) if outcome is Outcome.APPLIED else None,
            )
            for change_id, (one, outcome, text) in zip(planned, changes, strict=True)
            if outcome is not Outcome.PLANNED
        ]
        await self.store.record(lease, number, outcomes, now=now + took)
        agreed = [(one, BindingUpdate(one.order_id, one.after, one.after)) for one in agreements]
        await self.store.agree(lease, number, agreed)
        await self.store.set_holds(lease, number, opened=holds, released=released, now=now + took)
        counts = counts or _counted(changes, len(holds))
        row = RunRow(number, link, lease.link_id, kind, state, origin, source, now, now + took)
        row.counts, row.guards, row.error = counts, list(guards), error
        row.requests, row.calls, row.operating = requests, requests * 10, operating
        await self.store.finish_run(lease, row)
        await self.store.release(lease)
        self.clock.time = later
        return number


def _counted(changes: Sequence[tuple[Change, Outcome, str]], holds: int) -> Counts:
    counts = Counts(in_step=940, agreed=950, crm_rows=950, table_rows=950, holds=holds)
    for one, _, _ in changes:
        if one.side is not None:
            side = counts.of(one.side)
            setattr(side, one.action.value, getattr(side, one.action.value) + 1)
    return counts


async def make_hostile(world: ShownDaemon) -> None:
    """Let the links `shop` and `parked` have a past that says the worst things wherever it can say anything."""
    unreadable = Facts(None, None, None, Unreadable(HoldKind.INVALID_ROW, HOSTILE_TEXT))
    await world.run(
        state="partial",
        changes=[
            (change(77, 10, 11), Outcome.FAILED, HOSTILE_TEXT),
            (change(78, 10, 11, side=Side.CRM), Outcome.APPLIED, ""),
        ],
        agreements=[agreement(79)],
        holds=[
            held(77, detail=HOSTILE_TEXT),
            held(80, HoldKind.INVALID_ROW, facts=unreadable, detail=HOSTILE_TEXT),
        ],
        error=HOSTILE_TEXT,
        before=60,
    )
    refusing = [GuardHit("fingerprint", None, 0, 1), GuardHit("max_removes", Side.CRM, 1, 2)]
    await world.run(state="refused", guards=refusing, error=HOSTILE_TEXT, before=30)
    await world.run("parked", state="failed", error=HOSTILE_TEXT, origin="'><b>", before=20)
    lease = await world.lease("parked", holder=HOSTILE_TEXT[:150])
    await world.store.set_parked(lease, f"auth: {HOSTILE_TEXT}")
    await world.store.renew(lease, 600.0, NOON, Reached(HOSTILE_TEXT, 1, 2))
    lease = await world.lease()
    await world.store.record(lease, 1, [], now=NOON, attempts=[Attempt(77, 3, NOON + 60, HOSTILE_TEXT)])
    await world.store.release(lease)
    await world.store.keep_names(lease.link_id, {Owner(2, 11): HOSTILE_TEXT, Owner(2, 0): "<b>Deal</b>"}, NOON, 0)
    await world.store.note(Decision("shop", "resolve", "crm", HOSTILE_TEXT[:100], NOON, HOSTILE_TEXT, order_id=77))
    troubles = (("shop", HOSTILE_TEXT), ("parked", HOSTILE_TEXT))
    world.said = world.said.but(
        config_error=HOSTILE_TEXT, holder=HOSTILE_TEXT, restart=(HOSTILE_TEXT,), troubles=troubles
    )


def make_template(directory: Path) -> Path:
    """Make an empty state database once, to be copied: making one takes longer than most tests."""
    migrate.upgrade(f"sqlite:///{directory / 'state.db'}")
    return directory / "state.db"


@asynccontextmanager
async def open_world(
    directory: Path, template: Path, links: Mapping[str, Mapping[str, Any]] | None = None, clock: Any = None
) -> AsyncIterator[ShownDaemon]:
    made = settings(directory, links or {"shop": {}})
    shutil.copy(template, directory / "state.db")
    clock = clock or SetClock(NOON)
    store = open_store(made.state.url.get_secret_value(), clock=clock)
    try:
        yield ShownDaemon(AppContext(made, clock, store, "host:1", Hosts(clock)))
    finally:
        await store.aclose()


def web(world: ShownDaemon) -> Any:
    """The application as the daemon serves it, with its security headers."""

    async def nothing() -> Sequence[str]:
        return ()

    async def metrics() -> CollectorRegistry:
        return CollectorRegistry()

    return application(
        alive=nothing,
        ready=nothing,
        status=nothing,
        metrics=metrics,
        pages=pages.routes(world),
        access=Access(["syncd"]),
    )
