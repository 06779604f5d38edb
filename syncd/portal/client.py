"""The portal as the engine sees it: `syncd.core.ports.Portal`, which reads, writes and answers questions."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from syncd.core.model import Action, MaybeOwner, Owner, Scope, Unreadable
from syncd.core.order_keys import KeyField
from syncd.core.order_ranges import FewOrders, OrderRange, OrderRanges
from syncd.core.ports import Effect, Listed, Progress, Rights, Usage, Write, WriteResult
from syncd.core.store import Store
from syncd.errors import SyncdError
from syncd.portal.commands import ADD, BATCH, DELETE, LIST, MAX_COMMANDS, Witness, method_of, write_key
from syncd.portal.listing import Listing, collect_ranges
from syncd.portal.lookups import OrderLookup, Owners
from syncd.portal.pages import RowBuffer, RowPage, split
from syncd.portal.probes import Conditions, Witnesses, probe_rights
from syncd.portal.reading import Reader
from syncd.portal.responses import ENDS_THE_RUN, BatchAnswer, CommandAnswer, kind_of, to_exception
from syncd.portal.session import OverBudget, Session
from syncd.portal.transport import PerhapsExecuted
from syncd.portal.writing import (
    Composed,
    after_reading,
    commands_for,
    compose,
    gone_witnesses,
    is_open,
    not_as_expected,
    result_of,
    was_let_through,
    was_not_carried,
)

KEEP_EVERY: Final = 15.0
"""Seconds between two times that the operating budget is kept."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _WriteBatch:
    """A batch on its way.

    Args:
        reader: Reads the orders of bare writes.
        left: What is still to be written.
        bare: The orders whose writes carry no condition.
        witnesses: Bound orders that bear witness, by the order to bind.
        results: What became of the writes so far, by order.
        made: The commands for what is left.
    """

    reader: Reader
    left: list[Write]
    bare: set[int]
    witnesses: dict[int, Witness]
    results: dict[int, WriteResult] = field(default_factory=dict)
    made: Composed = field(default_factory=lambda: Composed({}, {}, {}))

    async def make_commands(self) -> dict[str, str]:
        """Return the commands to send, without bare writes whose order is not as expected: `add` would overwrite it.

        Writes at the end are left for another batch where they no longer fit: the batch was sized for pairs, and the
        last witness of one has gone since, or the portal has stopped sorting.
        """
        bare = [write for write in self.left if write.order_id in self.bare]
        there = await self.reader.read([write.order_id for write in bare]) if bare else {}
        skipped = [one for write in bare if (one := not_as_expected(write, there.get(write.order_id))) is not None]
        self.results |= {one.order_id: one for one in skipped}
        self.left = [write for write in self.left if write.order_id not in self.results]
        self.made = compose(self.left, self.bare, self.witnesses)
        while len(self.made.commands) > MAX_COMMANDS:
            late = self.left.pop().order_id
            self.results[late] = WriteResult(late, Effect.NOT_SENT, text="its request was full")
            self.made = compose(self.left, self.bare, self.witnesses)
        return self.made.commands

    def set_all(self, effect: Effect, text: str) -> None:
        """Note that the same became of all that was left."""
        self.results |= {write.order_id: WriteResult(write.order_id, effect, text=text) for write in self.left}


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
        store: Store | None,
        verify_owners: bool,
        closing: Callable[[], Awaitable[None]],
    ) -> None:
        self._session = session
        self._key = key
        self._store = store
        self._closing = closing
        self._reader = Reader(session)
        self._witnesses = Witnesses()
        self._conditions = Conditions(session, self._witnesses)
        self._owners = Owners(session, self._reader, verify=verify_owners)
        self._lookup = OrderLookup(session, self._reader)
        self._restored = False
        self._kept_at = float("-inf")

    def usage(self) -> Usage:
        """Return a copy of the running totals."""
        budget = self._session.budget
        operating = max(map(budget.used, budget.snapshot()), default=0.0)
        return dataclasses.replace(self._session.usage, operating=operating)

    async def listing(
        self, boundaries: Sequence[int], scope: Scope, progress: Progress, ranges: OrderRanges | None = None
    ) -> AsyncIterator[Listed]:
        """List every binding in the scope's order range; nothing is yielded before all of it is proved complete."""
        await self._restore()
        buffer = RowBuffer()
        unproved: Mapping[OrderRange, str] = {}
        try:
            began = self._session.clock.monotonic()
            try:
                if ranges is None:
                    await Listing(self._session, scope.order_range, buffer, progress).collect(boundaries)
                else:
                    unproved = await self._collect_part(ranges, boundaries, buffer, progress)
            finally:
                self._session.usage.listing_seconds += self._session.clock.monotonic() - began
                await self._keep()
            if unproved:
                yield Listed([], unproved=unproved)
            for chunk in buffer.chunks():
                rows, unreadable = split(chunk)
                self._witnesses.note(rows)
                if rows:
                    self._reader.note_bound(rows[-1].order_id)
                yield Listed(rows, unreadable)
        finally:
            buffer.close()

    async def _collect_part(
        self, ranges: OrderRanges, boundaries: Sequence[int], buffer: RowBuffer, progress: Progress
    ) -> Mapping[OrderRange, str]:
        """Put what is bound in some ranges into the buffer: wide ones are listed, narrow ones asked for by id."""
        pieces = list(ranges.pieces())
        wide = [one for one in pieces if isinstance(one, OrderRange)]
        few = [one.orders for one in pieces if isinstance(one, FewOrders)]
        unproved = await collect_ranges(self._session, wide, boundaries, buffer, progress) if wide else {}
        there = await self._reader.read([order for orders in few for order in orders]) if few else {}
        for orders in few:
            buffer.put(
                orders[0] - 1, orders[-1], RowPage.of((order, there[order]) for order in orders if order in there)
            )
        return unproved

    async def read(self, order_ids: Sequence[int]) -> dict[int, Owner | Unreadable]:
        """Return the owners of those orders that are bound; no ids make no request."""
        await self._restore()
        return await self._reader.read(order_ids)

    def batch_size(self, writes: Sequence[Write]) -> int:
        """Given writes of one method, return how many of the first fit one request, in commands and in time."""
        commands, seconds, sizer = 0, 0.0, self._session.sizer
        for size, write in enumerate(writes):
            needed = commands_for(write, paired=self._conditions.pair_for(write.order_id) is not None)
            commands += needed
            seconds += sizer.seconds(method_of(write)) + (needed - 1) * sizer.seconds(LIST)
            if size and (
                commands > MAX_COMMANDS or seconds > sizer.target_seconds or size >= sizer.most_calls(method_of(write))
            ):
                return size
        return len(writes)

    def wait_for(self, action: Action) -> float:
        """Return the seconds until the operating budget lets this action's method be called again."""
        method = DELETE if action is Action.REMOVE else ADD
        return max(self._session.budget.delay(method), self._session.budget.delay(BATCH))

    async def write(self, batch: Sequence[Write]) -> list[WriteResult]:
        """Carry out conditional writes in one request, and account for each of them."""
        if not batch:
            return []
        await self._restore()
        sending = _WriteBatch(self._reader, list(batch), *await self._condition(batch))
        if sent := await sending.make_commands():
            try:
                answer = await self._session.send(
                    sent, reads=False, again=sending.make_commands if sending.bare else None
                )
            except PerhapsExecuted as lost:
                self._session.sizer.overrun(method_of(batch[0]))
                sending.set_all(Effect.UNKNOWN, str(lost))
            except OverBudget as refused:
                sending.set_all(Effect.NOT_SENT, str(refused))
            else:
                self._end_if_none_executed(sending.left, answer)
                await self._account(sending, answer.commands)
        results = [sending.results[write.order_id] for write in batch]
        self._learn(batch, results)
        await self._keep()
        return results

    async def _condition(self, batch: Sequence[Write]) -> tuple[set[int], dict[int, Witness]]:
        """Return the orders whose writes can carry no condition, and a witness for each other order to bind."""
        if batch[0].after is None:
            return set(), {}
        if not await self._conditions.find_out():
            return {write.order_id for write in batch}, {}
        found = {one.order_id: await self._conditions.find_witness(one.order_id) for one in batch if one.before is None}
        return {one for one, witness in found.items() if witness is None}, {
            one: witness for one, witness in found.items() if witness is not None
        }

    async def _account(self, sending: _WriteBatch, answers: Mapping[str, CommandAnswer]) -> None:
        """Find out what became of each write of an answered batch; the orders that its answer leaves open are read."""
        made = sending.made
        results = [result_of(write, made, answers) for write in sending.left]
        outcomes = list(zip(sending.left, results, strict=True))
        doubtful = any(was_let_through(write, made, answers, result) for write, result in outcomes)
        for witness in gone_witnesses(made, answers):
            self._witnesses.set_owner(witness, None)
        still_open = [result.order_id for result in results if is_open(result)]
        if still_open:
            there: Mapping[int, Owner | Unreadable] | None = None
            with suppress(SyncdError):  # what was written stays written, whether or not it can be read
                there = await self._reader.read(still_open)
            results = [after_reading(write, result, there) if is_open(result) else result for write, result in outcomes]
        if doubtful or any(was_not_carried(result) for result in results):
            self._conditions.doubt()
        sending.results |= {result.order_id: result for result in results}

    def _learn(self, batch: Sequence[Write], results: Sequence[WriteResult]) -> None:
        """Note what is bound now."""
        for write, result in zip(batch, results, strict=True):
            if result.effect is Effect.DONE:
                self._bound(write.order_id, write.after)
            elif result.found_known:
                self._bound(write.order_id, result.found)

    def _bound(self, order_id: int, owner: MaybeOwner) -> None:
        self._witnesses.set_owner(order_id, owner)
        if owner is not None:
            self._reader.note_bound(order_id)

    def _end_if_none_executed(self, batch: Sequence[Write], answer: BatchAnswer) -> None:
        """Raise the error that ends the run if it refused every write; where one was executed, all are reported."""
        own = [answer.commands.get(write_key(write)) for write in batch]
        errors = [one.error for one in own if one is not None and one.error is not None]
        if errors and len(errors) == len(batch) and all(kind_of(error) in ENDS_THE_RUN for error in errors):
            raise to_exception(errors[0], host=self._session.host.name, link=self._session.link)

    async def missing_owners(self, owners: Collection[Owner], witnesses: Collection[Owner]) -> set[Owner]:
        """Return those owners that certainly do not exist."""
        await self._restore()
        return await self._owners.missing(owners, witnesses)

    async def titles(self, owners: Collection[Owner]) -> dict[Owner, str]:
        """Return the titles of owners, empty where the credentials see none (`syncd.portal.lookups.Owners.titles`)."""
        await self._restore()
        return await self._owners.titles(owners)

    async def owner_types(self) -> dict[int, str]:
        """Return the owner types that the portal names (`syncd.portal.lookups.Owners.types`)."""
        await self._restore()
        return await self._owners.types()

    async def orders_with(self, field: KeyField, keys: Collection[str]) -> dict[str, list[int]]:
        """Return the orders that have exactly these keys; no keys make no request."""
        await self._restore()
        return await self._lookup.orders_with(field, keys)

    async def keys_of(self, field: KeyField, order_ids: Collection[int]) -> dict[int, str]:
        """Return the keys of those orders that exist; no ids make no request."""
        await self._restore()
        return await self._lookup.keys_of(field, order_ids)

    async def probe(self, witnesses: Collection[Owner] = ()) -> Rights:
        """Find out what the credentials may do, without any effect."""
        await self._restore()
        rights, rows = await probe_rights(self._session)
        for row in rows:
            self._bound(row.order_id, row.owner)
        return dataclasses.replace(
            rights,
            sees_owners=await self._owners.sees(witnesses),
            conditional=await self._conditions.find_out() if rights.read else None,
        )

    async def member_id(self) -> str:
        """Return the portal's lasting id, which an application's tokens came with; empty with a webhook."""
        return await self._session.credentials.member_id()

    async def is_target_of(self, address: str) -> bool:
        """Return whether another address redirects to this portal's (portal.md 8.4)."""
        return await self._session.host.is_target_of(address, seconds=self._session.seconds)

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
        """Save the budget from time to time. A failed save is logged and ignored."""
        now = self._session.clock.monotonic()
        if self._store is None or not self._session.budget.changed or now - self._kept_at < KEEP_EVERY:
            return
        self._session.budget.changed = False
        self._kept_at = now
        try:
            await self._store.set_budget(self._key, self._session.budget.snapshot())
        except SyncdError as error:
            log.warning("operating budget not kept", link=self._session.link, reason=error.message)
