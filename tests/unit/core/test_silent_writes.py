"""What became of a write nobody answered: total over everything an order can show."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.model import Owner
from syncd.core.silent_writes import NOT_A_BINDING, Fate, Reading, SilentWrite, fates

OLD, NEW, OTHER = Owner(2, 10), Owner(2, 20), Owner(2, 30)
SHOWN: list[Reading] = [OLD, NEW, OTHER, None, NOT_A_BINDING]
WRITES = st.builds(
    SilentWrite,
    st.sampled_from([OLD, None]),
    st.sampled_from([NEW, OTHER]),
    st.sampled_from(SHOWN),
    st.sampled_from(SHOWN),
    st.booleans(),
)


def fate(found: Reading, *, earlier: Reading = OLD, dead: bool = True, next_found: Reading = OLD) -> Fate:
    """The fate of the first of two writes of one request."""
    one, other = SilentWrite(OLD, NEW, found, earlier), SilentWrite(OLD, NEW, next_found, OLD)
    return fates([one, other], dead=dead, together=False)[0]


@pytest.mark.parametrize(("dead", "next_found"), [*product([True, False], SHOWN)])
def test_given_its_value_in_place_then_it_arrived_whatever_else_is_known(dead: bool, next_found: Reading) -> None:
    assert fate(NEW, dead=dead, next_found=next_found) is Fate.ARRIVED


@pytest.mark.parametrize("earlier", [OTHER, None])
def test_given_its_value_in_place_of_what_somebody_wrote_meanwhile_then_it_overwrote(earlier: Reading) -> None:
    assert fate(NEW, earlier=earlier) is Fate.OVERWROTE


def test_given_its_value_in_place_of_unreadable_rows_then_it_arrived() -> None:
    assert fate(NEW, earlier=NOT_A_BINDING) is Fate.ARRIVED


@pytest.mark.parametrize("dead", [True, False])
def test_given_the_old_owner_and_a_later_write_of_the_request_in_place_then_it_was_passed_over(dead: bool) -> None:
    assert fate(OLD, dead=dead, next_found=NEW) is Fate.PASSED_OVER


def test_given_the_old_owner_and_an_earlier_write_of_the_request_in_place_then_nothing_follows_from_that() -> None:
    request = [SilentWrite(OLD, NEW, NEW, OLD), SilentWrite(OLD, NEW, OLD, OLD)]
    assert fates(request, dead=True, together=False) == [Fate.ARRIVED, Fate.UNSEEN]
    assert fates(request, dead=False, together=False) == [Fate.ARRIVED, Fate.PERHAPS_ALIVE]


def test_given_a_transaction_then_any_of_its_writes_in_place_proves_all_of_them() -> None:
    request = [SilentWrite(OLD, NEW, NEW, OLD), SilentWrite(OLD, NEW, OLD, OLD)]
    assert fates(request, dead=True, together=True) == [Fate.ARRIVED, Fate.PASSED_OVER]


def test_given_a_later_write_that_is_known_to_have_arrived_then_what_it_shows_now_does_not_matter() -> None:
    request = [SilentWrite(OLD, NEW, OLD, OLD), SilentWrite(OLD, NEW, OTHER, OLD, arrived=True)]
    assert fates(request, dead=False, together=False)[0] is Fate.PASSED_OVER


def test_given_the_old_owner_and_a_request_that_is_over_then_it_may_be_sent_again() -> None:
    assert fate(OLD) is Fate.UNSEEN


@pytest.mark.parametrize("found", [OLD, OTHER, None, NOT_A_BINDING])
def test_given_a_request_that_may_be_alive_then_it_is_waited_for(found: Reading) -> None:
    assert fate(found, dead=False) is Fate.PERHAPS_ALIVE


@pytest.mark.parametrize("found", [OTHER, None, NOT_A_BINDING])
def test_given_something_else_and_a_request_that_is_over_then_nobody_can_tell(found: Reading) -> None:
    assert fate(found) is Fate.UNCERTAIN
    assert fate(found, dead=False, next_found=NEW) is Fate.UNCERTAIN


@pytest.mark.parametrize("earlier", [OTHER, None, NOT_A_BINDING])
def test_given_the_old_owner_after_something_else_then_somebody_put_it_there_and_it_is_not_sent_again(
    earlier: Reading,
) -> None:
    assert fate(OLD, earlier=earlier) is Fate.UNCERTAIN


@pytest.mark.parametrize("found", [OLD, OTHER, None, NOT_A_BINDING])
def test_given_a_value_that_was_in_place_before_then_what_is_there_now_came_after_it(found: Reading) -> None:
    assert fate(found, earlier=NEW) is Fate.ARRIVED


def test_given_a_later_write_that_was_in_place_before_then_the_turn_of_this_one_has_come() -> None:
    request = [SilentWrite(OLD, NEW, OLD, OLD), SilentWrite(OLD, NEW, OTHER, NEW)]
    assert fates(request, dead=False, together=False)[0] is Fate.PASSED_OVER


@given(st.lists(WRITES, max_size=5), st.booleans(), st.booleans())
def test_every_combination_has_one_fate_and_only_an_untouched_order_may_be_sent_again(
    request: list[SilentWrite], dead: bool, together: bool
) -> None:
    found = fates(request, dead=dead, together=together)

    assert len(found) == len(request)
    for place, (one, its) in enumerate(zip(request, found, strict=True)):
        in_place = one.after in {one.found, one.earlier}
        assert (its in {Fate.ARRIVED, Fate.OVERWROTE}) == in_place
        neighbours = request if together else request[place + 1 :]
        if its is Fate.UNSEEN:
            assert dead
            assert one.found == one.before == one.earlier
            assert not any(other.arrived or other.after in {other.found, other.earlier} for other in neighbours)
        assert its is not Fate.PERHAPS_ALIVE or not dead


@given(st.lists(WRITES, max_size=5), st.booleans())
def test_waiting_never_changes_what_was_already_told(request: list[SilentWrite], together: bool) -> None:
    alive = fates(request, dead=False, together=together)
    over = fates(request, dead=True, together=together)
    assert all(now is later for now, later in zip(alive, over, strict=True) if now is not Fate.PERHAPS_ALIVE)
