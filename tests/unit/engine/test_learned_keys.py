"""What is known of the orders' keys: what is asked of the portal and when, what is kept, and what a check finds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from syncd.core.order_keys import CheckedKeys, KeyField, KeyOrders, KeyRow, number_of_former, order_of_former
from syncd.engine import learned_keys
from syncd.engine.learned_keys import LearnedKeys
from syncd.engine.link import hold_lease
from tests.simulation.world import World

pytestmark = pytest.mark.anyio


class Shop:
    """A portal's orders with their keys, as a link under its lease knows them.

    Args:
        keys: The keys of the orders that exist.
    """

    def __init__(self, keys: dict[int, str]) -> None:
        self.keys = keys
        self.asked: list[list[str] | list[int]] = []
        """What the portal was asked for, a request each."""
        self.said: list[tuple[str, int, int | None]] = []
        self.world = World()
        self.known = LearnedKeys(KeyField.NUMBER, self, self.world.store, self.world.clock)
        self.world.options = {"order_keys": self.known, "progress": lambda *news: self.said.append(news)}

    @asynccontextmanager
    async def run(self) -> AsyncIterator[LearnedKeys]:
        """Hold the lease for one run."""
        async with hold_lease(self.world.link()):
            self.asked.clear()
            yield self.known

    async def kept(self) -> list[KeyRow]:
        """Return what is kept of the keys of all orders, and of unknown keys."""
        orders = await self.world.store.order_keys(1, sorted(self.keys))
        return orders + sorted(await self.world.store.unknown_keys(1))

    async def orders_with(self, field: KeyField, keys: Collection[str]) -> dict[str, list[int]]:
        self.asked.append(list(keys))
        return {key: sorted(order for order, its in self.keys.items() if its == key) for key in keys}

    async def keys_of(self, field: KeyField, order_ids: Collection[int]) -> dict[int, str]:
        self.asked.append(list(order_ids))
        return {order: self.keys[order] for order in order_ids if order in self.keys}


@pytest.mark.parametrize("key", ["nobody's", "twice"])
async def test_given_a_key_that_no_order_or_several_have_then_it_is_asked_for_again_with_growing_pauses(
    key: str,
) -> None:
    shop = Shop({5: "twice", 9: "twice"})
    minutes = []
    async with shop.run() as keys:
        for minute in range(130):
            known = await keys.known([key])
            if key not in known.single.keys() | known.shared.keys():
                minutes.append(minute)
                await keys.learn([key])
            await shop.world.clock.sleep(60)

    assert [later - sooner for sooner, later in pairwise(minutes)] == [1, 2, 4, 8, 16, 32, 60]


async def test_given_keys_that_are_known_and_others_then_each_comes_with_what_is_known_of_it_however_long_ago() -> None:
    shop = Shop({5: "A5", 8: "twice", 9: "twice"})
    async with shop.run() as keys:
        await keys.learn(["A5", "twice"])

        assert await keys.known(["twice", "new"]) == KeyOrders({}, {"twice": [8, 9]})
        await shop.world.clock.sleep(7200)
        assert await keys.known(["A5", "new"]) == KeyOrders({"A5": 5}, {})


async def test_given_more_keys_than_fit_one_request_then_all_are_learned_and_it_is_said_how_many_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(learned_keys, "ASKED_AT_ONCE", 2)
    shop = Shop({order: f"A{order}" for order in range(1, 6)})
    async with shop.run() as keys:
        assert (await keys.learn(["A1", "A2"])).single == {"A1": 1, "A2": 2}
        assert shop.said == [], "one request says nothing"
        found = await keys.learn([f"A{order}" for order in range(1, 6)])

    assert found == KeyOrders({f"A{order}": order for order in range(1, 6)}, {})
    assert shop.said == [("keys", 2, 5), ("keys", 4, 5), ("keys", 5, 5)]
    assert [len(one) for one in shop.asked] == [2, 2, 2, 1]


async def test_given_an_order_without_a_key_then_it_is_asked_for_again_with_growing_pauses_and_its_key_for_good() -> (
    None
):
    shop = Shop({5: "", 6: "A6"})
    minutes = []
    async with shop.run() as keys:
        assert await keys.keys_of([5, 6, 7]) == {5: "", 6: "A6"}
        for minute in range(130):
            shop.asked.clear()
            assert await keys.keys_of([5, 6]) == {5: "", 6: "A6"}
            minutes += [minute] * len(shop.asked)
            assert shop.asked in ([], [[5]])
            await shop.world.clock.sleep(60)
        shop.keys[5] = "A5"
        await shop.world.clock.sleep(3600)
        assert await keys.keys_of([5]) == {5: "A5"}
        assert [(one.order_id, one.key, one.misses) for one in await shop.kept()] == [(5, "A5", 0), (6, "A6", 0)]

    assert minutes == [1, 3, 7, 15, 31, 63, 123]


async def test_given_orders_whose_keys_are_still_their_own_when_they_are_checked_then_nothing_is_kept_anew() -> None:
    shop = Shop({5: "A5", 6: "A6"})
    async with shop.run() as keys:
        await keys.learn(["A5", "A6"])
    learned = await shop.kept()
    await shop.world.clock.sleep(60)
    async with shop.run() as keys:
        assert await keys.check([5, 6]) == CheckedKeys()

    assert shop.asked == [["A5", "A6"]]
    assert await shop.kept() == learned


async def test_given_orders_found_by_their_keys_in_this_run_then_a_check_asks_for_the_others_only_and_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = Shop({5: "A5", 6: "A6", 7: "A7"})
    async with shop.run() as keys:
        await keys.learn(["A6"])
        await keys.learn(["A5"])
        await keys.keys_of([7])
        shop.asked.clear()
        for _ in range(2):
            assert await keys.check([7, 6, 5]) == CheckedKeys()
    assert shop.asked == [["A7"], ["A7"]]

    async with shop.run() as keys:
        await keys.check([5, 6])
    assert shop.asked == [["A5", "A6"]], "another run"

    monkeypatch.setattr(learned_keys, "REMEMBERED", 1)
    async with shop.run() as keys:
        await keys.learn(["A5"])
        await keys.learn(["A6"])
        await keys.check([5, 6])
    assert shop.asked == [["A5"], ["A6"], ["A6"]], "more than are remembered"


async def test_given_an_order_that_shows_the_key_of_another_then_both_have_it_and_no_number_stands_for_it() -> None:
    shop = Shop({5: "A5"})
    async with shop.run() as keys:
        unknown = (await keys.learn(["A5", "A9"])).single["A9"]
        shop.keys |= {8: "A5", 9: "A9"}
        await keys.keys_of([8, 9])

        assert unknown < 0
        assert await keys.known(["A5", "A9"]) == KeyOrders({"A9": 9}, {"A5": [5, 8]})


async def test_given_keys_that_no_order_ever_had_then_none_of_their_numbers_says_that_one_had_it() -> None:
    async with Shop({}).run() as keys:
        found = (await keys.learn([f"nobody's {number}" for number in range(50)])).single

    assert len(set(found.values())) == 50
    assert {order_of_former(number) for number in found.values()} == {None}
    assert max(found.values()) < 0


async def test_given_an_unknown_key_when_an_order_gets_it_then_it_is_that_orders_key_and_no_number_stands_for_it() -> (
    None
):
    shop = Shop({5: "A5"})
    async with shop.run() as keys:
        await keys.learn(["A9"])
        shop.keys[9] = "A9"
        assert (await keys.learn(["A9"])).single == {"A9": 9}

        assert await keys.known(["A9"]) == KeyOrders({"A9": 9}, {})


@pytest.mark.parametrize("at_once", [100, 1])
async def test_given_several_shared_and_moved_keys_then_a_check_names_each_however_many_requests_it_takes(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop({order: f"A{order}" for order in range(1, 9)})
    async with shop.run() as keys:
        await keys.learn(list(shop.keys.values()))
        shop.keys |= {11: "A1", 12: "A2", 3: "B3", 4: "B4", 15: "A5", 16: "A6"}
        del shop.keys[5], shop.keys[6]
        await keys.learn(["A1"])  # need not be asked for again; A2 must be
    monkeypatch.setattr(learned_keys, "ASKED_AT_ONCE", at_once)

    async with shop.run() as keys:
        assert await keys.check(range(1, 9)) == CheckedKeys(
            {3: "B3", 4: "B4", 5: "", 6: ""}, {1: ("A1", [1, 11]), 2: ("A2", [2, 12])}
        )


async def test_given_a_deleted_order_then_it_keeps_the_key_it_had_so_that_its_row_can_be_removed() -> None:
    shop = Shop({5: "A5", 6: "A6"})
    async with shop.run() as keys:
        await keys.learn(["A5", "A6"])
    del shop.keys[5]
    async with shop.run() as keys:
        assert await keys.check([5, 6]) == CheckedKeys()
        assert await keys.known(["A5"]) == KeyOrders({"A5": 5}, {})


async def test_given_an_order_with_another_key_then_its_former_key_is_known_for_what_it_is_until_an_order_has_it() -> (
    None
):
    shop = Shop({1: "A1"})
    async with shop.run() as keys:
        await keys.learn(["A1"])
        shop.keys[1] = "B1"
        await keys.learn(["B1"])

        assert await keys.known(["A1"]) == KeyOrders({}, {}), "it is asked for as soon as a row has it"
        assert (await keys.learn(["A1"])).single == {"A1": number_of_former(1)}
        shop.keys[2] = "A1"
        assert (await keys.learn(["A1"])).single == {"A1": 2}
        assert await keys.known(["A1", "B1"]) == KeyOrders({"A1": 2, "B1": 1}, {})
