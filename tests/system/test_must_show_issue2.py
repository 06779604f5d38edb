"""What issue 2 must show, through the real command line, on the sandbox over TCP and SQLite."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.shop import DEAL, SECRET, Shop, open_shop

MANY = 1000


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path, {1: 11, 2: 12, 3: 13, 4: 14}, orders=range(1, 100)) as made:
        yield made


@pytest.fixture
def big_shop(tmp_path: Path) -> Iterator[Shop]:
    bindings = {order: 5000 + order for order in range(1, MANY + 1)}
    with open_shop(tmp_path, bindings, orders=range(1, 2 * MANY)) as made:
        made.create_table(list(bindings.items()))
        made.call("reconcile").check(0)
        yield made


def edit_both_sides(shop: Shop) -> None:
    """One edit of each kind on each side."""
    shop.portal.bind(MANY + 1, DEAL, 1)
    shop.portal.bind(2, DEAL, 102)
    shop.portal.unbind(3)
    shop.sql("INSERT INTO bindings VALUES (?, ?)", MANY + 2, 2)
    shop.sql("UPDATE bindings SET deal_id = 105 WHERE order_id = 5")
    shop.sql("DELETE FROM bindings WHERE order_id = 6")


EDITED = {
    ("table", "add", MANY + 1),
    ("table", "move", 2),
    ("table", "remove", 3),
    ("crm", "add", MANY + 2),
    ("crm", "move", 5),
    ("crm", "remove", 6),
}


def test_given_a_thousand_orders_in_step_and_one_edit_of_each_kind_on_each_side_then_plan_shows_them_and_writes_nothing(
    big_shop: Shop,
) -> None:
    edit_both_sides(big_shop)
    crm, table = big_shop.crm(), big_shop.table()

    ran = big_shop.run("plan", "--json").check(2)

    (report,) = ran.json
    assert {(one["side"], one["action"], one["order_id"]) for one in report["changes"]} == EDITED
    assert {one["outcome"] for one in report["changes"]} == {"planned"}
    assert report["counts"]["in_step"] == MANY - 4
    assert (big_shop.crm(), big_shop.table()) == (crm, table)


def test_given_those_edits_when_reconciling_then_both_sides_are_equal_and_a_second_time_only_reads(
    big_shop: Shop,
) -> None:
    edit_both_sides(big_shop)

    (report,) = big_shop.run("reconcile", "--json").check(0).json

    assert {(one["side"], one["action"], one["order_id"]) for one in report["changes"]} == EDITED
    assert {one["outcome"] for one in report["changes"]} == {"applied"}
    assert big_shop.crm() == big_shop.table()
    assert big_shop.crm()[5] == 105
    assert big_shop.table()[2] == 102
    assert {3, 6}.isdisjoint(big_shop.crm())

    big_shop.portal.stats.calls.clear()
    (idle,) = big_shop.run("reconcile", "--json").check(0).json

    assert idle["changes"] == []
    assert set(big_shop.portal.stats.calls) - {"batch"} == {"crm.orderentity.list"}


def test_given_unreadable_rows_when_reconciling_then_they_are_held_others_converge_and_nothing_is_written_again(
    shop: Shop,
) -> None:
    shop.create_table([(1, 11), (2, 12), (2, 22), (3, None), (4, 0), (5, 15)], key=False)
    shop.settings["first_sync"] = '"auto"'

    (report,) = shop.run("reconcile", "--json").check(3).json

    assert {one["order_id"]: one["kind"] for one in report["holds"]} == {
        2: "duplicate-rows",
        3: "invalid-row",
        4: "invalid-row",
    }
    assert shop.crm() == {1: 11, 2: 12, 3: 13, 4: 14, 5: 15}
    rows = shop.sql("SELECT order_id, deal_id FROM bindings")

    for _ in range(2):
        (again,) = shop.call("reconcile", "--json").check(3).json
        assert again["changes"] == []
    assert shop.sql("SELECT order_id, deal_id FROM bindings") == rows
    assert len(shop.portal.stats.writes) == 1


def test_given_an_order_bound_elsewhere_between_listing_and_write_then_it_is_skipped_and_right_after_the_next_run(
    shop: Shop,
) -> None:
    shop.create_table([(1, 11), (2, 12), (3, 13), (4, 14)])
    shop.call("reconcile").check(0)
    shop.sql("UPDATE bindings SET deal_id = 99 WHERE order_id = 2")

    def somebody_else(method: str, _params: object, _request: int) -> None:
        if method.lower() == "crm.item.list":  # owners are asked for after the listing, before the write
            shop.portal.bind(2, DEAL, 77)

    stop = shop.portal.before_call(somebody_else)
    (report,) = shop.run("reconcile", "--json").check(3).json
    stop()

    assert [(one["order_id"], one["outcome"]) for one in report["changes"]] == [(2, "skipped")]
    assert shop.crm()[2] == 77

    (after,) = shop.run("reconcile", "--json").check(3).json
    assert [(one["order_id"], one["kind"]) for one in after["holds"]] == [(2, "edit-edit")]
    assert (shop.crm()[2], shop.table()[2]) == (77, 99)


def test_given_a_row_of_an_order_the_portal_does_not_know_then_it_is_held_and_not_tried_every_run(shop: Shop) -> None:
    shop.create_table([(1, 11), (2, 12), (3, 13), (4, 14), (500, 15)])
    shop.settings["first_sync"] = '"auto"'

    (report,) = shop.run("reconcile", "--json").check(3).json
    assert [(one["order_id"], one["kind"]) for one in report["holds"]] == [(500, "order-missing")]

    shop.portal.stats.calls.clear()
    (again,) = shop.call("reconcile", "--json").check(3).json
    assert [one["order_id"] for one in again["holds"]] == [500]
    assert "crm.orderentity.add" not in shop.portal.stats.calls


def test_given_a_wrong_webhook_then_the_exit_is_77_with_a_hint(shop: Shop) -> None:
    shop.create_table([(1, 11)])
    shop.webhook = shop.server.webhook_url.replace(SECRET, "wrong")

    ran = shop.run("plan").check(77)

    assert "Hint:" in ran.err


def test_given_a_configuration_with_several_mistakes_then_all_are_reported_at_once_with_78(shop: Shop) -> None:
    shop.create_table()
    shop.settings |= {"shedule": '"5m"', "direction": '"both"'}

    ran = shop.run("plan").check(78)

    assert "links.shop.shedule: unknown key; did you mean schedule?" in ran.err
    assert "links.shop.direction" in ran.err
    assert ran.out == ""


def test_given_missing_columns_then_all_of_them_are_named_with_78(shop: Shop) -> None:
    shop.create_table()
    shop.columns = '{ order_id = "nr", owner_type_id = "kind", owner_id = "deal_id" }'

    ran = shop.run("plan").check(78)

    assert "nr" in ran.err
    assert "kind" in ran.err


def test_given_a_database_that_cannot_be_reached_then_the_exit_is_69_with_a_sentence(shop: Shop) -> None:
    shop.table_url = "postgresql://syncd:pw@127.0.0.1:1/shop"

    ran = shop.run("plan").check(69)

    assert "Error:" in ran.err
    assert ran.err.count("\n") <= 12


def test_given_a_closed_port_then_the_exit_is_69_with_a_sentence(shop: Shop) -> None:
    shop.create_table()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    shop.webhook = f"http://127.0.0.1:{port}/rest/1/{SECRET}/"

    ran = shop.run("plan").check(69)

    assert "Error:" in ran.err


def test_given_several_things_wrong_at_once_then_check_reports_all_of_them(shop: Shop) -> None:
    shop.create_table()
    shop.columns = '{ order_id = "nr", owner_type_id = 2, owner_id = "deal_id" }'
    shop.webhook = shop.server.webhook_url.replace(SECRET, "wrong")

    ran = shop.run("check", "--json").check(78)

    assert {one["subject"] for one in ran.json if not one["ok"]} == {"shop: table", "shop: portal"}


def test_given_nothing_but_python_then_the_demo_shows_the_whole_job_and_verifies_it(tmp_path: Path) -> None:
    with open_shop(tmp_path) as shop:
        ran = shop.run("demo").check(0)

    assert "Verified: the CRM, the table and the agreed state are equal" in ran.out
    assert "edit-edit" in ran.out


def test_given_the_sandbox_command_then_its_first_line_is_the_webhook_and_term_ends_it_with_0(tmp_path: Path) -> None:
    import signal

    with open_shop(tmp_path) as shop, shop.start("sandbox", "--rows", "3") as process:
        assert process.stdout is not None
        url = process.stdout.readline()
        ran = shop.interrupt(process, signal.SIGTERM)

    assert url.startswith("http://127.0.0.1:")
    assert url.rstrip().endswith("/rest/1/sandboxsecret/")
    assert ran.code == 0
