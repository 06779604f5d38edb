"""What every store does alike: the one in memory, and the SQL one on SQLite, PostgreSQL and MariaDB or MySQL."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import pytest

from syncd.core.model import (
    Action,
    Change,
    Counts,
    Facts,
    Hold,
    HoldKind,
    Outcome,
    Owner,
    Reason,
    Side,
    SideCounts,
    Unreadable,
)
from syncd.core.order_keys import KeyRow
from syncd.core.order_ranges import Coverage, OrderRanges
from syncd.core.plan import REVERTS_WITHIN
from syncd.core.records import (
    Absence,
    Attempt,
    BindingRow,
    BindingUpdate,
    ChangeOutcome,
    Decision,
    GuardHit,
    LastDay,
    Lease,
    LeaseRow,
    LinkRow,
    Pause,
    Reached,
    RunRow,
    StoredHold,
    Written,
)
from syncd.core.store import Store
from syncd.errors import LeaseHeld, LeaseLost, SyncdError, UsageError
from syncd.state.database import Database, read_url
from syncd.state.migrate import upgrade
from syncd.state.schema import metadata
from syncd.state.store import open_store
from tests.databases import execute, fresh_name, with_database
from tests.fakes.clock import SetClock
from tests.fakes.store import MemoryStore

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
TTL = 60.0
DEAL, OTHER, THIRD = Owner(2, 10), Owner(2, 20), Owner(31, 30)

Opener = Callable[[], Store]


@pytest.fixture(
    scope="module",
    params=[
        "memory",
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("mysql", marks=pytest.mark.mysql),
    ],
)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """A state database with its schema, one for all tests of a kind; None is memory."""
    if request.param == "memory":
        yield None
        return
    if request.param == "sqlite":
        made: str = f"sqlite:///{tmp_path_factory.mktemp('state') / 'state.db'}"
        upgrade(made)
        yield made
        return
    server = request.getfixturevalue(f"{request.param}_server")
    name = fresh_name()
    execute(server, f"CREATE DATABASE {name}")
    try:
        made = with_database(server, name)
        upgrade(made)
        yield made
    finally:
        execute(server, f"DROP DATABASE {name}")


@pytest.fixture(scope="module")
def eraser(url: str | None) -> Iterator[Database | None]:
    """What empties the database before each test."""
    database = None if url is None else Database(read_url(url))
    yield database
    if database is not None:
        database.close()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let some hundred rows be as many as some ten thousand: several transactions."""
    monkeypatch.setattr("syncd.state.store.CHUNK", 100)


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOW)


@pytest.fixture
async def another(url: str | None, eraser: Database | None, clock: SetClock) -> AsyncIterator[Opener]:
    """Opens the same, first empty, database once more, as another process would."""
    if url is None:
        memory = MemoryStore(clock)
        yield lambda: memory
        return
    assert eraser is not None
    eraser.write(lambda connection: [connection.execute(t.delete()) for t in reversed(metadata.sorted_tables)])
    opened = []

    def open_another() -> Store:
        opened.append(open_store(url, clock=clock))
        return opened[-1]

    yield open_another
    for store in opened:
        await store.aclose()


@pytest.fixture
def store(another: Opener) -> Store:
    return another()


async def leased(store: Store, name: str = "shop", holder: str = "a") -> Lease:
    return await store.acquire(await store.link(name, "ends"), holder, TTL, NOW)


def change(
    order_id: int, before: Owner | None, after: Owner | None, side: Side = Side.CRM, facts: Facts | None = None
) -> Change:
    action = Action.REMOVE if after is None else Action.ADD if before is None else Action.MOVE
    known = facts or Facts(crm=before, table=after, agreed=before)
    return Change(order_id, side, action, before, after, Reason.TABLE_CHANGED, known, agreed_after=after)


def agreement(order_id: int, owner: Owner) -> tuple[Change, BindingUpdate]:
    facts = Facts(crm=owner, table=owner, agreed=None)
    made = Change(order_id, None, Action.AGREE, owner, owner, Reason.BOTH_EQUAL, facts, agreed_after=owner)
    return made, BindingUpdate(order_id, owner, owner)


def held(
    order_id: int, kind: HoldKind = HoldKind.EDIT_EDIT, *, crm: Owner = DEAL, detail: str = "differ"
) -> StoredHold:
    return StoredHold(Hold(order_id, kind, Facts(crm, OTHER, THIRD), detail), sticky=False)


# ---------------------------------------------------------------------- links


async def test_a_link_is_made_the_first_time_it_is_seen(store: Store) -> None:
    assert await store.find_link("shop") is None
    made = await store.link("shop", "ends")
    assert (made.name, made.generation, made.fingerprint, made.paused, made.parked) == ("shop", 1, "ends", False, "")
    assert made.created_at == NOW
    assert await store.find_link("shop") == made


async def test_a_link_seen_with_other_ends_keeps_the_fingerprint_its_agreed_state_belongs_to(store: Store) -> None:
    made = await store.link("shop", "ends")
    assert await store.link("shop", "other ends") == made


async def test_links_that_differ_only_in_case_are_two(store: Store) -> None:
    assert (await store.link("shop", "ends")).id != (await store.link("Shop", "ends")).id


async def test_rebase_starts_an_empty_generation_and_keeps_the_old_rows_as_history(store: Store) -> None:
    lease = await leased(store)
    run = await store.start_run(lease, "pass", "command", NOW)
    await store.agree(lease, run, [agreement(1, DEAL)])
    await store.set_holds(lease, run, opened=[held(2)], released=[], now=NOW)
    new = await store.rebase(lease, "other ends", NOW + 5)
    assert (new.generation, new.fingerprint) == (2, "other ends")
    assert await store.find_link("shop") == new
    assert await store.bindings(new.id, 0, None) == []
    assert await store.bindings(lease.link_id, 0, None) != []
    assert await store.holds(lease.link_id) == []
    assert [released for _, released in await store.past_holds("shop", 2)] == [NOW + 5]
    assert [stored.run for stored in await store.history("shop", 1)] == [run]


async def test_a_link_remembers_which_portal_it_is_about_until_it_is_rebased(store: Store) -> None:
    lease = await leased(store)
    made = await link_row(store)
    assert (made.portal, made.member_id) == ("", "")

    kept = await store.keep_portal(lease, "new ends", "new.example", "0123")

    assert kept == made._replace(fingerprint="new ends", portal="new.example", member_id="0123")
    assert await store.find_link("shop") == kept
    rebased = await store.rebase(lease, "other ends", NOW)
    assert (rebased.portal, rebased.member_id) == ("", "")


async def test_rebase_keeps_a_link_paused_and_unparks_it(store: Store) -> None:
    lease = await leased(store)
    await store.set_paused("shop", paused=True)
    await store.set_parked(lease, "the ends changed")
    new = await store.rebase(lease, "other ends", NOW)
    assert (new.paused, new.parked) == (True, "")
    assert await store.find_link("shop") == new


async def test_pausing_and_resuming_a_link(store: Store) -> None:
    await store.link("shop", "ends")
    await store.set_paused("shop", paused=True)
    assert (await link_row(store)).paused
    await store.set_paused("shop", paused=False)
    assert not (await link_row(store)).paused


async def test_pausing_a_link_nobody_has_seen_is_refused(store: Store) -> None:
    with pytest.raises(UsageError):
        await store.set_paused("shop", paused=True)


async def test_parking_and_unparking_a_link(store: Store) -> None:
    lease = await leased(store)
    await store.set_parked(lease, "blocked")
    assert (await link_row(store)).parked == "blocked"
    await store.set_parked(lease, "")
    assert (await link_row(store)).parked == ""


# ---------------------------------------------------------------------- lease


async def test_a_lease_is_given_to_one_holder_only(store: Store, another: Opener) -> None:
    await leased(store, holder="a")
    with pytest.raises(LeaseHeld, match="worked on by a"):
        await leased(another(), holder="b")


async def test_a_second_lease_of_the_same_store_is_refused_too(store: Store) -> None:
    await leased(store, holder="a")
    with pytest.raises(LeaseHeld):
        await leased(store, holder="a")


async def test_of_tasks_of_one_store_that_ask_at_once_one_gets_the_lease(store: Store) -> None:
    link = await store.link("shop", "ends")
    for _ in range(5):
        asked = [store.acquire(link, f"task {number}", TTL, NOW) for number in range(4)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        [lease] = [answer for answer in answers if isinstance(answer, Lease)]
        assert [type(answer) for answer in answers if answer is not lease] == [LeaseHeld] * 3
        await store.release(lease)


async def test_links_are_leased_apart(store: Store) -> None:
    first, second = await leased(store, "shop"), await leased(store, "outlet")
    assert (first.link, second.link) == ("shop", "outlet")


async def test_a_released_lease_is_free_and_its_fence_goes_on_growing(store: Store, another: Opener) -> None:
    first = await leased(store, holder="a")
    await store.release(first)
    second = await leased(another(), holder="b")
    assert second.fence > first.fence


async def test_an_expired_lease_may_be_taken_over_while_its_holder_lives(store: Store, another: Opener) -> None:
    link = await store.link("shop", "ends")
    first = await store.acquire(link, "a", TTL, NOW)
    second = await another().acquire(link, "b", TTL, NOW + TTL + 1)
    assert second.fence > first.fence
    with pytest.raises(LeaseLost):
        await store.start_run(first, "pass", "command", NOW)


async def test_a_renewed_lease_does_not_expire(store: Store, another: Opener) -> None:
    link = await store.link("shop", "ends")
    lease = await store.acquire(link, "a", TTL, NOW)
    renewed = await store.renew(lease, TTL, NOW + TTL - 1)
    assert renewed.fence == lease.fence
    assert renewed.expires_at == NOW + TTL - 1 + TTL
    with pytest.raises(LeaseHeld):
        await another().acquire(link, "b", TTL, NOW + TTL + 1)


async def test_a_lease_taken_over_cannot_be_renewed(store: Store, another: Opener) -> None:
    link = await store.link("shop", "ends")
    first = await store.acquire(link, "a", TTL, NOW)
    await another().acquire(link, "b", TTL, NOW + TTL + 1)
    with pytest.raises(LeaseLost):
        await store.renew(first, TTL, NOW + TTL + 2)


async def test_an_expired_lease_nobody_wanted_is_still_ours(store: Store) -> None:
    """A clock that jumps forward takes nothing away by itself."""
    lease = await leased(store)
    assert (await store.renew(lease, TTL, NOW + 10 * TTL)).fence == lease.fence


async def test_releasing_a_lost_lease_leaves_the_new_holder_alone(store: Store, another: Opener) -> None:
    link = await store.link("shop", "ends")
    first = await store.acquire(link, "a", TTL, NOW)
    second = await another().acquire(link, "b", TTL, NOW + TTL + 1)
    await store.release(first)
    assert [row.holder for row in await store.leases()] == ["b"]
    assert (await store.leases())[0].fence == second.fence


async def test_how_far_the_holder_of_a_lease_has_got_is_kept_until_the_lease_is_taken_anew(store: Store) -> None:
    lease = await leased(store, holder="a")
    assert (await store.leases())[0].reached is None
    await store.renew(lease, TTL, NOW, Reached("apply", 45, 100))
    assert (await store.leases())[0].reached == Reached("apply", 45, 100)
    await store.renew(lease, TTL, NOW)
    assert (await store.leases())[0].reached == Reached("apply", 45, 100)
    await store.release(lease)
    await leased(store, holder="b")
    assert (await store.leases())[0].reached is None


async def test_decisions_are_kept_with_who_when_and_why_and_found_by_order_and_by_run(store: Store) -> None:
    lease = await leased(store)
    made = [
        Decision("shop", "resolve", "crm", "anna@ops", NOW, "deal 5 is the right one", order_id=1),
        Decision("shop", "resolve", "table", "anna@ops", NOW + 1, order_id=2),
    ]
    await store.decide(lease.link_id, [1, 2], "crm", NOW, notes=made)
    await store.note(Decision("shop", "apply", "", "boris@ops", NOW + 2, "looked at it", run=12))
    await store.note(Decision("other", "pause", "", "boris@ops", NOW + 3))
    assert await store.decisions("shop", order_id=1) == made[:1]
    assert await store.decisions("shop", run=12) == [
        Decision("shop", "apply", "", "boris@ops", NOW + 2, "looked at it", run=12)
    ]
    assert [one.by for one in await store.decisions("shop")] == ["anna@ops", "anna@ops", "boris@ops"]
    assert [one.at for one in await store.decisions("shop", limit=2)] == [NOW + 1, NOW + 2]


async def test_a_pause_is_kept_with_by_whom_until_when_and_why_and_outlives_a_rebase(store: Store) -> None:
    lease = await leased(store)
    pause = Pause("anna@ops", NOW, NOW + 7200, "the table is reloaded")
    await store.set_paused("shop", paused=True, pause=pause)
    link = await link_row(store)
    assert (link.paused, link.pause) == (True, pause)
    assert (link.is_paused(NOW + 7199), link.is_paused(NOW + 7200)) == (True, False)
    assert (await store.rebase(lease, "other ends", NOW)).pause == pause
    assert (await link_row(store)).pause == pause


async def test_the_key_of_an_order_is_found_by_either_and_replaced_by_what_is_learned_later(store: Store) -> None:
    lease = await leased(store)
    rows = [KeyRow(5, "a-1", NOW), KeyRow(6, "A-1", NOW), KeyRow(7, "a-1", NOW + 1), KeyRow(-9, "WEB-9", NOW, 1)]
    await store.save_keys(lease, [*rows, KeyRow(8, "", NOW, 2)])

    async def by_key(*keys: str) -> list[tuple[str, int]]:
        return await store.orders_by_key(lease.link_id, keys)

    assert sorted(await by_key("a-1", "WEB-9", "WEB-1")) == [("WEB-9", -9), ("a-1", 5), ("a-1", 7)]
    assert await by_key("A-1") == [("A-1", 6)]
    assert sorted(await store.order_keys(lease.link_id, [6, 8, 99])) == [rows[1], KeyRow(8, "", NOW, 2)]
    assert await store.unknown_keys(lease.link_id) == [rows[3]]
    await store.save_keys(lease, [KeyRow(9, "WEB-9", NOW + 2), KeyRow(5, "b-1", NOW + 2)], gone=[-9, 7])
    assert sorted(await by_key("WEB-9", "a-1", "b-1")) == [("WEB-9", 9), ("b-1", 5)]
    assert await store.unknown_keys(lease.link_id) == []


async def test_the_keys_of_orders_belong_to_a_generation(store: Store) -> None:
    lease = await leased(store)
    await store.save_keys(lease, [KeyRow(5, "a-1", NOW)])
    anew = await store.rebase(lease, "other ends", NOW)
    assert await store.orders_by_key(anew.id, ["a-1"]) == []
    assert await store.order_keys(anew.id, [5]) == []


async def test_held_leases_are_listed(store: Store) -> None:
    lease = await leased(store, holder="a")
    assert await store.leases() == [LeaseRow("shop", "a", lease.fence, NOW, NOW + TTL)]
    await store.release(lease)
    assert await store.leases() == []


async def test_a_link_rebased_meanwhile_is_not_leased_for_its_old_generation(store: Store) -> None:
    old = await store.link("shop", "ends")
    lease = await store.acquire(old, "a", TTL, NOW)
    await store.rebase(lease, "other ends", NOW)
    await store.release(lease)
    with pytest.raises(LeaseHeld, match="rebased"):
        await store.acquire(old, "b", TTL, NOW)


async def _write_everything(store: Store, lease: Lease) -> dict[str, Callable[[], Awaitable[object]]]:
    run = await store.start_run(lease, "plan", "command", NOW)
    [number] = await store.save_plan(lease, run, [change(1, None, DEAL)])
    await store.note_absences(lease, Side.CRM, [1], NOW)
    asked = await store.post_request("shop", "trigger", "cli on host", NOW)
    row = RunRow(run, "shop", lease.link_id, "plan", "planned")
    return {
        "rebase": lambda: store.rebase(lease, "other", NOW),
        "keep_portal": lambda: store.keep_portal(lease, "other", "new.example", ""),
        "set_parked": lambda: store.set_parked(lease, "x"),
        "renew": lambda: store.renew(lease, TTL, NOW),
        "observed": lambda: store.observed(lease, [BindingUpdate(1, DEAL, None)]),
        "observed nothing": lambda: store.observed(lease, []),
        "agree": lambda: store.agree(lease, run, [agreement(1, DEAL)]),
        "start_run": lambda: store.start_run(lease, "pass", "command", NOW),
        "save_plan": lambda: store.save_plan(lease, run, [change(2, None, DEAL)]),
        "finish_run": lambda: store.finish_run(lease, row),
        "spend": lambda: store.spend(lease, run, run),
        "intend": lambda: store.intend(lease, [number], NOW, 1),
        "record": lambda: store.record(lease, run, [ChangeOutcome(number, Outcome.APPLIED)], now=NOW),
        "set_holds": lambda: store.set_holds(lease, run, opened=[held(1)], released=[], now=NOW),
        "save_keys": lambda: store.save_keys(lease, [KeyRow(1, "WEB-1", NOW)]),
        "set_coverage": lambda: store.set_coverage(lease, Coverage.whole(NOW)),
        "drop_run": lambda: store.drop_run(lease, run),
        "note_absences": lambda: store.note_absences(lease, Side.CRM, [2], NOW),
        "forget_absences": lambda: store.forget_absences(lease, Side.CRM),
        "close_requests": lambda: store.close_requests(lease, [asked], NOW),
    }


def _takes_lease(name: str) -> bool:
    method = vars(Store)[name]
    return inspect.isfunction(method) and "lease" in inspect.signature(method).parameters


@pytest.mark.parametrize("lost", ["released", "taken over"])
async def test_who_lost_the_lease_writes_nothing_more(store: Store, another: Opener, lost: str) -> None:
    lease = await leased(store, holder="a")
    writers = await _write_everything(store, lease)
    assert {name.split()[0] for name in writers} == {name for name in vars(Store) if _takes_lease(name)} - {"release"}
    link = await store.link("shop", "ends")
    if lost == "released":
        await store.release(lease)
    else:
        await another().acquire(link, "b", TTL, NOW + TTL + 1)
    before = await _everything(store, lease.link_id)
    for write in writers.values():
        with pytest.raises(LeaseLost):
            await write()
    assert await _everything(store, lease.link_id) == before


async def _everything(store: Store, link_id: int) -> list[object]:
    return [
        await store.find_link("shop"),
        await store.bindings(link_id, 0, None),
        await store.runs(None, 100),
        [await store.changes(run.id) for run in await store.runs(None, 100)],
        await store.holds(link_id),
        await store.order_keys(link_id, [1]),
        await store.absences(link_id, [1, 2]),
        await store.open_requests(["shop"]),
        [row.expires_at for row in await store.leases()],
    ]


# ------------------------------------------------------------------- bindings


async def test_observed_values_are_read_back_in_order(store: Store) -> None:
    lease = await leased(store)
    updates = [BindingUpdate(3, DEAL, OTHER), BindingUpdate(1, None, DEAL), BindingUpdate(2, DEAL, None)]
    await store.observed(lease, iter(updates))
    assert await store.bindings(lease.link_id, 0, None) == [
        BindingRow(1, None, None, 2, 10),
        BindingRow(2, 2, 10, None, None),
        BindingRow(3, 2, 10, 2, 20),
    ]


async def test_bindings_are_read_by_ranges_open_below_and_closed_above(store: Store) -> None:
    lease = await leased(store)
    await store.observed(lease, [BindingUpdate(order, DEAL, None) for order in (1, 2, 3, 4)])
    assert [row.order_id for row in await store.bindings(lease.link_id, 1, 3)] == [2, 3]
    assert [row.order_id for row in await store.bindings(lease.link_id, 2, None)] == [3, 4]


async def test_a_row_is_a_binding_row(store: Store) -> None:
    lease = await leased(store)
    await store.observed(lease, [BindingUpdate(1, DEAL, None)])
    [row] = await store.bindings(lease.link_id, 0, None)
    assert isinstance(row, BindingRow)
    assert row.crm_id == 10


async def test_new_values_replace_old_ones_and_nothing_at_all_deletes_the_row(store: Store) -> None:
    lease = await leased(store)
    await store.observed(lease, [BindingUpdate(1, DEAL, DEAL), BindingUpdate(2, DEAL, DEAL)])
    await store.observed(lease, [BindingUpdate(1, OTHER, DEAL), BindingUpdate(2, None, None)])
    assert await store.bindings(lease.link_id, 0, None) == [BindingRow(1, 2, 20, 2, 10)]


async def test_deleting_a_row_that_is_not_there_does_nothing(store: Store) -> None:
    lease = await leased(store)
    await store.observed(lease, [BindingUpdate(1, None, None)])
    assert await store.bindings(lease.link_id, 0, None) == []


async def test_more_updates_than_one_transaction_takes_all_arrive(store: Store) -> None:
    lease = await leased(store)
    orders = range(1, 346)
    await store.observed(lease, (BindingUpdate(order, DEAL, None) for order in orders))
    assert [row.order_id for row in await store.bindings(lease.link_id, 0, None)] == list(orders)


async def test_links_do_not_see_each_others_bindings(store: Store) -> None:
    first, second = await leased(store, "shop"), await leased(store, "outlet")
    await store.observed(first, [BindingUpdate(1, DEAL, DEAL)])
    await store.observed(second, [BindingUpdate(1, OTHER, None)])
    assert await store.bindings(first.link_id, 0, None) == [BindingRow(1, 2, 10, 2, 10)]
    assert await store.agreed_count(second.link_id) == 0


async def test_ids_of_64_bits_are_kept(store: Store) -> None:
    lease = await leased(store)
    huge = 2**63 - 1
    await store.observed(lease, [BindingUpdate(huge, Owner(2, huge), None)])
    assert await store.bindings(lease.link_id, huge - 1, None) == [BindingRow(huge, 2, huge, None, None)]


async def test_boundaries_are_every_nth_order_bound_in_the_crm(store: Store) -> None:
    lease = await leased(store)
    bound = [BindingUpdate(order, DEAL, None) for order in range(2, 20, 2)]
    await store.observed(lease, [*bound, BindingUpdate(3, None, DEAL)])
    assert await store.boundaries(lease.link_id, 3) == [6, 12, 18]
    assert await store.boundaries(lease.link_id, 50) == []


async def test_boundaries_of_ranges_count_from_the_beginning_of_each(store: Store) -> None:
    lease = await leased(store)
    await store.observed(lease, [BindingUpdate(order, DEAL, None) for order in range(1, 21)])
    ranges = OrderRanges.parse("2-9,12-").ranges
    assert await store.boundaries(lease.link_id, 3, ranges) == [4, 7, 14, 17, 20]


async def test_bindings_are_found_by_their_orders_and_the_newest_by_number(store: Store) -> None:
    lease = await leased(store)
    await store.observed(lease, [BindingUpdate(order, DEAL, None) for order in (3, 5, 8)])
    assert [row.order_id for row in await store.bindings_of(lease.link_id, [8, 3, 4])] == [3, 8]
    assert [await store.newest_order(lease.link_id, number) for number in (1, 2, 3, 4)] == [8, 5, 3, None]


async def test_the_coverage_of_a_link_is_kept_with_its_generation(store: Store) -> None:
    lease = await leased(store)
    coverage = Coverage.whole(NOW).cut([5])
    await store.set_coverage(lease, coverage)
    assert (await link_row(store)).coverage == coverage
    assert (await store.rebase(lease, "other ends", NOW)).coverage is None


async def test_agreed_orders_are_counted(store: Store) -> None:
    lease = await leased(store)
    await store.observed(lease, [BindingUpdate(1, DEAL, DEAL), BindingUpdate(2, DEAL, None)])
    assert await store.agreed_count(lease.link_id) == 1


async def test_agreeing_moves_the_agreed_state_and_leaves_a_row_in_the_audit(store: Store, clock: SetClock) -> None:
    lease = await leased(store)
    run = await store.start_run(lease, "pass", "command", NOW)
    clock.time = NOW + 7
    made, update = agreement(5, DEAL)
    await store.agree(lease, run, [(made, update)])
    assert await store.bindings(lease.link_id, 0, None) == [BindingRow(5, 2, 10, 2, 10)]
    [stored] = await store.history("shop", 5)
    assert (stored.change, stored.run, stored.outcome, stored.at) == (made, run, Outcome.APPLIED, NOW + 7)
    assert await store.changes(run) == []


# ----------------------------------------------------------------------- runs


async def test_a_run_opens_as_running_and_empty(store: Store) -> None:
    lease = await leased(store)
    run = await store.start_run(lease, "undo", "signal", NOW, source=3)
    assert await store.run(run) == RunRow(
        run, "shop", lease.link_id, "undo", "running", origin="signal", source=3, started_at=NOW
    )
    assert await store.run(run + 1) is None


async def test_finishing_a_run_writes_its_state_and_numbers(store: Store) -> None:
    lease = await leased(store)
    run = await store.start_run(lease, "plan", "command", NOW)
    counts = Counts(940, SideCounts(3, 1, 0), SideCounts(2, 0, 1), holds=1, agreed=945, crm_rows=944, table_rows=946)
    row = RunRow(
        run,
        "shop",
        lease.link_id,
        "plan",
        "refused",
        started_at=NOW,
        finished_at=NOW + 2.5,
        digest="sha",
        first_sync=True,
        counts=counts,
        guards=[GuardHit("max_removes", Side.TABLE, 100, 4000), GuardHit("max_moves_percent", None, 12.5, 30.25)],
        error="refused",
        requests=3,
        calls=104,
        seconds=2.1,
        operating=12.5,
        conditional=False,
        covers=OrderRanges.parse("5,7-9"),
        part="orders 5,7-9",
    )
    # A new field of a run must be given a value of its own here, or a store may lose it unnoticed.
    untouched = RunRow(run, "shop", lease.link_id, "plan", "refused")
    same = {field.name for field in fields(RunRow) if getattr(row, field.name) == getattr(untouched, field.name)}
    assert same == {"id", "link", "link_id", "kind", "state", "origin", "source", "spent_by"}
    await store.finish_run(lease, row)
    assert await store.run(run) == row


async def test_what_a_caller_does_to_a_run_it_read_changes_nothing_stored(store: Store) -> None:
    lease = await leased(store)
    run = await store.start_run(lease, "plan", "command", NOW)
    (await run_row(store, run)).counts.crm.add = 5
    assert (await run_row(store, run)).counts.crm.add == 0


async def test_a_plan_is_spent_once(store: Store) -> None:
    lease = await leased(store)
    plan = await store.start_run(lease, "plan", "command", NOW)
    first, second = [await store.start_run(lease, "apply", "command", NOW, source=plan) for _ in range(2)]
    assert await store.spend(lease, plan, first)
    assert not await store.spend(lease, plan, second)
    assert (await run_row(store, plan)).spent_by == first


async def test_the_passes_that_found_a_plan_still_refused_are_spent_with_it(store: Store) -> None:
    lease = await leased(store)
    plan, look, later, other = [await store.start_run(lease, "pass", "schedule", NOW) for _ in range(4)]
    for number in (look, later):
        row = await run_row(store, number)
        await store.finish_run(lease, replace(row, state="refused", source=plan))
    applied = await store.start_run(lease, "apply", "command", NOW, source=plan)
    assert await store.spend(lease, plan, applied)
    assert [(await run_row(store, number)).plan for number in (plan, look, later, other)] == [plan, plan, plan, other]
    spent = [(await run_row(store, number)).spent_by for number in (plan, look, later, other, applied)]
    assert spent == [applied, applied, applied, None, None]


async def test_a_plan_of_an_earlier_generation_cannot_be_spent(store: Store) -> None:
    lease = await leased(store)
    plan = await store.start_run(lease, "plan", "command", NOW)
    lease = lease._replace(link_id=(await store.rebase(lease, "other ends", NOW)).id)
    assert not await store.spend(lease, plan, plan)
    assert (await run_row(store, plan)).spent_by is None


async def test_finishing_a_run_does_not_make_a_spent_plan_new(store: Store) -> None:
    lease = await leased(store)
    plan = await store.start_run(lease, "plan", "command", NOW)
    row = await run_row(store, plan)
    await store.spend(lease, plan, plan)
    await store.finish_run(lease, replace(row, state="planned"))
    assert (await run_row(store, plan)).spent_by == plan


async def test_runs_are_listed_newest_first_over_all_generations_of_a_link(store: Store) -> None:
    lease = await leased(store)
    other = await leased(store, "outlet")
    old = [await store.start_run(lease, "pass", "command", NOW) for _ in range(2)]
    foreign = await store.start_run(other, "pass", "command", NOW)
    new_link = await store.rebase(lease, "other ends", NOW)
    new = await store.start_run(lease._replace(link_id=new_link.id), "pass", "command", NOW)
    assert [run.id for run in await store.runs("shop", 10)] == [new, *old[::-1]]
    assert [run.id for run in await store.runs("shop", 2)] == [new, old[1]]
    assert [run.id for run in await store.runs("shop", 10, before=new)] == old[::-1]
    assert [run.id for run in await store.runs(None, 10)] == sorted([*old, foreign, new], reverse=True)
    assert await store.runs("unknown", 10) == []


@pytest.mark.parametrize(
    ("kind", "state", "error", "over"),
    [
        ("pass", "applied", "", True),
        ("apply", "partial", "", True),
        ("pass", "partial", "stopped by SIGTERM", False),
        ("pass", "failed", "interrupted", False),
        ("pass", "refused", "too many removes", False),
        ("plan", "planned", "", False),
    ],
)
async def test_a_generation_is_completed_once_a_pass_or_an_application_came_to_its_end(
    store: Store, kind: str, state: str, error: str, over: bool
) -> None:
    lease = await leased(store)
    run = await store.start_run(lease, kind, "command", NOW)
    row = await run_row(store, run)
    await store.finish_run(lease, replace(row, state=state, error=error))
    assert await store.completed(lease.link_id) is over
    new_link = await store.rebase(lease, "other ends", NOW)
    assert not await store.completed(new_link.id)


# -------------------------------------------------------------------- changes


async def test_a_plan_is_stored_with_every_field_of_its_changes(store: Store) -> None:
    lease = await leased(store)
    run = await store.start_run(lease, "undo", "command", NOW)
    unreadable = Unreadable(HoldKind.DUPLICATE_ROWS, "two rows: ü, \t, \\N and\nnewline")
    planned = [
        change(1, None, DEAL),
        change(2, DEAL, OTHER, Side.TABLE, Facts(DEAL, OTHER, THIRD, unreadable)),
        Change(
            3,
            Side.CRM,
            Action.REMOVE,
            DEAL,
            None,
            Reason.UNDO,
            Facts(DEAL, None, None),
            agreed_after=OTHER,
            hold_after=HoldKind.FLAPPING,
        ),
    ]
    ids = await store.save_plan(lease, run, planned)
    stored = await store.changes(run)
    assert [one.change for one in stored] == planned
    assert [one.id for one in stored] == ids
    assert {(one.run, one.outcome, one.error, one.at, one.found_known) for one in stored} == {
        (run, Outcome.PLANNED, "", 0.0, False)
    }


async def test_ids_of_a_long_plan_grow_in_its_order(store: Store) -> None:
    lease = await leased(store)
    run = await store.start_run(lease, "plan", "command", NOW)
    first = await store.save_plan(lease, run, [change(7, None, DEAL)])
    planned = [change(order, None, DEAL, Side.TABLE if order % 3 else Side.CRM) for order in range(345, 0, -1)]
    ids = await store.save_plan(lease, run, planned)
    assert len(ids) == len(planned)
    assert all(before < after for before, after in pairwise([*first, *ids]))
    assert [one.change.order_id for one in await store.changes(run)] == [7, *range(345, 0, -1)]


async def test_an_empty_plan_is_stored_as_nothing(store: Store) -> None:
    lease = await leased(store)
    run = await store.start_run(lease, "plan", "command", NOW)
    assert await store.save_plan(lease, run, []) == []
    assert await store.changes(run) == []


async def test_changes_are_read_in_pages(store: Store) -> None:
    lease = await leased(store)
    run = await store.start_run(lease, "plan", "command", NOW)
    planned = [change(order, None, DEAL, Side.TABLE if order % 2 else Side.CRM) for order in range(1, 8)]
    ids = await store.save_plan(lease, run, planned)
    await store.agree(lease, run, [agreement(9, DEAL)])
    assert [one.id for one in await store.changes(run, limit=3)] == ids[:3]
    assert [one.id for one in await store.changes(run, after=ids[2], limit=3)] == ids[3:6]
    assert [one.id for one in await store.changes(run, after=ids[5])] == ids[6:]


async def test_the_history_of_an_order_spans_generations_oldest_first(store: Store) -> None:
    lease = await leased(store)
    run = await store.start_run(lease, "pass", "command", NOW)
    await store.agree(lease, run, [agreement(1, DEAL), agreement(2, DEAL)])
    lease = lease._replace(link_id=(await store.rebase(lease, "other ends", NOW)).id)
    later = await store.start_run(lease, "pass", "command", NOW)
    await store.save_plan(lease, later, [change(1, DEAL, OTHER), change(1, OTHER, None)])
    assert [(one.run, one.change.action) for one in await store.history("shop", 1)] == [
        (run, Action.AGREE),
        (later, Action.MOVE),
        (later, Action.REMOVE),
    ]
    assert [one.change.action for one in await store.history("shop", 1, limit=2)] == [Action.MOVE, Action.REMOVE]
    assert await store.history("outlet", 1) == []


async def test_the_history_of_an_order_is_read_in_pages_the_newest_first(store: Store) -> None:
    lease = await leased(store)
    run = await store.start_run(lease, "pass", "command", NOW)
    made = [change(order, None, Owner(2, number)) for number in range(1, 6) for order in (1, 2)]
    await store.save_plan(lease, run, made)
    newest = await store.history("shop", 1, 3)
    assert [one.change.after and one.change.after.owner_id for one in newest] == [3, 4, 5]
    assert [
        one.change.after and one.change.after.owner_id for one in await store.history("shop", 1, 3, newest[0].id)
    ] == [1, 2]


# -------------------------------------------------------------------- journal


async def link_row(store: Store) -> LinkRow:
    row = await store.find_link("shop")
    assert row is not None
    return row


async def run_row(store: Store, run: int) -> RunRow:
    row = await store.run(run)
    assert row is not None
    return row


async def _planned(store: Store, lease: Lease, *changes: Change) -> tuple[int, list[int]]:
    run = await store.start_run(lease, "pass", "command", NOW)
    return run, await store.save_plan(lease, run, changes)


async def test_an_intent_is_open_until_its_outcome_is_recorded(store: Store) -> None:
    lease = await leased(store)
    run, ids = await _planned(store, lease, change(1, None, DEAL), change(2, None, DEAL), change(3, None, DEAL))
    await store.intend(lease, ids[:2], NOW + 1, 1)
    assert [(one.id, one.at) for one in await store.open_intents(lease.link_id)] == [
        (ids[0], NOW + 1),
        (ids[1], NOW + 1),
    ]
    await store.record(lease, run, [ChangeOutcome(ids[0], Outcome.APPLIED)], now=NOW + 2)
    assert [one.id for one in await store.open_intents(lease.link_id)] == [ids[1]]


async def test_an_intent_knows_with_which_others_it_was_sent_and_how_often(store: Store) -> None:
    lease = await leased(store)
    run, ids = await _planned(store, lease, change(1, None, DEAL), change(2, None, DEAL), change(3, None, DEAL))
    assert [(one.batch, one.sends) for one in await store.changes(run)] == [(None, 0)] * 3
    await store.intend(lease, ids[:2], NOW, 7)
    await store.intend(lease, ids[1:], NOW + 1, 8)
    assert [(one.id, one.batch, one.sends) for one in await store.open_intents(lease.link_id)] == [
        (ids[0], 7, 1),
        (ids[1], 8, 2),
        (ids[2], 8, 1),
    ]


async def test_what_was_answered_of_an_open_request_is_known(store: Store) -> None:
    lease = await leased(store)
    run, ids = await _planned(store, lease, *(change(order, None, DEAL) for order in range(1, 7)))
    await store.intend(lease, ids[:4], NOW, 7)
    await store.intend(lease, ids[4:], NOW, 8)
    outcomes = [Outcome.APPLIED, Outcome.ALREADY, Outcome.FAILED]
    await store.record(
        lease, run, [*map(ChangeOutcome, ids, outcomes), *map(ChangeOutcome, ids[4:], outcomes)], now=NOW
    )

    assert [one.id for one in await store.answered_siblings(lease.link_id)] == ids[:2]
    assert await store.answered_siblings(lease.link_id + 1) == []


async def test_open_intents_are_those_of_the_link(store: Store) -> None:
    lease, other = await leased(store), await leased(store, "outlet")
    _, ids = await _planned(store, lease, change(1, None, DEAL))
    await store.intend(lease, ids, NOW, 1)
    assert await store.open_intents(other.link_id) == []


async def test_an_intent_for_an_unknown_change_is_refused_and_nothing_is_intended(store: Store) -> None:
    lease = await leased(store)
    _, ids = await _planned(store, lease, change(1, None, DEAL))
    with pytest.raises(SyncdError, match="does not know"):
        await store.intend(lease, [*ids, 99_999], NOW, 1)
    assert await store.open_intents(lease.link_id) == []


async def test_a_change_of_another_link_cannot_be_recorded(store: Store) -> None:
    lease, other = await leased(store), await leased(store, "outlet")
    run, ids = await _planned(store, lease, change(1, None, DEAL))
    with pytest.raises(SyncdError, match="does not know"):
        await store.record(other, run, [ChangeOutcome(ids[0], Outcome.APPLIED)], now=NOW)


async def test_outcome_agreed_state_holds_and_failures_are_recorded_together(store: Store) -> None:
    lease = await leased(store)
    run, ids = await _planned(store, lease, change(1, None, DEAL), change(2, DEAL, None), change(3, None, DEAL))
    await store.observed(lease, [BindingUpdate(2, DEAL, DEAL)])
    await store.record(
        lease,
        run,
        [
            ChangeOutcome(ids[0], Outcome.APPLIED, found=None, found_known=True, update=BindingUpdate(1, DEAL, DEAL)),
            ChangeOutcome(ids[1], Outcome.ALREADY, update=BindingUpdate(2, None, None)),
            ChangeOutcome(ids[2], Outcome.FAILED, "200540400001 order does not exist", OTHER, found_known=True),
        ],
        now=NOW + 3,
        holds=[held(3, HoldKind.ORDER_MISSING)],
        attempts=[Attempt(3, 1, NOW + 60, "order does not exist")],
    )
    assert await store.bindings(lease.link_id, 0, None) == [BindingRow(1, 2, 10, 2, 10)]
    first, second, third = await store.changes(run)
    assert (first.outcome, first.found, first.found_known, first.at) == (Outcome.APPLIED, None, True, NOW + 3)
    assert (second.outcome, second.found_known) == (Outcome.ALREADY, False)
    assert (third.outcome, third.error) == (Outcome.FAILED, "200540400001 order does not exist")
    assert (third.found, third.found_known) == (OTHER, True)
    assert [(stored.hold.order_id, stored.hold.since, stored.run) for stored in await store.holds(lease.link_id)] == [
        (3, NOW + 3, run)
    ]
    assert await store.attempts(lease.link_id) == {3: Attempt(3, 1, NOW + 60, "order does not exist")}


async def test_of_a_record_that_fails_nothing_is_kept(store: Store) -> None:
    lease = await leased(store)
    run, ids = await _planned(store, lease, change(1, None, DEAL))
    outcomes = [
        ChangeOutcome(ids[0], Outcome.APPLIED, update=BindingUpdate(1, DEAL, DEAL)),
        ChangeOutcome(99_999, Outcome.APPLIED),
    ]
    with pytest.raises(SyncdError):
        await store.record(lease, run, outcomes, now=NOW, holds=[held(1)])
    assert await store.bindings(lease.link_id, 0, None) == []
    assert await store.holds(lease.link_id) == []
    assert [one.outcome for one in await store.changes(run)] == [Outcome.PLANNED]


async def test_text_no_database_takes_is_stored_as_near_as_can_be(store: Store) -> None:
    lease = await leased(store)
    run, ids = await _planned(store, lease, change(1, None, DEAL))
    await store.record(lease, run, [ChangeOutcome(ids[0], Outcome.FAILED, "bad \udcff byte")], now=NOW)
    assert "byte" in (await store.changes(run))[0].error


async def test_failures_are_counted_and_cleared(store: Store) -> None:
    lease = await leased(store)
    run = await store.start_run(lease, "pass", "command", NOW)
    await store.record(lease, run, [], now=NOW, attempts=[Attempt(1, 1, NOW, "a"), Attempt(2, 1, NOW, "b")])
    await store.record(lease, run, [], now=NOW, attempts=[Attempt(1, 0, 0, ""), Attempt(2, 2, NOW + 5, "c")])
    assert await store.attempts(lease.link_id) == {2: Attempt(2, 2, NOW + 5, "c")}


async def test_failures_of_some_orders_are_asked_for(store: Store) -> None:
    lease = await leased(store)
    failures = [Attempt(order, order, NOW, "refused") for order in (1, 2, 3)]
    await store.record(lease, await store.start_run(lease, "pass", "command", NOW), [], now=NOW, attempts=failures)
    assert await store.attempts(lease.link_id, [3, 1, 7]) == {1: failures[0], 3: failures[2]}
    assert await store.attempts(lease.link_id, []) == {}


async def test_changes_of_a_run_are_counted_by_side_action_and_outcome(store: Store) -> None:
    lease = await leased(store)
    run, ids = await _planned(
        store,
        lease,
        change(1, DEAL, None, Side.CRM),
        change(2, DEAL, None, Side.TABLE),
        change(3, DEAL, None, Side.TABLE),
        change(4, DEAL, OTHER, Side.TABLE),
    )
    await store.record(lease, run, [ChangeOutcome(number, Outcome.APPLIED) for number in ids[:2]], now=NOW)
    await store.agree(lease, run, [agreement(9, OTHER)])

    assert await store.tally(run) == {
        (Side.CRM, Action.REMOVE, Outcome.APPLIED): 1,
        (Side.TABLE, Action.REMOVE, Outcome.APPLIED): 1,
        (Side.TABLE, Action.REMOVE, Outcome.PLANNED): 1,
        (Side.TABLE, Action.MOVE, Outcome.PLANNED): 1,
    }
    assert await store.tally(run + 1) == {}


async def test_bindings_are_read_up_to_a_limit(store: Store) -> None:
    lease = await leased(store)
    await store.observed(lease, [BindingUpdate(order, DEAL, None) for order in range(1, 8)])

    assert [row[0] for row in await store.bindings(lease.link_id, 2, None, 3)] == [3, 4, 5]
    assert [row[0] for row in await store.bindings(lease.link_id, 2, 4, 3)] == [3, 4]


async def test_what_was_moved_and_removed_is_counted_by_side_since_a_time(store: Store) -> None:
    lease = await leased(store)
    run, ids = await _planned(
        store,
        lease,
        change(1, DEAL, None, Side.CRM),
        change(2, DEAL, None, Side.TABLE),
        change(3, DEAL, None, Side.TABLE),
        change(4, DEAL, None, Side.TABLE),
        change(5, DEAL, OTHER, Side.TABLE),
        change(6, None, OTHER, Side.TABLE),
    )
    applied = [ChangeOutcome(number, Outcome.APPLIED) for number in ids]
    await store.record(lease, run, applied[:1], now=NOW - 100)
    await store.record(lease, run, [applied[1], applied[2], applied[4], applied[5]], now=NOW)
    await store.record(lease, run, [ChangeOutcome(ids[3], Outcome.ALREADY)], now=NOW)

    nothing = {Side.CRM: 0, Side.TABLE: 0}
    assert await store.last_day(lease.link_id, NOW, NOW) == LastDay(
        None, nothing | {Side.TABLE: 1}, nothing | {Side.TABLE: 2}
    )
    assert (await store.last_day(lease.link_id, NOW - 100, NOW)).removed == {Side.CRM: 1, Side.TABLE: 2}
    anew = await store.rebase(lease, "elsewhere", NOW)
    assert (await store.last_day(anew.id, NOW - 100, NOW)).removed == {Side.CRM: 1, Side.TABLE: 2}


async def test_what_was_agreed_a_day_ago_is_what_the_first_run_since_found(store: Store) -> None:
    lease = await leased(store)
    for started, digest, agreed in ((NOW - 90, "a", 7), (NOW - 50, "", 0), (NOW - 40, "b", 8), (NOW, "c", 9)):
        run = await store.start_run(lease, "pass", "command", started)
        row = RunRow(run, "shop", lease.link_id, "pass", "applied", digest=digest, counts=Counts(agreed=agreed))
        await store.finish_run(lease, row)

    assert (await store.last_day(lease.link_id, NOW - 60, NOW - 60)).agreed == 8
    assert (await store.last_day(lease.link_id, NOW - 90, NOW - 90)).agreed == 7
    assert (await store.last_day(lease.link_id, NOW + 1, NOW + 1)).agreed is None


async def _over_some_orders(
    store: Store,
    lease: Lease,
    covers: OrderRanges | None,
    *changes: Change,
    started: float = NOW,
    whole: int | None = 50,
    kind: str = "pass",
) -> int:
    """A pass over some orders that has written these changes, but for the last one, which it only planned."""
    run = await store.start_run(lease, kind, "command", started)
    ids = await store.save_plan(lease, run, changes)
    counts = Counts(agreed=1, whole=whole)
    for one in changes:
        assert one.side is not None
        counts.of(one.side).count(one.action)
    row = RunRow(run, "shop", lease.link_id, kind, "applied", digest="x", counts=counts, covers=covers, part="some")
    await store.record(lease, run, [ChangeOutcome(number, Outcome.APPLIED) for number in ids[:-1]], now=started)
    await store.finish_run(lease, row)
    return run


async def test_a_pass_over_some_orders_says_which_and_counts_the_whole_link(store: Store) -> None:
    lease = await leased(store)
    covers = OrderRanges.parse("5,7-9,20-")
    idle = await _over_some_orders(store, lease, covers, change(1, DEAL, OTHER), started=NOW - 60, whole=None)
    run = await _over_some_orders(store, lease, covers, change(1, DEAL, OTHER), started=NOW - 50, whole=44)

    row = await run_row(store, run)
    assert (row.covers, row.part, row.counts.whole) == (covers, "some", 44)
    assert (await store.last_day(lease.link_id, NOW - 99, NOW)).agreed == 44, "an idle one has not counted them"
    assert not await store.completed(lease.link_id)
    await store.drop_run(lease, idle)
    assert await store.run(idle) is None
    again = await store.start_run(lease, "pass", "command", NOW)
    assert again == run + 1


async def test_many_ranges_are_kept_only_while_their_plan_can_be_applied(store: Store) -> None:
    lease = await leased(store)
    covers = OrderRanges.of_orders(range(1000, 2000, 3))
    for state, kept in (("refused", covers), ("planned", covers), ("applied", covers.hull())):
        run = await store.start_run(lease, "pass", "command", NOW)
        await store.finish_run(lease, RunRow(run, "shop", lease.link_id, "pass", state, covers=covers))
        if isinstance(store, MemoryStore):
            continue  # it keeps all of them
        assert (await run_row(store, run)).covers == kept


async def test_a_run_that_covers_no_order_at_all_can_be_read(store: Store) -> None:
    lease = await leased(store)
    run = await store.start_run(lease, "pass", "command", NOW)
    await store.finish_run(lease, RunRow(run, "shop", lease.link_id, "pass", "failed", covers=OrderRanges()))
    assert (await run_row(store, run)).covers == OrderRanges()
    assert [row.covers for row in await store.runs("shop", 9)] == [OrderRanges()]


async def test_what_passes_over_some_orders_wrote_since_a_time_is_counted(store: Store) -> None:
    lease = await leased(store)
    some = OrderRanges.parse("1-9")
    late = (change(1, DEAL, None), change(2, DEAL, OTHER), change(3, None, OTHER), change(4, DEAL, None, Side.TABLE))
    await _over_some_orders(store, lease, some, *late, change(5, DEAL, None, Side.TABLE))
    await _over_some_orders(store, lease, some, change(6, DEAL, None), change(7, DEAL, None), started=NOW - 9)
    await _over_some_orders(store, lease, some, change(6, DEAL, None), change(7, DEAL, None), started=NOW - 99)
    await _over_some_orders(store, lease, None, change(8, DEAL, None), change(7, DEAL, None))
    await _over_some_orders(store, lease, some, change(8, DEAL, None), change(7, DEAL, None), kind="apply")

    day = await store.last_day(lease.link_id, NOW - 999, NOW - 10)

    assert day.in_parts == {
        Side.CRM: SideCounts(add=1, move=1, remove=2),
        Side.TABLE: SideCounts(remove=1),
    }


async def _a_pass(
    store: Store,
    lease: Lease,
    *changes: Change,
    at: float = NOW,
    kind: str = "pass",
    reverts: int = 1,
    found: Owner | None = None,
) -> None:
    """A run that has written these changes, and says how many of them in the CRM put back what syncd had replaced."""
    run = await store.start_run(lease, kind, "command", at)
    ids = await store.save_plan(lease, run, changes)
    outcomes = [ChangeOutcome(one, Outcome.APPLIED, "", found, found_known=found is not None) for one in ids]
    await store.record(lease, run, outcomes, now=at)
    row = RunRow(run, "shop", lease.link_id, kind, "applied", started_at=at, digest="x")
    row.counts.crm.reverts = reverts
    await store.finish_run(lease, row)


async def test_orders_that_passes_of_a_day_put_back_are_counted_each_once(store: Store) -> None:
    lease = await leased(store)
    orders = (1, 2, 3, 4, 5, 6)
    replaced = [change(order, DEAL, OTHER, Side.TABLE) for order in orders]
    await _a_pass(store, lease, *replaced, at=NOW - REVERTS_WITHIN - 50, reverts=0)
    await _a_pass(store, lease, change(1, DEAL, OTHER, Side.TABLE), change(7, None, OTHER, Side.TABLE), at=NOW - 99)
    await _a_pass(store, lease, change(8, DEAL, OTHER, Side.TABLE), at=NOW - 99, found=THIRD)
    back = (change(1, OTHER, DEAL), change(7, OTHER, None), change(8, OTHER, THIRD))
    await _a_pass(store, lease, *back, change(2, OTHER, DEAL), at=NOW - 20)
    await _a_pass(store, lease, change(1, OTHER, DEAL), change(8, OTHER, DEAL), at=NOW - 10)
    await _a_pass(store, lease, replace(change(3, OTHER, DEAL), reason=Reason.RESOLVED_TABLE), at=NOW - 10)
    await _a_pass(store, lease, change(4, OTHER, DEAL), at=NOW - 10, kind="apply")
    await _a_pass(store, lease, change(5, OTHER, DEAL), at=NOW - REVERTS_WITHIN - 40)

    assert (await store.last_day(lease.link_id, NOW - 30, NOW)).reverted == {Side.CRM: {1, 7, 8}}
    assert (await store.last_day(lease.link_id, NOW - 15, NOW)).reverted == {Side.CRM: {1}}
    assert (await store.last_day(lease.link_id, NOW, NOW)).reverted == {}
    since = NOW - REVERTS_WITHIN - 45
    assert (await store.last_day(lease.link_id, since, NOW)).reverted == {Side.CRM: {1, 5, 7, 8}}


async def test_what_was_written_and_put_back_before_a_rebase_counts_as_well(store: Store) -> None:
    lease = await leased(store)
    other = await leased(store, "outlet")
    replaced = [change(order, DEAL, OTHER, Side.TABLE) for order in (1, 2)]
    await _a_pass(store, lease, *replaced, at=NOW - 40, reverts=0)
    await _a_pass(store, other, *replaced, change(3, DEAL, OTHER, Side.TABLE), at=NOW - 40, reverts=0)
    await _a_pass(store, lease, change(1, OTHER, DEAL), at=NOW - 30)
    lease = lease._replace(link_id=(await store.rebase(lease, "other ends", NOW - 20)).id)
    await _a_pass(store, lease, change(2, OTHER, DEAL), change(3, OTHER, DEAL), at=NOW - 10)

    assert (await store.last_day(lease.link_id, NOW - 99, NOW)).reverted == {Side.CRM: {1, 2}}
    assert await store.written(lease.link_id, [2, 3], NOW - 99) == [
        Written(2, Side.TABLE, DEAL, OTHER, NOW - 40, before_rebase=True),
        Written(2, Side.CRM, OTHER, DEAL, NOW - 10),
        Written(3, Side.CRM, OTHER, DEAL, NOW - 10),
    ]


async def test_an_absence_is_forgotten_once_its_order_is_agreed_on_something_else(store: Store) -> None:
    lease = await leased(store)
    await store.observed(lease, [BindingUpdate(order, DEAL, DEAL) for order in (1, 2, 3, 4)])
    await store.note_absences(lease, Side.CRM, [1, 2, 3, 4], NOW - 99)
    run, ids = await _planned(store, lease, *(change(order, DEAL, None, Side.TABLE) for order in (1, 2)))
    outcomes = [
        ChangeOutcome(ids[0], Outcome.APPLIED, update=BindingUpdate(1, None, None)),
        ChangeOutcome(ids[1], Outcome.FAILED),
    ]
    await store.record(lease, run, outcomes, now=NOW)
    await store.agree(lease, run, [agreement(3, OTHER)])

    assert sorted(await store.absences(lease.link_id, [1, 2, 3, 4])) == [2, 4]


async def test_what_was_perhaps_written_counts_in_a_day(store: Store) -> None:
    lease = await leased(store)
    run, ids = await _planned(
        store, lease, change(1, DEAL, OTHER), change(2, DEAL, None), change(3, DEAL, OTHER), change(4, DEAL, OTHER)
    )
    outcomes = [ChangeOutcome(one, Outcome.UNCERTAIN) for one in ids[:2]]
    await store.record(lease, run, [*outcomes, ChangeOutcome(ids[2], Outcome.FAILED)], now=NOW)

    day = await store.last_day(lease.link_id, NOW, NOW)

    assert (day.moved[Side.CRM], day.removed[Side.CRM]) == (1, 1)


async def test_active_orders_are_those_that_wait_and_those_written_lately(store: Store) -> None:
    lease = await leased(store)
    some = OrderRanges.parse("1-9")
    await _over_some_orders(store, lease, some, change(1, DEAL, OTHER), change(2, DEAL, OTHER), started=NOW - 99)
    await _over_some_orders(store, lease, some, change(3, DEAL, OTHER), change(4, DEAL, OTHER))
    await store.note_absences(lease, Side.TABLE, [30], NOW)
    await store.note_absences(lease, Side.TABLE, [31], NOW + 1)

    assert await store.active_orders(lease.link_id, NOW - 9, 9) == [31, 30, 4, 3]
    assert await store.active_orders(lease.link_id, NOW - 99, 5) == [31, 30, 4, 3, 2]


async def test_what_was_written_to_an_order_since_a_time_says_what_it_replaced(store: Store) -> None:
    lease = await leased(store)
    run, ids = await _planned(
        store,
        lease,
        change(1, DEAL, OTHER),
        change(1, OTHER, None, Side.TABLE),
        change(2, DEAL, OTHER),
        change(1, None, OTHER),
        change(1, DEAL, OTHER),
    )
    await store.record(lease, run, [ChangeOutcome(ids[4], Outcome.APPLIED)], now=NOW - 50)
    found = ChangeOutcome(ids[0], Outcome.APPLIED, "", THIRD, found_known=True)
    await store.record(lease, run, [found, *(ChangeOutcome(number, Outcome.APPLIED) for number in ids[1:3])], now=NOW)
    await store.record(lease, run, [ChangeOutcome(ids[3], Outcome.ALREADY)], now=NOW)
    await store.agree(lease, run, [agreement(1, OTHER)])

    lately = [Written(1, Side.CRM, THIRD, OTHER, NOW), Written(1, Side.TABLE, OTHER, None, NOW)]
    assert await store.written(lease.link_id, [1, 3], NOW) == lately
    assert await store.written(lease.link_id, [1], NOW - 50) == [*lately, Written(1, Side.CRM, DEAL, OTHER, NOW - 50)]
    assert await store.written(lease.link_id, [], NOW - 50) == []


# ------------------------------------------------------------------- absences


async def test_absences_are_noted_by_side_and_forgotten(store: Store) -> None:
    lease = await leased(store)
    await store.observed(lease, [BindingUpdate(order, DEAL, DEAL) for order in (1, 2, 3, 4, 7)])
    await store.note_absences(lease, Side.TABLE, [1, 2, 3], NOW)
    await store.note_absences(lease, Side.CRM, [7], NOW + 5)
    await store.note_absences(lease, Side.TABLE, [3, 4], NOW + 9)

    assert await store.absence_counts(lease.link_id) == {Side.TABLE: (4, NOW), Side.CRM: (1, NOW + 5)}
    assert await store.absences(lease.link_id, [3, 7, 8]) == {
        3: Absence(3, Side.TABLE, NOW + 9),
        7: Absence(7, Side.CRM, NOW + 5),
    }

    await store.forget_absences(lease, Side.TABLE, [1, 2, 7])
    assert await store.absence_counts(lease.link_id) == {Side.TABLE: (2, NOW + 9), Side.CRM: (1, NOW + 5)}
    await store.forget_absences(lease, Side.TABLE)
    await store.note_absences(lease, Side.TABLE, [], NOW)
    assert await store.absence_counts(lease.link_id) == {Side.CRM: (1, NOW + 5)}
    assert await store.absence_counts(lease.link_id + 1) == {}


async def test_absences_of_some_orders_are_counted_apart(store: Store) -> None:
    lease = await leased(store)
    orders = range(1, 1000, 2)
    await store.observed(lease, [BindingUpdate(order, DEAL, DEAL) for order in orders])
    await store.note_absences(lease, Side.TABLE, orders, NOW)
    await store.note_absences(lease, Side.CRM, [7], NOW - 5)

    some = await store.absence_counts(lease.link_id, OrderRanges.parse("5-9,500-502"))
    single = await store.absence_counts(lease.link_id, OrderRanges.of_orders(range(1, 900, 3)))
    assert some == {Side.TABLE: (3, NOW), Side.CRM: (1, NOW - 5)}
    assert single[Side.TABLE] == (sum(order % 3 == 1 for order in orders if order < 900) - 1, NOW)
    assert await store.absence_counts(lease.link_id, OrderRanges()) == {}


async def test_an_absence_counts_only_while_its_order_is_agreed(store: Store) -> None:
    lease = await leased(store)
    await store.observed(lease, [BindingUpdate(order, DEAL, DEAL) for order in (1, 2)])
    await store.note_absences(lease, Side.TABLE, [1, 2], NOW)

    await store.observed(lease, [BindingUpdate(1, None, None), BindingUpdate(2, None, DEAL)])

    assert await store.absence_counts(lease.link_id) == {Side.TABLE: (1, NOW)}


# ---------------------------------------------------------------------- holds


async def test_holds_are_opened_and_listed_by_order(store: Store) -> None:
    lease = await leased(store)
    run = await store.start_run(lease, "pass", "command", NOW)
    unreadable = Facts(DEAL, None, OTHER, Unreadable(HoldKind.INVALID_ROW, "owner id is null"))
    opened = [
        StoredHold(Hold(9, HoldKind.INVALID_ROW, unreadable, "owner id is null"), sticky=True),
        held(0, HoldKind.INVALID_ROW),
    ]
    await store.set_holds(lease, run, opened=opened, released=[], now=NOW)
    first, second = await store.holds(lease.link_id)
    assert first.hold.order_id == 0
    assert second == replace(opened[0], hold=replace(opened[0].hold, since=NOW), run=run)


async def test_holds_are_listed_by_kind_and_page(store: Store) -> None:
    lease = await leased(store)
    run = await store.start_run(lease, "pass", "command", NOW)
    opened = [held(-3), held(0), held(2, HoldKind.FLAPPING), held(4), held(5)]
    await store.set_holds(lease, run, opened=opened, released=[], now=NOW)
    await store.set_holds(lease, run, opened=[], released=[4], now=NOW)

    async def orders(**asked: Any) -> list[int]:
        return [one.hold.order_id for one in await store.holds(lease.link_id, **asked)]

    assert await orders() == [-3, 0, 2, 5]
    assert await orders(limit=2) == [-3, 0]
    assert await orders(after=0) == [2, 5]
    assert await orders(after=0, limit=1) == [2]
    assert await orders(kind=HoldKind.FLAPPING) == [2]


async def test_a_hold_remembers_what_it_saw_beside_what_it_shows(store: Store) -> None:
    lease = await leased(store)
    for run, seen in enumerate((Facts(DEAL, None, OTHER), Facts(None, None, None), None), 1):
        shown = Hold(5, HoldKind.EDIT_EDIT, Facts(THIRD, OTHER, DEAL), "overwritten", since=NOW, seen=seen)
        await store.set_holds(lease, run, opened=[StoredHold(shown, sticky=True)], released=[], now=NOW)
        assert [stored.hold for stored in await store.holds(lease.link_id)] == [shown]
    assert [stored.hold for stored, _ in await store.past_holds("shop", 5)] == [shown]


async def test_a_hold_made_earlier_says_since_when(store: Store) -> None:
    lease = await leased(store)
    earlier = held(1)
    earlier = replace(earlier, hold=replace(earlier.hold, since=NOW - 500))
    await store.set_holds(lease, 1, opened=[earlier], released=[], now=NOW)
    assert [stored.hold.since for stored in await store.holds(lease.link_id)] == [NOW - 500]


async def test_a_released_hold_stays_as_history(store: Store) -> None:
    lease = await leased(store)
    await store.set_holds(lease, 1, opened=[held(1), held(2)], released=[], now=NOW)
    await store.set_holds(lease, 2, opened=[], released=[1, 77], now=NOW + 5)
    assert [stored.hold.order_id for stored in await store.holds(lease.link_id)] == [2]
    [(stored, released)] = await store.past_holds("shop", 1)
    assert (stored.hold.kind, released) == (HoldKind.EDIT_EDIT, NOW + 5)


async def test_a_hold_of_the_same_kind_stays_as_one_with_its_since(store: Store) -> None:
    lease = await leased(store)
    await store.set_holds(lease, 1, opened=[held(1), held(2)], released=[], now=NOW)
    again = [held(1, detail="said otherwise"), held(2, crm=THIRD)]
    await store.set_holds(lease, 2, opened=again, released=[], now=NOW + 9)
    first, second = await store.holds(lease.link_id)
    assert (first.hold.since, first.hold.detail) == (NOW, "said otherwise")
    assert (second.hold.since, second.hold.facts.crm) == (NOW, THIRD)
    assert [len(await store.past_holds("shop", order)) for order in (1, 2)] == [1, 1]


async def test_a_decision_that_did_not_help_is_over_when_the_order_is_held_again(store: Store) -> None:
    lease = await leased(store)
    await store.set_holds(lease, 1, opened=[held(1)], released=[], now=NOW)
    await store.decide(lease.link_id, [1], "retry", NOW + 1)
    run = await store.start_run(lease, "pass", "command", NOW + 2)
    await store.set_holds(lease, run, opened=[held(1)], released=[], now=NOW + 9)
    assert [stored.decision for stored in await store.holds(lease.link_id)] == [""]


async def test_a_decision_made_while_a_run_is_at_work_waits_for_the_next(store: Store) -> None:
    lease = await leased(store)
    await store.set_holds(lease, 1, opened=[held(1), held(2)], released=[], now=NOW)
    run = await store.start_run(lease, "pass", "command", NOW + 2)
    await store.decide(lease.link_id, [1, 2], "crm", NOW + 3)
    again = [held(1, detail="said otherwise"), held(2, crm=THIRD)]
    await store.set_holds(lease, run, opened=again, released=[], now=NOW + 9)
    first, second = await store.holds(lease.link_id)
    assert (first.hold.detail, first.decision) == ("said otherwise", "crm")
    assert second.decision == "", "what was decided of other facts is not decided"


async def test_a_hold_opened_again_as_it_stands_keeps_the_run_that_made_it(store: Store) -> None:
    lease = await leased(store)
    await store.set_holds(lease, 1, opened=[held(1)], released=[], now=NOW)
    await store.set_holds(lease, 2, opened=[held(1)], released=[], now=NOW + 9)
    assert [stored.run for stored in await store.holds(lease.link_id)] == [1]


async def test_a_hold_of_another_kind_takes_the_place_of_the_open_one(store: Store) -> None:
    lease = await leased(store)
    await store.set_holds(lease, 1, opened=[held(1)], released=[], now=NOW)
    await store.record(lease, 2, [], now=NOW + 5, holds=[held(1, HoldKind.UNCERTAIN)])
    assert [(one.hold.kind, one.hold.since) for one in await store.holds(lease.link_id)] == [
        (HoldKind.UNCERTAIN, NOW + 5)
    ]
    assert [(one.hold.kind, released) for one, released in await store.past_holds("shop", 1)] == [
        (HoldKind.EDIT_EDIT, NOW + 5),
        (HoldKind.UNCERTAIN, None),
    ]


async def test_a_hold_released_and_opened_at_once_begins_anew(store: Store) -> None:
    lease = await leased(store)
    await store.set_holds(lease, 1, opened=[held(1)], released=[], now=NOW)
    await store.set_holds(lease, 2, opened=[held(1)], released=[1], now=NOW + 5)
    assert [stored.hold.since for stored in await store.holds(lease.link_id)] == [NOW + 5]


async def test_a_decision_is_written_on_open_holds_only(store: Store) -> None:
    lease = await leased(store)
    await store.set_holds(lease, 1, opened=[held(1), held(2), held(3)], released=[], now=NOW)
    await store.set_holds(lease, 1, opened=[], released=[3], now=NOW)
    assert await store.decide(lease.link_id, [1, 3, 99], "table", NOW) == 1
    assert [(one.hold.order_id, one.decision) for one in await store.holds(lease.link_id)] == [(1, "table"), (2, "")]
    assert await store.decide(lease.link_id, [], "table", NOW) == 0


# ------------------------------------------------- requests, tokens, budgets


async def test_requests_stay_open_until_they_are_closed(store: Store, another: Opener) -> None:
    lease = await leased(store)
    first = await store.post_request("shop", "trigger", "cli on host", NOW)
    second = await store.post_request("shop", "trigger", "cli on host", NOW + 1)
    other = await store.post_request("outlet", "trigger", "cli on host", NOW)
    found = await another().open_requests(["shop", "unknown"])
    assert [(one.id, one.link, one.kind, one.by, one.created_at) for one in found] == [
        (first, "shop", "trigger", "cli on host", NOW),
        (second, "shop", "trigger", "cli on host", NOW + 1),
    ]
    assert await store.open_requests(["shop"]) == found
    await store.close_requests(lease, [first, other], NOW + 3)
    assert [one.id for one in await store.open_requests(["shop", "outlet"])] == [second, other]
    assert await store.open_requests([]) == []


async def test_requests_are_closed_under_the_lease_only(store: Store) -> None:
    lease = await leased(store)
    asked = await store.post_request("shop", "trigger", "cli on host", NOW)
    await store.release(lease)
    with pytest.raises(LeaseLost):
        await store.close_requests(lease, [asked], NOW + 1)
    assert [one.id for one in await store.open_requests(["shop"])] == [asked]


async def test_a_budget_is_kept_by_portal_and_method(store: Store) -> None:
    await store.set_budget("a", {"add": (100.5, NOW + 600, NOW), "list": (1.0, NOW, NOW)})
    await store.set_budget("a", {"add": (120.0, NOW + 660, NOW + 60)})
    await store.set_budget("a", {})
    assert await store.budget("a") == {"add": (120.0, NOW + 660, NOW + 60), "list": (1.0, NOW, NOW)}
    assert await store.budget("b") == {}


async def test_a_token_is_swapped_only_for_the_expected_one(store: Store, another: Opener) -> None:
    assert await store.token("a") is None
    assert not await store.swap_token("a", "none yet", {"refresh_token": "r0"})
    assert await store.swap_token("a", None, {"refresh_token": "r1", "expires": 5, "scope": ["crm", "sale"]})
    assert not await another().swap_token("a", "stale", {"refresh_token": "r2"})
    assert await store.token("a") == {"refresh_token": "r1", "expires": 5, "scope": ["crm", "sale"]}
    assert await another().swap_token("a", "r1", {"refresh_token": "r2"})
    assert await store.token("a") == {"refresh_token": "r2"}
    assert await store.token("b") is None
