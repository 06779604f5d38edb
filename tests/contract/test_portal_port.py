"""What every portal does alike: the real client over TCP and in process, and the fake in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from pydantic import SecretStr

from syncd.config.model import PortalSettings
from syncd.core.model import Action, Owner, Row, Scope
from syncd.core.order_keys import KeyField
from syncd.core.order_ranges import OrderRange, OrderRanges
from syncd.core.ports import Effect, Portal, Write, WriteResult
from syncd.errors import AuthError
from syncd.obs.clock import SystemClock
from syncd.portal.factory import open_portal
from syncd.portal.hosts import Hosts
from syncd.sandbox import References, SandboxPortal, SandboxServer
from tests.fakes.clock import FakeClock
from tests.fakes.portal import FakePortal
from tests.fakes.sandbox_transport import SandboxTransport

pytestmark = pytest.mark.anyio

EVERYTHING = Scope(frozenset({2}))
DEAL, OTHER, INVOICE = Owner(2, 10), Owner(2, 11), Owner(31, 3)
WEBHOOK = "https://portal.example/rest/1/sandboxsecret/"


class PortalSide:
    """A portal and the people who use it beside syncd."""

    def __init__(self, portal: Portal, behind: SandboxPortal | FakePortal) -> None:
        self.portal = portal
        self._behind = behind

    @property
    def bindings(self) -> dict[int, Owner]:
        return {order: Owner(*owner) for order, owner in self._behind.bindings.items()}

    def fill(self, bindings: dict[int, Owner], *, orders: int = 100) -> None:
        for order in range(1, orders + 1):
            if isinstance(self._behind, SandboxPortal):
                self._behind.add_order(order)
        for order, owner in bindings.items():
            self.bind(order, owner)

    def bind(self, order: int, owner: Owner) -> None:
        if isinstance(self._behind, SandboxPortal):
            self._behind.bind(order, *owner)
        else:
            self._behind.bind(order, owner)

    def delete_order(self, order: int) -> None:
        self._behind.delete_order(order)

    def give_key(self, order: int, key: str) -> None:
        if isinstance(self._behind, SandboxPortal):
            self._behind.set_order_key("xmlId", order, key)
        else:
            self._behind.keys[order] = key

    def owners_exist(self, *owners: Owner) -> None:
        self._behind.owners = set(owners)

    def deny_writing(self) -> None:
        if isinstance(self._behind, SandboxPortal):
            self._behind.sale_right = "U"
        else:
            self._behind.write_right = False

    def before_the_request(self, act: Callable[[], None]) -> None:
        """Somebody acts right before the next request that writes, after whatever is read before it."""
        if isinstance(self._behind, FakePortal):
            self._behind.before_write = lambda _batch: act()
            return
        latest = self._behind.stats.requests + (0 if self.conditional else 1)
        once = iter([act])

        def acts(_method: str, _params: object, request: int) -> None:
            if request > latest:
                next(once, lambda: None)()

        self._behind.before_call(acts)

    @property
    def conditional(self) -> bool:
        if isinstance(self._behind, FakePortal):
            return self._behind.conditional
        return self._behind.references is References.EVERYWHERE


@pytest.fixture(params=["tcp", "in-process", "in-process, no conditions", "memory", "memory, no conditions"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PortalSide]:
    conditional = "no conditions" not in request.param
    if request.param.startswith("memory"):
        fake = FakePortal(orders=range(1, 101))
        fake.conditional = conditional
        yield PortalSide(fake, fake)
    elif request.param.startswith("in-process"):
        clock = FakeClock()
        references = References.EVERYWHERE if conditional else References.WHOLE_VALUES
        sandbox = SandboxPortal(clock=clock, references=references)
        hosts = Hosts(clock, runtime_dir=tmp_path, transport=SandboxTransport(sandbox))
        portal = open_portal(PortalSettings(webhook=SecretStr(WEBHOOK)), link="shop", hosts=hosts)
        yield PortalSide(portal, sandbox)
        await portal.aclose()
    else:
        sandbox = SandboxPortal()
        hosts = Hosts(SystemClock(), runtime_dir=tmp_path)
        async with SandboxServer(sandbox) as server:
            settings = PortalSettings(webhook=SecretStr(server.webhook_url))
            portal = open_portal(settings, link="shop", hosts=hosts)
            yield PortalSide(portal, sandbox)
            await portal.aclose()


async def listed(
    portal: Portal,
    boundaries: tuple[int, ...] = (),
    scope: Scope = EVERYTHING,
    ranges: OrderRanges | None = None,
) -> list[Row]:
    return [row async for chunk in portal.listing(boundaries, scope, lambda *_: None, ranges) for row in chunk.rows]


def only(results: list[WriteResult]) -> WriteResult:
    assert len(results) == 1
    return results[0]


async def test_given_no_bindings_when_listing_then_nothing_comes(world: PortalSide) -> None:
    assert await listed(world.portal) == []


async def test_given_bindings_of_any_type_when_listing_then_all_come_in_order(world: PortalSide) -> None:
    world.fill({9: INVOICE, 5: DEAL, 7: DEAL})

    assert await listed(world.portal) == [Row(5, 2, 10), Row(7, 2, 10), Row(9, 31, 3)]


async def test_given_several_pages_when_listing_then_chunks_grow_strictly(world: PortalSide) -> None:
    bindings = dict.fromkeys(range(3, 700, 3), DEAL)
    world.fill(bindings, orders=700)

    rows = await listed(world.portal)

    assert [row.order_id for row in rows] == sorted(bindings)


async def test_given_known_boundaries_when_bindings_came_and_went_then_the_listing_is_still_exact(
    world: PortalSide,
) -> None:
    bindings = {order: DEAL for order in range(1, 1001) if not 200 <= order <= 333} | {5000: DEAL}
    world.fill(bindings, orders=1000)
    known = tuple(range(2, 900, 2))[49::50]

    rows = await listed(world.portal, known)

    assert [row.order_id for row in rows] == sorted(bindings)


@pytest.mark.parametrize(
    "bound",
    [range(1, 4001), range(10_001, 10_401), (), range(1, 800, 2), range(700, 1100), (50_000,)],
    ids=["ten times as many", "all beyond", "none", "every other, twice as far", "most beyond", "one far beyond"],
)
@pytest.mark.parametrize("known", [range(1, 401), range(3001, 3401)], ids=["from 1 on", "from 3001 on"])
async def test_given_boundaries_of_what_is_no_longer_bound_when_listing_then_no_row_is_missed(
    world: PortalSide, bound: Sequence[int], known: range
) -> None:
    """What was known costs requests at most, however much it has changed since."""
    world.fill(dict.fromkeys(bound, DEAL), orders=max(bound, default=1))

    rows = await listed(world.portal, tuple(known)[49::50])

    assert [row.order_id for row in rows] == list(bound)


async def test_given_a_range_in_scope_when_listing_then_both_its_ends_are_in_and_nothing_beyond(
    world: PortalSide,
) -> None:
    world.fill(dict.fromkeys(range(1, 300), DEAL), orders=300)

    rows = await listed(world.portal, (50, 100, 150, 200, 250), Scope(frozenset({2}), 100, 220))

    assert [row.order_id for row in rows] == list(range(100, 221))


@pytest.mark.parametrize("text", ["5", "2,7,9,400", "100-250", "5,60-99,150-400", "260-", "1-40,90-", "900-999"])
async def test_given_some_orders_when_listing_then_these_come_and_no_other(world: PortalSide, text: str) -> None:
    bindings = {order: DEAL for order in range(1, 301) if order % 7}
    world.fill(bindings, orders=300)
    wanted = OrderRanges.parse(text)
    known = [order for one in wanted.ranges for order in sorted(bindings) if order in one_of(one)][49::50]

    rows = await listed(world.portal, tuple(known), ranges=wanted)

    assert [row.order_id for row in rows] == [order for order in sorted(bindings) if order in wanted]


def one_of(one: OrderRange) -> range:
    return range(one.first, min(one.last, 1000) + 1)


async def test_given_a_listing_when_it_goes_on_then_progress_ends_at_the_number_of_rows(world: PortalSide) -> None:
    world.fill(dict.fromkeys(range(1, 121), DEAL), orders=120)
    told: list[int] = []

    async for _ in world.portal.listing((), EVERYTHING, lambda _stage, done, _total: told.append(done)):
        pass

    assert told == sorted(told)
    assert told[-1] == 120


async def test_given_no_ids_when_reading_then_no_request_is_made(world: PortalSide) -> None:
    assert await world.portal.read([]) == {}
    assert world.portal.usage().requests == 0


async def test_given_ids_when_reading_then_the_bound_ones_are_returned(world: PortalSide) -> None:
    world.fill({5: DEAL, 7: INVOICE, 8: OTHER})

    assert await world.portal.read([7, 6, 5, 5]) == {5: DEAL, 7: INVOICE}


async def test_given_many_ids_when_reading_then_each_is_answered(world: PortalSide) -> None:
    bindings = dict.fromkeys(range(2, 400, 2), DEAL)
    world.fill(bindings, orders=400)

    assert await world.portal.read(range(1, 401)) == bindings


async def test_given_an_unbound_order_when_adding_then_it_is_bound(world: PortalSide) -> None:
    world.fill({})

    answer = await world.portal.write([Write(5, None, DEAL)])

    assert only(answer)[:4] == (5, Effect.DONE, None, True)
    assert world.bindings == {5: DEAL}


async def test_given_a_bound_order_when_moving_then_the_result_names_what_was_replaced(world: PortalSide) -> None:
    world.fill({5: DEAL})

    answer = await world.portal.write([Write(5, DEAL, INVOICE)])

    assert only(answer)[:4] == (5, Effect.DONE, DEAL, True)
    assert world.bindings == {5: INVOICE}


@pytest.mark.parametrize("before", [None, DEAL])
async def test_given_somebody_bound_the_order_when_written_then_it_is_not_overwritten(
    world: PortalSide, before: Owner | None
) -> None:
    world.fill({5: OTHER, 4: DEAL})

    answer = await world.portal.write([Write(5, before, INVOICE), Write(6, None, INVOICE)])

    assert [(one.effect, one.found, one.found_known) for one in answer] == [
        (Effect.MOVED, OTHER, True),
        (Effect.DONE, None, True),
    ]
    assert world.bindings == {4: DEAL, 5: OTHER, 6: INVOICE}


async def test_given_somebody_unbound_the_order_when_moved_then_it_is_not_bound_again(world: PortalSide) -> None:
    world.fill({4: DEAL})

    answer = await world.portal.write([Write(5, OTHER, INVOICE)])

    assert only(answer)[:4] == (5, Effect.MOVED, None, True)
    assert world.bindings == {4: DEAL}


@pytest.mark.parametrize("before", [None, DEAL])
async def test_given_an_edit_right_before_the_request_when_written_then_it_stands_or_is_reported(
    world: PortalSide, before: Owner | None
) -> None:
    world.fill({4: DEAL} | ({5: before} if before else {}))
    await world.portal.write([Write(9, None, DEAL)])
    world.before_the_request(lambda: world.bind(5, OTHER))

    answer = await world.portal.write([Write(5, before, INVOICE)])

    effect = Effect.MOVED if world.conditional else Effect.DONE
    assert only(answer)[:4] == (5, effect, OTHER, True)
    assert world.bindings[5] == (OTHER if world.conditional else INVOICE)


async def test_given_nothing_bound_when_binding_then_the_first_orders_are_bound_all_the_same(world: PortalSide) -> None:
    world.fill({})

    first = await world.portal.write([Write(5, None, DEAL)])
    second = await world.portal.write([Write(3, None, DEAL), Write(7, None, OTHER)])

    assert {one.effect for one in (*first, *second)} == {Effect.DONE}
    assert world.bindings == {3: DEAL, 5: DEAL, 7: OTHER}


async def test_given_a_probe_then_it_says_whether_batches_can_carry_conditions(world: PortalSide) -> None:
    world.fill({5: DEAL})

    assert (await world.portal.probe()).conditional is world.conditional


async def test_given_the_wanted_owner_is_there_when_adding_then_it_is_already_so(world: PortalSide) -> None:
    world.fill({5: DEAL})

    answer = await world.portal.write([Write(5, None, DEAL)])

    result = only(answer)
    assert result.effect is Effect.ALREADY
    assert (result.found, result.found_known) == (DEAL, True)


async def test_given_a_bound_order_when_removing_then_it_is_unbound(world: PortalSide) -> None:
    world.fill({5: DEAL, 7: DEAL})

    answer = await world.portal.write([Write(5, DEAL, None)])

    assert only(answer)[:4] == (5, Effect.DONE, DEAL, True)
    assert world.bindings == {7: DEAL}


async def test_given_an_unbound_order_when_removing_then_it_is_already_so(world: PortalSide) -> None:
    world.fill({7: DEAL})

    answer = await world.portal.write([Write(5, DEAL, None)])

    assert only(answer)[:4] == (5, Effect.ALREADY, None, True)


async def test_given_another_owner_when_removing_then_nothing_is_removed_and_the_result_names_the_other(
    world: PortalSide,
) -> None:
    world.fill({5: OTHER})

    answer = await world.portal.write([Write(5, DEAL, None)])

    assert only(answer)[:4] == (5, Effect.MOVED, OTHER, True)
    assert world.bindings == {5: OTHER}


async def test_given_an_order_that_is_not_there_when_adding_then_it_is_missing(world: PortalSide) -> None:
    world.fill({7: DEAL})
    world.delete_order(7)

    answer = await world.portal.write([Write(7, None, DEAL)])

    assert only(answer).effect is Effect.ORDER_MISSING
    assert world.bindings == {}


async def test_given_one_write_that_fails_when_sent_with_others_then_they_are_carried_out_in_order(
    world: PortalSide,
) -> None:
    world.fill({3: DEAL})
    world.delete_order(4)

    answer = await world.portal.write([Write(order, None, DEAL) for order in (3, 4, 5)])

    assert [(result.order_id, result.effect) for result in answer] == [
        (3, Effect.ALREADY), (4, Effect.ORDER_MISSING), (5, Effect.DONE),
    ]  # fmt: skip
    assert world.bindings == {3: DEAL, 5: DEAL}


async def test_given_a_full_batch_when_written_then_every_write_is_done_in_one_request(world: PortalSide) -> None:
    world.fill({1: DEAL})
    await world.portal.write([Write(2, None, DEAL)])
    writes = [Write(order, None, DEAL) for order in range(3, 63)]
    size = world.portal.batch_size(writes)
    before = world.portal.usage().requests

    answer = await world.portal.write(writes[:size])

    assert size > 1
    assert {result.effect for result in answer} == {Effect.DONE}
    assert world.portal.usage().requests == before + (1 if world.conditional else 2)


async def test_given_no_writes_when_writing_then_nothing_happens(world: PortalSide) -> None:
    world.fill({5: DEAL})

    assert await world.portal.write([]) == []
    assert world.bindings == {5: DEAL}


async def test_given_no_write_right_when_writing_then_the_run_ends_and_nothing_is_written(world: PortalSide) -> None:
    world.fill({5: DEAL})
    world.deny_writing()

    with pytest.raises(AuthError):
        await world.portal.write([Write(5, DEAL, OTHER)])
    assert world.bindings == {5: DEAL}


async def test_given_all_rights_when_probing_then_they_are_found_and_nothing_is_changed(world: PortalSide) -> None:
    world.fill({5: DEAL})
    world.owners_exist(DEAL)

    rights = await world.portal.probe([DEAL])

    assert (rights.read, rights.write, rights.sees_owners) == (True, True, True)
    assert world.bindings == {5: DEAL}


async def test_given_no_write_right_when_probing_then_it_is_found_out(world: PortalSide) -> None:
    world.fill({5: DEAL})
    world.deny_writing()

    rights = await world.portal.probe()

    assert (rights.read, rights.write, rights.sees_owners) == (True, False, None)


async def test_given_an_owner_that_does_not_exist_when_asked_then_it_is_missing(world: PortalSide) -> None:
    world.owners_exist(DEAL)

    assert await world.portal.missing_owners({DEAL, OTHER}, {DEAL}) == {OTHER}


async def test_given_no_owner_of_the_type_can_be_seen_when_asked_then_none_is_called_missing(world: PortalSide) -> None:
    world.owners_exist(INVOICE)

    assert await world.portal.missing_owners({OTHER}, {DEAL}) == set()


async def test_given_keys_when_orders_are_looked_for_then_those_with_exactly_these_keys_are_found(
    world: PortalSide,
) -> None:
    world.fill({5: DEAL})
    for order, key in ((5, "a"), (6, "A"), (7, "a"), (8, "")):
        world.give_key(order, key)

    assert await world.portal.orders_with(KeyField.XML_ID, ["a", "A", "b"]) == {"a": [5, 7], "A": [6], "b": []}
    assert await world.portal.keys_of(KeyField.XML_ID, [5, 6, 8, 999]) == {5: "a", 6: "A", 8: ""}
    world.delete_order(7)
    assert await world.portal.orders_with(KeyField.XML_ID, ["a"]) == {"a": [5]}


async def test_given_a_fresh_portal_when_asked_then_no_method_has_to_wait(world: PortalSide) -> None:
    assert [world.portal.wait_for(action) for action in (Action.ADD, Action.MOVE, Action.REMOVE)] == [0, 0, 0]
