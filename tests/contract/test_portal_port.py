"""What every portal does alike: the real client over TCP and in process, and the fake in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from syncd.config.model import PortalSettings
from syncd.core.model import Action, Owner, Row, Scope
from syncd.core.ports import Effect, Portal, Write, WriteResult
from syncd.errors import AuthError
from syncd.obs.clock import SystemClock
from syncd.portal.hosts import Hosts
from syncd.portal.opening import open_portal
from syncd.sandbox import SandboxPortal, SandboxServer
from tests.fakes.clock import FakeClock
from tests.fakes.portal import FakePortal
from tests.fakes.sandbox_transport import SandboxTransport

pytestmark = pytest.mark.anyio

EVERYTHING = Scope(frozenset({2}))
DEAL, OTHER, INVOICE = Owner(2, 10), Owner(2, 11), Owner(31, 3)
WEBHOOK = "https://portal.example/rest/1/sandboxsecret/"


class World:
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

    def owners_exist(self, *owners: Owner) -> None:
        self._behind.owners = set(owners)

    def deny_writing(self) -> None:
        if isinstance(self._behind, SandboxPortal):
            self._behind.sale_right = "U"
        else:
            self._behind.write_right = False

    def between_list_and_write(self, act: Callable[[], None]) -> None:
        if isinstance(self._behind, SandboxPortal):
            self._behind.before_call(lambda method, *_: act() if method == "crm.orderentity.add" else None)
        else:
            self._behind.before_each = lambda _: act()


@pytest.fixture(params=["tcp", "in-process", "memory"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "memory":
        fake = FakePortal(orders=range(1, 101))
        yield World(fake, fake)
    elif request.param == "in-process":
        clock = FakeClock()
        sandbox = SandboxPortal(clock=clock)
        hosts = Hosts(clock, runtime_dir=tmp_path, transport=SandboxTransport(sandbox))
        portal = open_portal(PortalSettings(webhook=SecretStr(WEBHOOK)), link="shop", hosts=hosts)
        yield World(portal, sandbox)
        await portal.aclose()
    else:
        sandbox = SandboxPortal()
        hosts = Hosts(SystemClock(), runtime_dir=tmp_path)
        async with SandboxServer(sandbox) as server:
            settings = PortalSettings(webhook=SecretStr(server.webhook_url))
            portal = open_portal(settings, link="shop", hosts=hosts)
            yield World(portal, sandbox)
            await portal.aclose()


async def listed(portal: Portal, boundaries: tuple[int, ...] = (), scope: Scope = EVERYTHING) -> list[Row]:
    return [row async for rows in portal.listing(boundaries, scope, lambda *_: None) for row in rows]


def only(results: list[WriteResult]) -> WriteResult:
    assert len(results) == 1
    return results[0]


async def test_given_no_bindings_when_listing_then_nothing_comes(world: World) -> None:
    assert await listed(world.portal) == []


async def test_given_bindings_of_any_type_when_listing_then_all_come_in_order(world: World) -> None:
    world.fill({9: INVOICE, 5: DEAL, 7: DEAL})

    assert await listed(world.portal) == [Row(5, 2, 10), Row(7, 2, 10), Row(9, 31, 3)]


async def test_given_several_pages_when_listing_then_chunks_grow_strictly(world: World) -> None:
    bindings = dict.fromkeys(range(3, 700, 3), DEAL)
    world.fill(bindings, orders=700)

    rows = await listed(world.portal)

    assert [row.order_id for row in rows] == sorted(bindings)


async def test_given_known_boundaries_when_bindings_came_and_went_then_the_listing_is_still_exact(world: World) -> None:
    bindings = {order: DEAL for order in range(1, 1001) if not 200 <= order <= 333} | {5000: DEAL}
    world.fill(bindings, orders=1000)
    known = tuple(range(2, 900, 2))[49::50]

    rows = await listed(world.portal, known)

    assert [row.order_id for row in rows] == sorted(bindings)


async def test_given_a_range_in_scope_when_listing_then_both_its_ends_are_in_and_nothing_beyond(world: World) -> None:
    world.fill(dict.fromkeys(range(1, 300), DEAL), orders=300)

    rows = await listed(world.portal, (50, 100, 150, 200, 250), Scope(frozenset({2}), 100, 220))

    assert [row.order_id for row in rows] == list(range(100, 221))


async def test_given_a_listing_when_it_goes_on_then_progress_ends_at_the_number_of_rows(world: World) -> None:
    world.fill(dict.fromkeys(range(1, 121), DEAL), orders=120)
    told: list[int] = []

    async for _ in world.portal.listing((), EVERYTHING, lambda _stage, done, _total: told.append(done)):
        pass

    assert told == sorted(told)
    assert told[-1] == 120


async def test_given_no_ids_when_reading_then_no_request_is_made(world: World) -> None:
    assert await world.portal.read([]) == {}
    assert world.portal.usage().requests == 0


async def test_given_ids_when_reading_then_the_bound_ones_are_returned(world: World) -> None:
    world.fill({5: DEAL, 7: INVOICE, 8: OTHER})

    assert await world.portal.read([7, 6, 5, 5]) == {5: DEAL, 7: INVOICE}


async def test_given_many_ids_when_reading_then_each_is_answered(world: World) -> None:
    bindings = dict.fromkeys(range(2, 400, 2), DEAL)
    world.fill(bindings, orders=400)

    assert await world.portal.read(range(1, 401)) == bindings


async def test_given_an_unbound_order_when_adding_then_it_is_bound(world: World) -> None:
    world.fill({})

    answer = await world.portal.write([Write(5, None, DEAL)])

    assert only(answer.results)[:4] == (5, Effect.DONE, None, True)
    assert world.bindings == {5: DEAL}


async def test_given_a_bound_order_when_moving_then_what_was_replaced_is_told(world: World) -> None:
    world.fill({5: DEAL})

    answer = await world.portal.write([Write(5, DEAL, INVOICE)])

    assert only(answer.results)[:4] == (5, Effect.DONE, DEAL, True)
    assert world.bindings == {5: INVOICE}


async def test_given_a_race_when_adding_then_what_the_batch_itself_saw_is_told(world: World) -> None:
    world.fill({5: DEAL})
    world.bind(5, OTHER)

    answer = await world.portal.write([Write(5, DEAL, INVOICE)])

    assert only(answer.results)[:4] == (5, Effect.DONE, OTHER, True)


async def test_given_the_wanted_owner_is_there_when_adding_then_it_is_already_so(world: World) -> None:
    world.fill({5: DEAL})

    answer = await world.portal.write([Write(5, None, DEAL)])

    result = only(answer.results)
    assert result.effect is Effect.ALREADY
    assert (result.found, result.found_known) == (DEAL, True)


async def test_given_a_bound_order_when_removing_then_it_is_unbound(world: World) -> None:
    world.fill({5: DEAL, 7: DEAL})

    answer = await world.portal.write([Write(5, DEAL, None)])

    assert only(answer.results)[:4] == (5, Effect.DONE, DEAL, True)
    assert world.bindings == {7: DEAL}


async def test_given_an_unbound_order_when_removing_then_it_is_already_so(world: World) -> None:
    world.fill({7: DEAL})

    answer = await world.portal.write([Write(5, DEAL, None)])

    assert only(answer.results)[:4] == (5, Effect.ALREADY, None, True)


async def test_given_another_owner_when_removing_then_nothing_is_removed_and_the_other_is_told(world: World) -> None:
    world.fill({5: OTHER})

    answer = await world.portal.write([Write(5, DEAL, None)])

    assert only(answer.results)[:4] == (5, Effect.MOVED, OTHER, True)
    assert world.bindings == {5: OTHER}


async def test_given_an_order_that_is_not_there_when_adding_then_it_is_missing(world: World) -> None:
    world.fill({7: DEAL})
    world.delete_order(7)

    answer = await world.portal.write([Write(7, None, DEAL)])

    assert only(answer.results).effect is Effect.ORDER_MISSING
    assert world.bindings == {}


async def test_given_one_write_that_fails_when_sent_with_others_then_they_are_carried_out_in_order(
    world: World,
) -> None:
    world.fill({3: DEAL})
    world.delete_order(4)

    answer = await world.portal.write([Write(order, None, DEAL) for order in (3, 4, 5)])

    assert [(result.order_id, result.effect) for result in answer.results] == [
        (3, Effect.ALREADY), (4, Effect.ORDER_MISSING), (5, Effect.DONE),
    ]  # fmt: skip
    assert world.bindings == {3: DEAL, 5: DEAL}


async def test_given_orders_to_read_after_a_write_then_their_owners_come_with_the_answer(world: World) -> None:
    world.fill({7: INVOICE, 8: DEAL})
    await listed(world.portal)
    await world.portal.read([7, 8])

    answer = await world.portal.write([Write(5, None, DEAL)], then_read=[5, 6, 7])

    assert answer.read == {5: DEAL, 7: INVOICE}


async def test_given_a_full_batch_when_written_then_every_write_is_done_in_one_request(world: World) -> None:
    world.fill({99: DEAL})
    await listed(world.portal)
    await world.portal.read([98, 99])
    writes = [Write(order, None, DEAL) for order in range(1, 61)]
    size = world.portal.batch_size(writes)
    before = world.portal.usage().requests

    answer = await world.portal.write(writes[:size], then_read=[99])

    assert size == 44
    assert {result.effect for result in answer.results} == {Effect.DONE}
    assert world.portal.usage().requests == before + 1


async def test_given_no_writes_when_writing_then_nothing_happens(world: World) -> None:
    world.fill({5: DEAL})

    assert (await world.portal.write([])).results == []
    assert world.bindings == {5: DEAL}


async def test_given_no_write_right_when_writing_then_the_run_ends_and_nothing_is_written(world: World) -> None:
    world.fill({5: DEAL})
    world.deny_writing()

    with pytest.raises(AuthError):
        await world.portal.write([Write(5, DEAL, OTHER)])
    assert world.bindings == {5: DEAL}


async def test_given_all_rights_when_probing_then_they_are_found_and_nothing_is_changed(world: World) -> None:
    world.fill({5: DEAL})
    world.owners_exist(DEAL)

    rights = await world.portal.probe([DEAL])

    assert (rights.read, rights.write, rights.sees_owners) == (True, True, True)
    assert world.bindings == {5: DEAL}


async def test_given_no_write_right_when_probing_then_it_is_found_out(world: World) -> None:
    world.fill({5: DEAL})
    world.deny_writing()

    rights = await world.portal.probe()

    assert (rights.read, rights.write, rights.sees_owners) == (True, False, None)


async def test_given_an_owner_that_does_not_exist_when_asked_then_it_is_missing(world: World) -> None:
    world.owners_exist(DEAL)

    assert await world.portal.missing_owners({DEAL, OTHER}, {DEAL}) == {OTHER}


async def test_given_no_owner_of_the_type_can_be_seen_when_asked_then_none_is_called_missing(world: World) -> None:
    world.owners_exist(INVOICE)

    assert await world.portal.missing_owners({OTHER}, {DEAL}) == set()


async def test_given_a_fresh_portal_when_asked_then_no_method_has_to_wait(world: World) -> None:
    assert [world.portal.wait_for(action) for action in (Action.ADD, Action.MOVE, Action.REMOVE)] == [0, 0, 0]
