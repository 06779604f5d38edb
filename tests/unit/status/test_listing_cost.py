"""What the passes of a link cost the portal, and what to set where that is too much."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.config.model import LinkSettings
from syncd.status.fire_times import LISTING_SHARE, ListingCost, cost_sentence, listing_cost
from tests.fakes.settings import settings

NOON = 1_800_000_000.0
HALF = LISTING_SHARE * 480


def cost(orders: int, **link: Any) -> tuple[ListingCost, LinkSettings]:
    of = settings(**link).links["shop"]
    return listing_cost("shop", of, orders, "UTC", NOON), of


def test_given_a_small_link_then_its_cost_is_told_and_nothing_needs_to_be_set() -> None:
    reckoned, of = cost(50_000)
    assert (reckoned.requests, round(reckoned.whole), round(reckoned.in_period)) == (21, 39, 78)
    assert not reckoned.is_too_much
    assert "78 s of the 480 s" in cost_sentence(reckoned, of)
    assert "set" not in cost_sentence(reckoned, of)


@pytest.mark.parametrize("orders", [160_000, 300_000, 1_000_000])
@pytest.mark.parametrize("recent", [None, {"orders": 2000, "every": "20s"}])
def test_given_a_schedule_that_takes_too_much_then_the_slices_that_are_told_are_the_fewest_that_do(
    orders: int, recent: dict[str, Any] | None
) -> None:
    reckoned, of = cost(orders, recent=recent)
    assert reckoned.is_too_much
    assert reckoned.slices is not None
    assert f"set slices = {reckoned.slices}" in cost_sentence(reckoned, of)
    assert cost(orders, recent=recent, slices=reckoned.slices)[0].in_period <= HALF
    assert cost(orders, recent=recent, slices=reckoned.slices - 1)[0].in_period > HALF


def test_given_passes_over_the_newest_that_take_too_much_alone_then_no_slices_help() -> None:
    reckoned, of = cost(300_000, slices=12, recent={"orders": 10_000, "every": "10s"})
    assert reckoned.slices is None
    assert "longer recent.every" in cost_sentence(reckoned, of)


def test_given_300_000_bindings_in_12_slices_with_the_newest_every_20_s_then_it_is_well_below_half() -> None:
    assert cost(300_000, slices=12, recent={"orders": 2000, "every": "20s"})[0].in_period < 100
