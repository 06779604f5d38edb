"""The portal as the engine sees it: `syncd.core.ports.Portal`, joined from its parts."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

import structlog

from syncd.core.model import Action, Owner, Row, Scope
from syncd.core.ports import Progress, Rights, Usage, Write, WriteAnswer
from syncd.errors import SyncdError
from syncd.portal.commands import ADD, BATCH, DELETE
from syncd.portal.listing import Listing
from syncd.portal.owners import Owners
from syncd.portal.probing import probe
from syncd.portal.reading import Reader
from syncd.portal.session import Session
from syncd.portal.shelf import Shelf
from syncd.portal.writing import Writer

KEEP_EVERY: Final = 15.0
"""Seconds between two times that the operating budget is kept."""

log = structlog.get_logger(__name__)

Uses: TypeAlias = Mapping[str, tuple[float, float, float]]


class BudgetStore(Protocol):
    """The part of the state database that keeps operating budgets over a restart."""

    async def budget(self, portal: str) -> dict[str, tuple[float, float, float]]:
        """Return the budget by method: (operating seconds used, reset at, read at)."""
        ...

    async def set_budget(self, portal: str, budget: Uses) -> None:
        """Keep it."""
        ...


class BitrixPortal:
    """One link's portal; see `syncd.core.ports.Portal` for what each method promises.

    Args:
        session: The way to the portal.
        key: What the budget is kept under.
        store: Where it is kept; None forgets it at the end.
        verify_owners: Whether owners are asked for before orders are bound to them.
        closing: Called at the end.
    """

    def __init__(
        self,
        session: Session,
        *,
        key: str,
        store: BudgetStore | None,
        verify_owners: bool,
        closing: Callable[[], Awaitable[None]],
    ) -> None:
        self._session = session
        self._key = key
        self._store = store
        self._closing = closing
        self._reader = Reader(session)
        self._writer = Writer(session, self._reader)
        self._owners = Owners(session, self._reader, verify=verify_owners)
        self._restored = False
        self._kept_at = float("-inf")

    def usage(self) -> Usage:
        """Return a copy of the running totals."""
        budget = self._session.budget
        operating = max(map(budget.used, budget.snapshot()), default=0.0)
        return dataclasses.replace(self._session.usage, operating=operating)

    async def listing(self, boundaries: Sequence[int], scope: Scope, progress: Progress) -> AsyncIterator[list[Row]]:
        """List every binding in the scope's order range; nothing is yielded before all of it is proved complete."""
        await self._restore()
        shelf = Shelf()
        try:
            began = self._session.clock.monotonic()
            try:
                await Listing(self._session, scope, shelf, progress).collect(boundaries)
            finally:
                self._session.usage.listing_seconds += self._session.clock.monotonic() - began
                await self._keep()
            for rows in shelf.chunks():
                self._reader.seen(rows[-1].order_id)
                yield rows
        finally:
            shelf.close()

    async def read(self, order_ids: Sequence[int]) -> dict[int, Owner]:
        """Return the owners of those orders that are bound; no ids make no request."""
        await self._restore()
        return await self._reader.read(order_ids)

    def batch_size(self, writes: Sequence[Write]) -> int:
        """Return how many of the first of these writes fit into one request."""
        return self._writer.batch_size(writes)

    def wait_for(self, action: Action) -> float:
        """Return the seconds until the operating budget lets this action's method be called again."""
        method = DELETE if action is Action.REMOVE else ADD
        return max(self._session.budget.delay(method), self._session.budget.delay(BATCH))

    async def write(self, batch: Sequence[Write], then_read: Sequence[int] = ()) -> WriteAnswer:
        """Send one request that lists the batch's orders and then writes them, and account for each."""
        await self._restore()
        answer = await self._writer.write(batch, then_read)
        for result in answer.results:
            if result.found is not None:
                self._reader.seen(result.order_id)
        await self._keep()
        return answer

    async def missing_owners(self, owners: Collection[Owner], witnesses: Collection[Owner]) -> set[Owner]:
        """Return those owners that certainly do not exist."""
        await self._restore()
        return await self._owners.missing(owners, witnesses)

    async def probe(self, witnesses: Collection[Owner] = ()) -> Rights:
        """Find out what the credentials may do, without any effect."""
        await self._restore()
        rights, orders = await probe(self._session)
        for order_id in orders:
            self._reader.seen(order_id)
        return dataclasses.replace(rights, sees_owners=await self._owners.sees(witnesses))

    async def aclose(self) -> None:
        """Keep the budget and close connections."""
        self._kept_at = float("-inf")
        try:
            await self._keep()
        finally:
            await self._closing()

    async def _restore(self) -> None:
        if self._store is not None and not self._restored:
            self._session.budget.restore(await self._store.budget(self._key))
            self._restored = True

    async def _keep(self) -> None:
        """Keep the budget, now and then. What was written stands whether or not that works."""
        now = self._session.clock.monotonic()
        if self._store is None or not self._session.budget.changed or now - self._kept_at < KEEP_EVERY:
            return
        self._session.budget.changed = False
        self._kept_at = now
        try:
            await self._store.set_budget(self._key, self._session.budget.snapshot())
        except SyncdError as error:
            log.warning("operating budget not kept", link=self._session.link, reason=error.message)
