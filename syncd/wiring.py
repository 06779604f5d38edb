"""The only module that knows everybody: makes links out of settings.

The command line and the daemon open one `AppContext` and ask it for links; what they do with a link is the engine's.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from syncd.config.model import FirstSync, LinkSettings, Settings, changed_parts, fingerprint
from syncd.core.model import Direction
from syncd.core.ports import Cancelled, Clock, HighWaterMark, Progress
from syncd.engine.learned_keys import LearnedKeys
from syncd.engine.link import Link, NoMark, no_progress
from syncd.errors import UsageError
from syncd.obs.clock import NULL_METER, Meter, SystemClock
from syncd.portal.client import BitrixPortal
from syncd.portal.factory import open_portal
from syncd.portal.hosts import Hosts
from syncd.state import migrate
from syncd.state.high_water import mark_files
from syncd.state.store import SqlStore, open_store
from syncd.status.owners import Titles
from syncd.table.keyed import open_table
from syncd.table.sql import SqlTable

GC_THRESHOLDS = 20_000, 20, 20
"""After how many new objects Python looks for dead cycles (`gc.set_threshold`). A pass makes rows by the million, none
of them in a cycle; looking after every 700, as is Python's habit, took almost half of a pass's CPU time."""


@dataclass(slots=True)
class AppContext:
    """The settings, the clock and the state database, from which links are made.

    Args:
        settings: The configuration.
        clock: Time.
        store: The state database, its schema upgraded.
        holder: Who works here, for the leases: host and process.
        hosts: The portal hosts that all links of the process share, with their request limits.
        meter: Receives the duration of every request and every transaction.
        marks: What is known of the links' runs outside the state database.
    """

    settings: Settings
    clock: Clock
    store: SqlStore
    holder: str
    hosts: Hosts
    meter: Meter = NULL_METER
    marks: HighWaterMark = field(default_factory=NoMark)

    @asynccontextmanager
    async def titles(self) -> AsyncIterator[Titles]:
        """Open what knows the titles of deals and invoices, for the time of the block."""
        titles = Titles(lambda: self.settings, self.store, self.clock, self.portal)
        try:
            yield titles
        finally:
            await titles.aclose()

    @asynccontextmanager
    async def portal(self, name: str) -> AsyncIterator[BitrixPortal]:
        """Open the portal of a link alone. Connects to nothing yet."""
        settings = self.settings.links[name].portal
        portal = open_portal(settings, link=name, hosts=self.hosts, store=self.store, meter=self.meter)
        try:
            yield portal
        finally:
            await portal.aclose()

    @asynccontextmanager
    async def watched_table(self, name: str) -> AsyncIterator[SqlTable]:
        """Open the mapping table of a link alone, to ask what has changed in it. Connects to nothing yet."""
        settings = self.settings.links[name]
        table = open_table(
            settings.table,
            scope=settings.scope(),
            clock=self.clock,
            link=name,
            writable=False,
            meter=self.meter,
        )
        try:
            yield table
        finally:
            await table.aclose()

    def named_links(self, names: Sequence[str], *, one: bool = False) -> list[str]:
        """Return the links that a command line names (`named_links` of these settings)."""
        return named_links(self.settings, names, one=one)

    @asynccontextmanager
    async def link(
        self, name: str, *, progress: Progress = no_progress, cancelled: Cancelled | None = None
    ) -> AsyncIterator[Link]:
        """Open both sides of a link for the time of the block. Connects to nothing yet."""
        settings = self.settings.links[name]
        portal = open_portal(
            settings.portal,
            link=name,
            hosts=self.hosts,
            store=self.store,
            verify_owners=settings.verify_owners,
            meter=self.meter,
            progress=progress,
        )
        try:
            field = settings.table.key.field
            keys = None if field is None else LearnedKeys(field, portal, self.store, self.clock)
            table = open_table(
                settings.table,
                scope=settings.scope(),
                clock=self.clock,
                link=name,
                keys=keys,
                writable=settings.direction is not Direction.TABLE_TO_CRM,
                meter=self.meter,
            )
            try:
                yield Link(
                    name=name,
                    fingerprint=fingerprint(settings),
                    portal_address=settings.portal.address,
                    changed_ends=lambda stored: changed_parts(stored, settings),
                    policy=settings.policy(),
                    limits=settings.guards.limits(),
                    portal=portal,
                    table=table,
                    store=self.store,
                    clock=self.clock,
                    holder=self.holder,
                    ask_first_sync=settings.first_sync is FirstSync.ASK,
                    verify_owners=settings.verify_owners,
                    plan_ttl=settings.plan_ttl_seconds,
                    request_life=settings.portal.max_request_seconds,
                    slices=settings.slices,
                    recent_orders=settings.recent.orders if settings.recent is not None else 0,
                    writers=settings.portal.writers,
                    lease_ttl=_lease_ttl(self.settings, settings),
                    order_keys=keys,
                    progress=progress,
                    high_water=self.marks,
                    cancelled=cancelled or Cancelled(),
                )
            finally:
                await table.aclose()
        finally:
            await portal.aclose()


def named_links(settings: Settings, names: Sequence[str], *, one: bool = False) -> list[str]:
    """Given the link names of a command line, return the links that are meant.

    Args:
        settings: The configuration.
        names: As typed; empty means all links, or the only one.
        one: The command takes one link.

    Raises:
        UsageError: A name is unknown, or one link must be named.
    """
    known = list(settings.links)
    unknown = [name for name in names if name not in settings.links]
    if unknown:
        there = ", ".join(known) or "none"
        raise UsageError(f"There is no link {', '.join(unknown)} in the configuration.", hint=f"Its links: {there}.")
    if not known:
        raise UsageError("The configuration has no links.", hint="`syncd init` makes one.")
    chosen = list(dict.fromkeys(names)) or known
    if one and len(chosen) != 1:
        raise UsageError("Which link? The configuration has several.", hint=f"Name one of: {', '.join(known)}.")
    return chosen


@asynccontextmanager
async def open_app_context(
    settings: Settings,
    *,
    clock: Clock | None = None,
    upgrade: bool = True,
    anew: bool = False,
    meter: Meter = NULL_METER,
    environ: Mapping[str, str] = os.environ,
) -> AsyncIterator[AppContext]:
    """Open the state database for the time of the block.

    Args:
        settings: The configuration.
        clock: Time; the system's by default.
        upgrade: Make or upgrade the schema first; otherwise a schema that is not the current one is refused.
        anew: Make a state database anew even where links are known to have worked with one.
        meter: Receives the duration of every request and every transaction.
        environ: Names the folder of what is noted outside the state database.

    Raises:
        ConfigError, StateUnavailable: The state database cannot be used.
    """
    gc.set_threshold(*GC_THRESHOLDS)
    clock = clock or SystemClock()
    url = settings.state.url.get_secret_value()
    marks = mark_files(url, environ)
    if upgrade:
        used_by = {} if anew else await asyncio.to_thread(marks.links)
        await asyncio.to_thread(migrate.upgrade, url, used_by=used_by)
    else:
        await asyncio.to_thread(migrate.require_current, url)
    store = open_store(url, clock=clock, meter=meter, token_key=settings.state.key)
    try:
        yield AppContext(settings, clock, store, f"{socket.gethostname()}:{os.getpid()}", Hosts(clock), meter, marks)
    finally:
        await store.aclose()


def _lease_ttl(settings: Settings, link: LinkSettings) -> float:
    """A lease is renewed between requests, so it must outlive the longest one."""
    return max(settings.state.lease_ttl_seconds, 2 * link.portal.max_request_seconds)
