"""What a person sees besides numbers: titles, addresses, the orders of a deal, and tables for other programs."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.sandbox import Fault, FaultRule
from tests.system.shop import DEAL, Shop, open_shop

ITEMS = "crm.item.list"
TYPES = "crm.enum.getorderownertypes"


@pytest.fixture
def contested(tmp_path: Path) -> Iterator[Shop]:
    """Order 2 was agreed with deal 12; it is deal 77 in the CRM and deal 99 in the table by now, and held."""
    with open_shop(tmp_path, {2: 12, 5: 77}, orders=range(1, 100)) as shop:
        shop.create_table([(2, 12), (5, 77)])
        shop.call("reconcile").check(0)
        shop.portal.bind(2, DEAL, 77)
        shop.sql("UPDATE bindings SET deal_id = 99 WHERE order_id = 2")
        shop.call("reconcile").check(3)
        shop.portal.titles |= {(DEAL, 77): "Desks", (DEAL, 99): "Lamps\x1b[31m\u202e", (DEAL, 12): "Shelves"}
        yield shop


def origin(shop: Shop) -> str:
    return shop.server.webhook_url.partition("/rest/")[0]


def test_given_a_held_order_then_its_deals_have_titles_and_all_have_addresses(contested: Shop) -> None:
    ran = contested.call("holds").check(0)
    (hold,) = contested.call("holds", "--json").check(0).json
    portal = origin(contested)

    assert "CRM     deal 77 (Desks)" in ran.out
    assert "table   deal 99 (Lamps [31m)" in ran.out
    assert f"{portal}/shop/orders/details/2/" in ran.out
    assert hold["titles"] == {"crm": "Desks", "table": "Lamps [31m", "agreed": "Shelves"}
    assert hold["urls"]["order"] == f"{portal}/shop/orders/details/2/"
    assert hold["urls"]["table"] == f"{portal}/crm/deal/details/99/"
    assert contested.portal.stats.calls[ITEMS] == 1, "they are kept for a day"


def test_given_titles_that_somebody_has_looked_at_then_plans_and_runs_show_them_without_asking_the_portal(
    contested: Shop,
) -> None:
    contested.call("holds").check(0)
    contested.call("resolve", "2", "--keep", "crm").check(0)
    contested.portal.stats.calls.clear()
    planned = contested.call("plan").check(2)
    shown = contested.call("show", str(planned.out.partition("run ")[2].partition("\n")[0])).check(0)
    contested.call("reconcile").check(0)

    line = "order 2  deal 99 → deal 77  decided: keep the CRM's; Lamps [31m → Desks"
    assert (line in planned.out, line in shown.out) == (True, True), planned.out + shown.out
    assert "deal 99 (Lamps [31m) → deal 77 (Desks)" in contested.call("history", "2").check(0).out
    assert not contested.portal.stats.calls[ITEMS]


def test_given_a_pass_then_nobody_asks_for_titles(contested: Shop) -> None:
    contested.portal.stats.calls.clear()
    contested.call("reconcile").check(3)

    assert not contested.portal.stats.calls[ITEMS]
    assert not contested.portal.stats.calls[TYPES]


def test_given_titles_are_off_then_the_portal_is_not_asked(contested: Shop) -> None:
    contested.settings["titles"] = "false"
    contested.portal.stats.requests = 0
    ran = contested.call("holds").check(0)
    (hold,) = contested.call("holds", "--json").check(0).json

    assert ("deal 77" in ran.out, "Desks" in ran.out, contested.portal.stats.requests) == (True, False, 0)
    assert hold["titles"] == {"crm": None, "table": None, "agreed": None}


def test_given_deals_that_may_not_be_seen_then_their_numbers_stand_alone(contested: Shop) -> None:
    contested.portal.owners_visible = False

    assert "CRM     deal 77\n" in contested.call("holds").check(0).out


def test_given_a_portal_that_is_away_then_holds_are_shown_and_decided_all_the_same(contested: Shop) -> None:
    contested.portal.faults.add(FaultRule(Fault.DROP))
    assert "deal 77" in contested.call("holds").check(0).out
    contested.call("resolve", "2", "--keep", "crm").check(0)

    assert "decided" in contested.call("holds").check(0).out


def test_given_a_portal_with_a_name_of_its_own_for_deals_then_they_are_called_so(contested: Shop) -> None:
    contested.portal.owner_type_names = {DEAL: "Сделка"}

    assert "CRM     Сделка 77 (Desks)" in contested.call("holds").check(0).out


def test_given_an_order_with_a_past_then_its_history_has_titles_and_addresses(contested: Shop) -> None:
    ran = contested.call("history", "2").check(0)
    contested.call("resolve", "2", "--keep", "crm").check(0)
    contested.call("reconcile").check(0)
    (event,) = contested.call("history", "2", "--json").check(0).json

    assert f"{origin(contested)}/shop/orders/details/2/" in ran.out
    assert "Now: CRM deal 77 (Desks), table deal 99" in ran.out
    assert event["titles"] == {"before": "Lamps [31m", "after": "Desks"}


@pytest.mark.parametrize("typed", ["2:77", "deal 77", "Deal #77", "https://x.example/crm/deal/details/77/"])
def test_given_a_deal_then_its_orders_are_found_as_agreed_and_as_held(contested: Shop, typed: str) -> None:
    ran = contested.call("history", "--owner", typed).check(0)
    found = contested.call("history", "shop", "--owner", typed, "--json").check(0).json

    assert "2 orders of deal 77 (Desks), link shop" in ran.out
    assert [(one["order_id"], one["held"]) for one in found] == [(2, "edit-edit"), (5, None)]
    assert "knows no order of deal 1" in contested.call("history", "--owner", "2:1").check(0).out


def test_given_a_deal_that_only_the_table_names_then_its_held_order_is_found(contested: Shop) -> None:
    (found,) = contested.call("history", "--owner", "2:99", "--json").check(0).json

    assert (found["order_id"], found["held"]) == (2, "edit-edit")


def test_given_a_plan_then_it_comes_as_csv_and_markdown_with_what_it_holds(contested: Shop) -> None:
    contested.portal.bind(6, DEAL, 77)
    planned = contested.call("plan", "--csv").check(2)
    rows = list(csv.DictReader(planned.out.splitlines()))
    shown = contested.call("show", rows[0]["run"], "--markdown").check(0)

    assert [(row["order_id"], row["action"], row["after"], row["after_title"]) for row in rows] == [
        ("6", "add", "type 2: 77", "Desks"),
        ("2", "held", "", ""),
    ]
    assert f"syncd apply {rows[0]['run']}" in planned.err
    assert "| shop | 3 | 6 | table | add |  |  | type 2: 77 | Desks |" in shown.out


def test_given_holds_then_they_come_as_markdown(contested: Shop) -> None:
    lines = contested.call("holds", "--markdown").check(0).out.splitlines()

    assert lines[0].startswith("| link | order\\_id | key | kind |")
    assert "| type 2: 77 | Desks | type 2: 99 |" in lines[2]
