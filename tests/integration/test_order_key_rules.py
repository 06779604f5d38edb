"""What becomes of keys that no order has, that several have, that move: the rules of docs/explanation/order-keys.md."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from syncd.core.model import Direction, HoldKind, Outcome, Owner, Scope
from syncd.engine.link import hold_lease
from syncd.errors import AuthError
from syncd.table import keyed
from tests.integration.keyed_shop import KeyedShop, held

pytestmark = pytest.mark.anyio

MISSING, AMBIGUOUS = HoldKind.ORDER_MISSING, HoldKind.AMBIGUOUS_KEY


@pytest.fixture
async def world(sqlite_url: str) -> AsyncIterator[KeyedShop]:
    async with KeyedShop(sqlite_url).running() as made:
        yield made


@pytest.fixture
async def xml_world(sqlite_url: str) -> AsyncIterator[KeyedShop]:
    async with KeyedShop(sqlite_url, "xmlId").running() as made:
        yield made


# ------------------------------------------------------------------ what is asked


async def test_given_orders_in_step_then_a_pass_asks_for_no_key(world: KeyedShop) -> None:
    await world.in_step({order: 100 + order for order in range(1, 61)})
    assert (await world.reconcile()).row.calls == (await world.reconcile()).row.calls
    assert world.lookups == 0


async def test_given_a_first_sync_then_each_key_is_asked_for_once(world: KeyedShop) -> None:
    for order in range(1, 61):
        world.bind(order, 100 + order)
        world.put(f"WEB-{order}", 100 + order if order > 5 else 1)
    report = await world.reconcile()
    assert (report.row.counts.in_step, len(report.holds), world.lookups) == (55, 5, 2)


async def test_given_a_new_row_then_its_key_alone_is_asked_for(world: KeyedShop) -> None:
    await world.in_step({order: 100 + order for order in range(1, 61)})
    world.put("WEB-70", 170)
    assert (await world.reconcile()).exit_code == 0
    assert (world.bound[70], world.lookups) == (170, 1)


async def test_given_a_changed_order_then_its_key_is_asked_for_once_more_before_it_is_written(world: KeyedShop) -> None:
    await world.in_step({5: 50, 6: 60})
    world.bind(5, 51)
    assert (await world.reconcile()).exit_code == 0
    assert world.lookups == 1


async def test_given_credentials_without_the_scope_sale_then_the_run_ends_with_77(world: KeyedShop) -> None:
    world.crm.scope = frozenset({"crm"})
    world.put("WEB-5", 50)
    report = await world.reconcile()
    assert isinstance(report.error, AuthError)
    assert (report.exit_code, world.bound) == (77, {})


# -------------------------------------------------------- a key that no order has


async def test_given_a_key_that_no_order_has_then_its_row_is_held_until_the_order_appears(world: KeyedShop) -> None:
    await world.in_step({5: 50})
    world.put("SHOP-1", 77)
    report = await world.reconcile()
    (hold,) = report.holds
    assert (hold.kind, hold.facts.table) == (MISSING, Owner(2, 77))
    assert hold.order_id < 0
    assert "'SHOP-1'" in hold.detail

    world.give_key(8, "SHOP-1")
    assert (await world.reconcile(minutes=2)).holds == []
    assert world.bound == {5: 50, 8: 77}


async def test_given_a_key_that_no_order_has_then_it_is_asked_for_again_with_growing_pauses(world: KeyedShop) -> None:
    link = world.link()
    assert link.order_keys is not None
    async with hold_lease(link):
        asked = []
        for minute in range(300):
            if not (await link.order_keys.known(["SHOP-1"])).single:
                asked.append(minute)
                await link.order_keys.learn(["SHOP-1"])
            world.clock.advance(60)
    assert [later - sooner for sooner, later in pairwise(asked)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_given_a_row_whose_key_no_order_had_when_it_is_dropped_then_its_hold_is_over_and_forgotten(
    world: KeyedShop,
) -> None:
    await world.in_step({5: 50})
    world.put("SHOP-1", 77)
    await world.reconcile()
    world.drop("SHOP-1")
    assert (await world.reconcile()).holds == []
    link = await world.store.find_link("shop")
    assert link is not None
    assert await world.store.unknown_keys(link.id) == []


async def test_given_rows_of_unknown_keys_then_orders_of_other_owners_that_are_gone_are_unbound(
    world: KeyedShop,
) -> None:
    await world.in_step({5: 50, 6: 60})
    world.put("SHOP-1", 77)
    world.drop("WEB-5")
    assert list(held(await world.reconcile()).values()) == [MISSING]
    assert world.bound == {6: 60}


async def test_given_a_row_that_got_a_key_which_the_portal_does_not_know_yet_then_its_order_is_not_unbound(
    world: KeyedShop,
) -> None:
    await world.in_step({5: 50, 6: 60})
    world.rename("WEB-5", "NEW-5")
    report = await world.reconcile()
    assert list(held(report).values()) == [MISSING]
    assert (report.row.counts.waiting, world.bound) == (1, {5: 50, 6: 60})

    world.give_key(5, "NEW-5")
    report = await world.reconcile(minutes=2)
    assert (report.exit_code, report.row.counts.in_step) == (0, 2)
    assert world.bound == {5: 50, 6: 60}


async def test_given_a_row_of_an_unknown_key_that_names_no_owner_then_no_absent_order_is_unbound(
    world: KeyedShop,
) -> None:
    await world.in_step({5: 50, 6: 60})
    world.drop("WEB-5")
    world.execute("INSERT INTO bindings (number, deal_id) VALUES ('SHOP-1', NULL)")
    report = await world.reconcile()
    assert held(report)[0] is HoldKind.INVALID_ROW
    assert "number is 'SHOP-1' (deal_id is null)" in next(one.detail for one in report.holds if not one.order_id)
    assert (report.row.counts.waiting, world.bound) == (1, {5: 50, 6: 60})
    calls = world.lookups
    await world.reconcile(minutes=0.5)
    assert world.lookups == calls

    world.drop("SHOP-1")
    assert (await world.reconcile()).exit_code == 0
    assert world.bound == {6: 60}


@pytest.mark.parametrize("limit", [10_000, 1])
async def test_given_rows_that_got_one_key_which_the_portal_does_not_know_then_none_of_their_orders_is_unbound(
    world: KeyedShop, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(keyed, "MOST_UNKNOWN", limit)
    await world.in_step({5: 50, 6: 60, 7: 70})
    world.rename("WEB-5", "N/A")
    world.rename("WEB-6", "N/A")
    report = await world.reconcile()
    assert MISSING in held(report).values()
    assert (report.row.counts.waiting, world.bound) == (2, {5: 50, 6: 60, 7: 70})


async def test_given_a_table_that_is_only_a_target_then_rows_of_unknown_keys_are_left_alone(sqlite_url: str) -> None:
    async with KeyedShop(sqlite_url, direction=Direction.CRM_TO_TABLE).running() as world:
        world.put("SHOP-1", 77)
        world.bind(5, 50)
        assert (await world.reconcile()).holds == []
        assert world.rows == [("SHOP-1", 77), ("WEB-5", 50)]


async def test_given_rows_of_unknown_keys_whose_owners_are_out_of_scope_then_they_are_left_alone(
    sqlite_url: str,
) -> None:
    async with KeyedShop(sqlite_url, scope=Scope(frozenset({31}))).running() as world:
        world.put("SHOP-1", 77)
        assert (await world.reconcile()).holds == []


async def test_given_more_unknown_keys_than_can_be_held_one_by_one_then_no_absent_order_is_unbound(
    world: KeyedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyed, "MOST_UNKNOWN", 2)
    await world.in_step({5: 50, 6: 60})
    world.drop("WEB-5")
    for number in range(1, 6):
        world.put(f"SHOP-{number}", 70 + number)
    report = await world.reconcile()
    assert sorted(map(str, held(report).values())) == ["invalid-row", "order-missing", "order-missing"]
    (hold,) = [hold for hold in report.holds if hold.order_id == 0]
    assert "3 more rows have an accountNumber that no order of the portal has" in hold.detail
    assert world.bound == {5: 50, 6: 60}
    calls = world.lookups
    await world.reconcile(minutes=0.5)
    assert world.lookups == calls


# ---------------------------------------------------- a key that several orders have


async def test_given_a_key_that_two_orders_have_then_both_are_held_until_one_has_it(xml_world: KeyedShop) -> None:
    world = xml_world
    await world.in_step({6: 60})
    world.give_key(5, "twice")
    world.give_key(9, "twice")
    world.put("twice", 50)
    report = await world.reconcile()
    assert held(report) == {5: AMBIGUOUS, 9: AMBIGUOUS}
    assert "The orders 5, 9 have the same xmlId 'twice'" in report.holds[0].detail
    assert world.bound == {6: 60}

    world.give_key(9, "once")
    assert (await world.reconcile(minutes=2)).holds == []
    assert world.bound == {5: 50, 6: 60}


async def test_given_an_order_that_takes_the_key_of_an_agreed_one_then_neither_is_written(xml_world: KeyedShop) -> None:
    world = xml_world
    await world.in_step({5: 50})
    world.give_key(9, "shop-5")
    world.bind(9, 90)
    report = await world.reconcile()
    assert held(report)[9] is AMBIGUOUS
    assert world.rows == [("shop-5", 50)]
    assert held(await world.reconcile()) == {5: AMBIGUOUS, 9: AMBIGUOUS}
    assert world.bound == {5: 50, 9: 90}


async def test_given_a_pass_over_some_orders_then_others_are_left_as_they_are_whatever_their_keys(
    xml_world: KeyedShop,
) -> None:
    world = xml_world
    await world.in_step({5: 50, 6: 60})
    world.give_key(8, "twice")
    world.give_key(9, "twice")
    world.put("twice", 80)
    world.put("shop-5", 51)
    world.put("shop-6", 61)
    report = await world.reconcile(orders="5,9")
    assert held(report) == {9: AMBIGUOUS}
    assert world.bound == {5: 51, 6: 60}
    assert held(await world.reconcile()) == {8: AMBIGUOUS, 9: AMBIGUOUS}
    assert world.bound == {5: 51, 6: 61}


# -------------------------------------------------------------- an order without a key


async def test_given_a_bound_order_without_a_key_then_it_is_held_until_it_has_one(xml_world: KeyedShop) -> None:
    world = xml_world
    await world.in_step({6: 60})
    world.give_key(5, "")
    world.bind(5, 50)
    report = await world.reconcile()
    assert held(report) == {5: AMBIGUOUS}
    assert report.holds[0].detail.startswith("The order has no xmlId in the portal")
    calls = world.lookups
    await world.reconcile(minutes=0.5)
    assert world.lookups == calls

    world.give_key(5, "x-5")
    assert (await world.reconcile(minutes=2)).exit_code == 0
    assert world.rows == [("shop-6", 60), ("x-5", 50)]


async def test_given_an_agreed_order_that_lost_its_key_then_its_binding_is_not_removed(xml_world: KeyedShop) -> None:
    world = xml_world
    await world.in_step({5: 50, 6: 60})
    world.give_key(5, "")
    world.execute("UPDATE bindings SET deal_id = 51 WHERE number = 'shop-5'")
    for _ in range(3):
        report = await world.reconcile(minutes=2)
    assert held(report)[5] is AMBIGUOUS
    assert world.bound == {5: 50, 6: 60}


# --------------------------------------------------------------------- keys that move


async def test_given_a_key_that_moved_to_another_order_when_its_row_changes_then_the_right_order_gets_it(
    world: KeyedShop,
) -> None:
    await world.in_step({5: 50, 6: 60})
    world.give_key(5, "OLD-5")
    world.give_key(9, "WEB-5")
    world.put("WEB-5", 51)
    report = await world.reconcile()
    (change,) = report.changes
    assert (change.change.order_id, change.outcome) == (5, Outcome.SKIPPED)
    assert "accountNumber is now 'OLD-5'" in change.error
    assert world.bound == {5: 50, 6: 60}

    await world.reconcile()
    assert world.bound == {6: 60, 9: 51}


async def test_given_two_orders_that_swapped_their_keys_when_a_row_changes_then_each_gets_what_its_row_says(
    world: KeyedShop,
) -> None:
    await world.in_step({5: 50, 6: 60})
    world.give_key(5, "WEB-6")
    world.give_key(6, "WEB-5")
    assert (await world.reconcile()).exit_code == 0
    assert world.bound == {5: 50, 6: 60}

    world.put("WEB-5", 51)
    await world.reconcile()
    assert world.bound == {5: 50, 6: 60}
    assert (await world.reconcile()).exit_code == 0
    assert world.bound == {5: 60, 6: 51}


async def test_given_an_order_with_another_known_key_then_it_is_unbound_and_the_row_of_its_old_key_is_held(
    world: KeyedShop,
) -> None:
    await world.in_step({5: 50, 6: 60, 7: 70})
    world.give_key(6, "OLD-6")
    world.give_key(5, "WEB-6")
    world.drop("WEB-6")
    for _ in range(2):
        report = await world.reconcile(minutes=2)
    assert world.bound == {7: 70}
    (hold,) = report.holds
    assert (hold.kind, hold.facts.table) == (MISSING, Owner(2, 50))
    assert "Order 5 had it before, and has another one now." in hold.detail
    assert report.row.counts.waiting == 0

    world.give_key(9, "WEB-5")
    assert (await world.reconcile(minutes=61)).exit_code == 0
    assert (world.bound, world.rows) == ({7: 70, 9: 50}, [("WEB-5", 50), ("WEB-7", 70)])


async def test_given_an_order_with_another_key_when_it_changes_in_the_portal_then_it_does_not_wait_for_ever(
    world: KeyedShop,
) -> None:
    await world.in_step({5: 50, 6: 60})
    world.give_key(5, "NEW-5")
    world.crm.unbind(5)
    for _ in range(2):
        report = await world.reconcile(minutes=2)
    assert report.row.counts.waiting == 0
    assert (list(held(report).values()), world.bound) == ([MISSING], {6: 60})


async def test_given_many_orders_whose_keys_others_have_now_then_their_absences_wait_for_the_second_look(
    world: KeyedShop,
) -> None:
    await world.in_step({order: 10 * order for order in range(1, 31)})
    for order in (5, 6, 7):
        world.give_key(order + 60, f"OLD-{order + 60}")
        world.give_key(order, f"WEB-{order + 60}")
        world.put(f"WEB-{order}", 10 * order + 1)
    await world.reconcile()
    for order in (5, 6, 7):
        world.put(f"WEB-{order}", 10 * order)
    first = await world.reconcile(minutes=2)
    assert first.row.counts.waiting == 3
    assert world.bound.keys() >= {5, 6, 7}
    await world.reconcile(minutes=2)
    assert world.bound.keys().isdisjoint({5, 6, 7})


async def test_given_another_orders_row_of_an_unknown_key_then_an_order_of_that_owner_still_waits(
    world: KeyedShop,
) -> None:
    await world.in_step({5: 50, 6: 60})
    world.give_key(5, "NEW-5")
    world.put("WEB-5", 60)
    await world.reconcile()
    world.put("NEW-5", 50)
    world.drop("WEB-6")
    for _ in range(3):
        report = await world.reconcile(minutes=2)
    assert report.row.counts.waiting == 1
    assert world.bound.get(6) == 60


async def test_given_two_former_keys_of_one_order_then_neither_row_binds_it(world: KeyedShop) -> None:
    await world.in_step({5: 50, 6: 60})
    for number in (1, 2):
        world.put("WEB-5" if number == 1 else "NEW-1", 50 + number)
        world.give_key(5, f"NEW-{number}")
        world.put(f"NEW-{number}", 50)
        await world.reconcile(minutes=2)
        await world.reconcile(minutes=2)
    report = await world.reconcile(minutes=61)
    assert world.bound == {5: 50, 6: 60}
    assert list(held(report).values()) == [MISSING, MISSING]


async def test_given_an_order_with_a_new_key_on_both_sides_then_it_stays_in_step(world: KeyedShop) -> None:
    await world.in_step({5: 50, 6: 60})
    world.give_key(5, "NEW-5")
    world.rename("WEB-5", "NEW-5")
    report = await world.reconcile()
    assert (report.exit_code, report.changes, report.row.counts.in_step) == (0, [], 2)


async def test_given_a_key_that_the_portal_shows_but_cannot_look_for_then_its_order_is_written_all_the_same(
    world: KeyedShop,
) -> None:
    world.give_key(5, "$result[k0][orders]")
    world.bind(5, 50)
    assert (await world.reconcile()).exit_code == 0
    world.bind(5, 51)
    assert (await world.reconcile()).exit_code == 0
    assert world.rows == [("$result[k0][orders]", 51)]


async def test_given_a_deleted_order_then_its_row_is_removed_by_the_key_it_had(world: KeyedShop) -> None:
    await world.in_step({5: 50, 6: 60})
    world.crm.delete_order(5)
    assert (await world.reconcile()).exit_code == 0
    assert world.rows == [("WEB-6", 60)]


async def test_given_a_deleted_order_whose_key_another_one_has_then_that_ones_row_stays(world: KeyedShop) -> None:
    await world.in_step({5: 50, 6: 60})
    world.crm.delete_order(5)
    world.give_key(9, "WEB-5")
    world.bind(9, 50)
    for _ in range(2):
        await world.reconcile()
    assert (world.rows, world.bound) == ([("WEB-5", 50), ("WEB-6", 60)], {6: 60, 9: 50})


# ------------------------------------------------------------------------- odd cells


async def test_given_rows_without_a_key_then_no_absent_order_is_unbound(world: KeyedShop) -> None:
    await world.in_step({5: 50, 6: 60})
    world.drop("WEB-5")
    world.execute("INSERT INTO bindings (number, deal_id) VALUES (NULL, 1), ('', 2)")
    report = await world.reconcile()
    assert held(report) == {0: HoldKind.INVALID_ROW}
    assert "number is null" in report.holds[0].detail
    assert world.bound == {5: 50, 6: 60}


async def test_given_a_column_of_numbers_then_keys_that_are_none_are_refused_and_the_others_written(
    sqlite_url: str,
) -> None:
    async with KeyedShop(sqlite_url, kind="INTEGER").running() as world:
        world.give_key(5, "1005")
        world.give_key(7, "1007")
        world.put(1007, 70)
        world.bind(5, 50)
        world.bind(6, 60)
        report = await world.reconcile()
        assert (world.rows, world.bound) == ([(1005, 50), (1007, 70)], {5: 50, 6: 60, 7: 70})
        (error,) = [one.error for one in report.changes if one.outcome is Outcome.FAILED]
        assert "holds whole numbers, and the order's key is 'WEB-6'" in error


async def test_given_keys_and_the_order_ids_they_stand_for_then_both_tables_lead_to_the_same_bindings(
    sqlite_url: str, tmp_path: Path
) -> None:
    other = tmp_path / "other.db"
    other.touch()
    async with (
        KeyedShop(sqlite_url).running() as keys,
        KeyedShop(f"sqlite:///{other}", None, "INTEGER").running() as ids,
    ):
        for world in (keys, ids):
            name = (lambda order: f"WEB-{order}") if world is keys else (lambda order: order)
            await world.in_step({order: 100 + order for order in range(1, 13)})
            world.put(name(3), 203)
            world.bind(4, 204)
            world.put(name(5), 205)
            world.bind(5, 305)
            world.drop(name(6))
            world.crm.unbind(7)
            world.put(name(20), 220)
            world.bind(21, 221)
            await world.reconcile()
        assert keys.bound == ids.bound
        assert keys.rows == sorted((f"WEB-{order}", owner) for order, owner in ids.rows)
