"""`syncd check`: what it finds, and that it writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.obs.clock import SystemClock
from tests.system.shop import Shop, open_shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path, {1: 11, 2: 12, 3: 13}, orders=range(1, 100)) as made:
        made.create_table([(1, 11), (2, 12), (3, 13)])
        yield made


@pytest.fixture
def synced(shop: Shop) -> Shop:
    shop.call("reconcile").check(0)
    return shop


def test_given_all_is_well_then_check_says_so_and_makes_no_state_database(shop: Shop) -> None:
    ran = shop.call("check").check(0)

    assert "All is well." in ran.out
    assert not (shop.directory / "syncd.db").exists()
    assert "upgraded" not in ran.err
    assert shop.portal.stats.writes == []


def test_given_no_right_to_write_then_check_finds_out_without_writing(shop: Shop) -> None:
    shop.portal.sale_right = "R"

    ran = shop.call("check", "--json").check(77)

    (problem,) = [one for one in ran.json if not one["ok"]]
    assert "write" in problem["text"]
    assert problem["hint"]
    assert shop.portal.stats.writes == []


def test_given_columns_that_are_not_there_then_each_problem_has_its_hint_and_a_person_reads_it_once(shop: Shop) -> None:
    shop.sql("ALTER TABLE bindings RENAME COLUMN order_id TO order_no")
    shop.sql("ALTER TABLE bindings RENAME COLUMN deal_id TO deal_no")

    problems = [one for one in shop.call("check", "--json").check(78).json if not one["ok"]]

    assert len(problems) == 2
    assert all(problem["hint"] for problem in problems)
    assert shop.call("check").check(78).out.count("Hint:") == 1


def test_given_owners_that_cannot_be_seen_then_check_says_what_to_do(shop: Shop) -> None:
    shop.portal.owners_visible = False

    ran = shop.call("check").check(77)

    assert "verify_owners = false" in ran.out


class Ahead:
    """The clock of a portal in another century."""

    def __init__(self) -> None:
        self._clock = SystemClock()

    def now(self) -> float:
        return self._clock.now() + 7200

    def __getattr__(self, name: str) -> object:
        return getattr(self._clock, name)


def test_given_a_clock_that_is_wrong_then_check_says_by_how_much(tmp_path: Path) -> None:
    with open_shop(tmp_path, {1: 11}, clock=Ahead()) as shop:
        shop.create_table([(1, 11)])

        ran = shop.call("check").check(78)

    assert "behind the portal's" in ran.out


def test_given_a_link_that_points_elsewhere_then_check_names_what_changed(synced: Shop) -> None:
    synced.settings["owner_types"] = "[2, 31]"

    ran = synced.call("check").check(4)

    assert "owner_types" in ran.out
    assert "syncd rebase shop" in ran.out
