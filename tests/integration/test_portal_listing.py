"""Listing: few requests, exact under change, healed where a page came short once, given up where it stays wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.core.model import HoldKind, Owner, Row, Scope
from syncd.errors import IncompleteListing
from syncd.portal.window_reader import Window
from syncd.sandbox import Fault, FaultRule, Latencies, PortalLimits, SandboxPortal, SandboxRequest, Version
from tests.fakes.clock import FakeClock
from tests.fakes.portal_client import EVERYTHING, client, listed

pytestmark = pytest.mark.anyio

LIST = "crm.orderentity.list"


def bound(orders: Iterable[int], clock: FakeClock, **options: Any) -> SandboxPortal:
    return SandboxPortal(((order, 2, order + 7) for order in orders), clock=clock, **options)


def orders_of(rows: list[Row]) -> list[int]:
    return [row.order_id for row in rows]


# ------------------------------------------------------------------- requests


async def test_given_nothing_bound_when_listed_then_one_request_proves_it(clock: FakeClock) -> None:
    portal = bound((), clock)
    async with client(portal, clock) as ours:
        assert await listed(ours) == []
        assert (ours.usage().requests, ours.usage().calls) == (1, 2)


async def test_given_less_than_a_page_when_listed_then_one_request_does(clock: FakeClock) -> None:
    portal = bound(range(1, 50), clock)
    async with client(portal, clock) as ours:
        assert len(await listed(ours)) == 49
        assert ours.usage().requests == 1


async def test_given_nothing_known_when_listed_then_the_request_that_all_others_wait_for_counts_once(
    clock: FakeClock,
) -> None:
    counted: list[int] = []
    portal = bound(range(1, 2001), clock)
    portal.before_call(lambda _, params, request: counted.append(request) if params.get("start") == "0" else None)
    async with client(portal, clock) as ours:
        await listed(ours)

    # The second one counts beyond the last row known.
    assert counted.count(1) == 1


async def test_given_a_known_listing_when_nothing_changed_then_one_page_each_and_no_page_more(clock: FakeClock) -> None:
    orders = list(range(3, 3003, 3))
    portal = bound(orders, clock)
    async with client(portal, clock) as ours:
        assert orders_of(await listed(ours, tuple(orders[49::50]))) == orders

    # 20 windows, the open end, the count.
    assert portal.stats.calls[LIST] == 22
    assert portal.stats.requests == 2


async def test_given_100000_dense_rows_when_listed_first_then_41_requests_fit_into_the_burst(clock: FakeClock) -> None:
    portal = bound(range(1, 100_001), clock, limits=PortalLimits.standard())
    async with client(portal, clock) as ours:
        assert orders_of(await listed(ours)) == list(range(1, 100_001))
        assert ours.usage().requests == 41
        assert ours.usage().calls == 2001
        assert ours.usage().throttled_seconds < 2

    assert portal.stats.refused == 0


async def test_given_documented_latencies_when_20000_rows_are_listed_then_time_and_method_time_stay_low(
    clock: FakeClock,
) -> None:
    portal = bound(range(1, 20_001), clock, limits=PortalLimits.standard(), latencies=Latencies.documented())
    async with client(portal, clock) as ours:
        assert len(await listed(ours)) == 20_000
        assert ours.usage().listing_seconds <= 2.2

    assert portal.stats.method_seconds[LIST] <= 16.4
    assert portal.stats.refused == 0


@pytest.mark.parametrize(
    ("orders", "calls"),
    [
        (range(7, 70_000, 7), 260),
        ([*range(1, 5000), 10**9], 140),
        ([*range(1, 5000), *range(10**8, 10**8 + 5000)], 290),
        (sorted(random.Random(7).sample(range(1, 400_000), 8000)), 230),
    ],
    ids=["every seventh", "one far off", "two clusters", "at random"],
)
async def test_given_uneven_ids_when_listed_first_then_it_is_exact_and_calls_stay_near_one_a_page(
    clock: FakeClock, orders: Iterable[int], calls: int
) -> None:
    orders = list(orders)
    portal = bound(orders, clock)
    async with client(portal, clock, plan="box") as ours:
        assert orders_of(await listed(ours)) == orders

    assert portal.stats.calls[LIST] <= calls


async def test_given_thousands_of_new_orders_since_when_listed_then_the_open_end_is_read_in_few_waves(
    clock: FakeClock,
) -> None:
    portal = bound(range(1, 8001), clock, latencies=Latencies(request=1.0))
    async with client(portal, clock) as ours:
        assert len(await listed(ours, tuple(range(50, 2001, 50)))) == 8000
        # Known windows, the first pages of the open end, the rest of it.
        assert ours.usage().listing_seconds <= 5


async def test_given_the_variant_that_answers_everything_when_listed_then_pages_of_more_than_fifty_are_taken(
    clock: FakeClock,
) -> None:
    orders = list(range(1, 3001))
    portal = bound(orders, clock, minus_one_is_everything=True)
    async with client(portal, clock) as ours:
        assert orders_of(await listed(ours)) == orders
        assert orders_of(await listed(ours, (500, 600))) == orders


@pytest.mark.parametrize("version", Version)
async def test_given_any_version_of_the_portal_when_listed_then_it_is_exact(clock: FakeClock, version: Version) -> None:
    orders = list(range(2, 2000, 2))
    portal = bound(orders, clock, version=version, unstable_ties=True)
    async with client(portal, clock) as ours:
        assert orders_of(await listed(ours)) == orders


async def test_given_a_range_that_ends_before_it_begins_when_listed_then_no_request_is_made(clock: FakeClock) -> None:
    async with client(bound(range(1, 9), clock), clock) as ours:
        assert await listed(ours, (), Scope(frozenset({2}), 5, 4)) == []
        assert ours.usage().requests == 0


async def test_given_the_first_binding_made_between_the_first_two_calls_when_listed_then_it_is_found(
    clock: FakeClock,
) -> None:
    portal = bound((), clock)
    calls = iter(range(10))
    portal.before_call(lambda *_: portal.bind(5, 2, 12) if next(calls) == 1 else None)
    async with client(portal, clock) as ours:
        assert orders_of(await listed(ours)) == [5]


async def test_given_a_binding_beyond_the_last_page_when_it_comes_while_listing_then_the_open_end_finds_it(
    clock: FakeClock,
) -> None:
    portal = bound(range(1, 501), clock)
    portal.before_call(lambda *_: portal.bind(600, 2, 607) if portal.stats.requests == 2 else None)
    async with client(portal, clock, plan="box") as ours:
        assert orders_of(await listed(ours)) == [*range(1, 501), 600]


# ----------------------------------------------------------------- exactness

clusters = st.lists(
    st.tuples(st.integers(1, 10**7), st.integers(1, 400), st.sampled_from([1, 1, 2, 7, 100])), min_size=0, max_size=5
)


def expand(shape: list[tuple[int, int, int]]) -> list[int]:
    return sorted({start + step * index for start, number, step in shape for index in range(number)})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(there=clusters, known=clusters, ends=st.tuples(st.integers(1, 10**7), st.integers(1, 10**7)) | st.none())
async def test_given_any_ids_and_any_old_knowledge_when_listed_then_exactly_the_bound_orders_come(
    there: list[tuple[int, int, int]], known: list[tuple[int, int, int]], ends: tuple[int, int] | None
) -> None:
    clock, orders = FakeClock(), expand(there)
    first, last = sorted(ends) if ends else (None, None)
    scope = Scope(frozenset({2}), first, last)
    async with client(bound(orders, clock), clock, plan="box") as ours:
        rows = await listed(ours, tuple(expand(known)[49::50]), scope)

    assert orders_of(rows) == [order for order in orders if scope.holds_order(order)]
    assert all(row.owner_id == row.order_id + 7 for row in rows)


def _churn(portal: SandboxPortal, order: int) -> None:
    portal.unbind(order)
    portal.bind(order + 1, 2, 1)


CHANGES: dict[str, Callable[[SandboxPortal, int], None]] = {
    "delete": lambda portal, order: portal.unbind(order),
    "insert": lambda portal, order: portal.bind(order + 1, 2, 1),
    "churn": _churn,
    "move": lambda portal, order: portal.bind(order, 31, 4),
    "ties": lambda portal, order: portal.bind(order, 2, 4),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("known", [False, True], ids=["first listing", "known listing"])
async def test_given_33_changes_while_listing_then_no_row_that_was_there_throughout_is_missed(
    clock: FakeClock, change: Callable[[SandboxPortal, int], None], known: bool
) -> None:
    before = list(range(2, 10_002, 2))
    portal = bound(before, clock, unstable_ties=True)
    touched = random.Random(5).sample(before, 33)
    waiting = list(touched)
    lists = iter(range(10_000))

    def meanwhile(method: str, *_: object) -> None:
        if method == LIST and next(lists) % 3 == 0 and waiting:
            change(portal, waiting.pop())

    portal.before_call(meanwhile)
    async with client(portal, clock, plan="box") as ours:
        rows = await listed(ours, tuple(before[49::50]) if known else ())

    orders = orders_of(rows)
    assert not waiting
    assert orders == sorted(set(orders))
    assert set(before) - set(touched) <= set(orders)
    assert set(orders) <= set(before) | {order + 1 for order in touched}
    assert portal.stats.requests <= 30


async def test_given_a_total_that_fell_since_the_page_was_read_when_listed_then_a_full_page_is_not_the_last(
    clock: FakeClock,
) -> None:
    portal = bound(range(2, 205, 2), clock)  # 102 rows in one window: page, counted page, two rows

    def interleave(request: httpx.Request) -> httpx.Response:
        answer = _answer(portal, request).json()
        if portal.stats.requests == 2:
            assert answer["result"]["result_total"] == {"w0": 52}
            answer["result"]["result_total"] = {"w0": 50}
        return httpx.Response(200, json=answer)

    async with client(interleave, clock, plan="box") as ours:
        assert orders_of(await listed(ours, (1000,))) == list(range(2, 205, 2))
        assert ours.usage().requests == 3


# --------------------------------------------------------------------- healing


async def test_given_a_page_shorter_than_its_own_total_when_listed_then_it_alone_is_read_again(
    clock: FakeClock,
) -> None:
    portal = bound(range(2, 205, 2), clock)  # 102 rows in one window: page, counted page, two rows
    portal.faults.add(FaultRule(Fault.SHORT, rows=1, skip=3))  # window, open end, count; then the counted page
    async with client(portal, clock, plan="box") as ours:
        assert orders_of(await listed(ours, (1000,))) == list(range(2, 205, 2))
        assert (ours.usage().requests, ours.usage().calls) == (4, 6)


async def test_given_a_last_page_shorter_than_the_total_when_listed_then_it_is_read_again_before_the_rest(
    clock: FakeClock,
) -> None:
    portal = bound(range(1, 2001), clock)
    portal.faults.add(FaultRule(Fault.GAP, call=2))
    async with client(portal, clock) as ours:
        assert orders_of(await listed(ours)) == list(range(1, 2001))
        hurt = ours.usage()
    portal = bound(range(1, 2001), clock)
    async with client(portal, clock) as ours:
        await listed(ours)
        clean = ours.usage()
    assert (hurt.requests, hurt.calls) == (clean.requests + 1, clean.calls + 2)


ONE_OFF = {
    "a page short of its last rows": FaultRule(Fault.SHORT, rows=3, skip=5),
    "a page with a hole": FaultRule(Fault.GAP, rows=2, skip=5),
    "an empty page": FaultRule(Fault.EMPTY, skip=5),
    "the page before once more": FaultRule(Fault.REPEAT, skip=5),
    "a page in another order": FaultRule(Fault.SHUFFLE, skip=5),
    "a key that is forgotten": FaultRule(Fault.LOSE_KEY, method=LIST, skip=5),
    "a command that fails": FaultRule(Fault.ERROR, method=LIST, skip=5),
    "a command with a numeric error": FaultRule(Fault.ERROR, method=LIST, code="0", text="", skip=5),
    "a total one too high": FaultRule(Fault.TOTAL, by=1),
    "a total one too low": FaultRule(Fault.TOTAL, by=-1),
    "a first page that is short": FaultRule(Fault.SHORT, rows=10),
    "a first page that is empty": FaultRule(Fault.EMPTY),
    "a last page with a hole": FaultRule(Fault.GAP, rows=5, skip=1),
    "a last page that is empty": FaultRule(Fault.EMPTY, skip=1),
}


@pytest.mark.parametrize("rule", ONE_OFF.values(), ids=ONE_OFF.keys())
@pytest.mark.parametrize("size", [30, 400, 5000])
@pytest.mark.parametrize("known", [False, True], ids=["first listing", "known listing"])
async def test_given_one_wrong_page_when_listed_then_it_is_healed_before_a_row_is_handed_out(
    clock: FakeClock, rule: FaultRule, size: int, known: bool
) -> None:
    orders = list(range(2, 2 * size + 1, 2))
    portal = bound(orders, clock)
    portal.faults.add(rule if size > 50 else replace(rule, skip=min(rule.skip, 1)))  # a single page takes few calls
    async with client(portal, clock, plan="box") as ours:
        rows = await listed(ours, tuple(orders[49::50]) if known else ())

    assert orders_of(rows) == orders
    assert portal.faults._fired == [1]


PERSISTENT = {
    "pages short of a row": FaultRule(Fault.SHORT, times=None),
    "pages with a hole": FaultRule(Fault.GAP, times=None),
    "empty pages": FaultRule(Fault.EMPTY, times=None),
    "pages in another order": FaultRule(Fault.SHUFFLE, times=None),
    "forgotten keys": FaultRule(Fault.LOSE_KEY, method=LIST, times=None),
    "failing commands": FaultRule(Fault.ERROR, method=LIST, times=None),
}


@pytest.mark.parametrize("rule", PERSISTENT.values(), ids=PERSISTENT.keys())
@pytest.mark.parametrize("known", [False, True], ids=["first listing", "known listing"])
async def test_given_pages_that_stay_wrong_when_listed_then_it_ends_without_a_row(
    clock: FakeClock, rule: FaultRule, known: bool
) -> None:
    orders = list(range(1, 1001))
    portal = bound(orders, clock)
    portal.faults.add(rule)
    rows: list[Row] = []

    async def consume() -> None:
        async for chunk in ours.listing(known_orders, Scope(frozenset({2})), lambda *_: None):
            rows.extend(chunk.rows)

    known_orders = tuple(orders[49::50]) if known else ()
    async with client(portal, clock) as ours:
        with pytest.raises(IncompleteListing) as caught:
            await consume()

    assert rows == []
    assert "Nothing was written" in caught.value.message


async def test_given_a_window_that_always_comes_short_when_listed_then_the_error_gives_the_numbers(
    clock: FakeClock,
) -> None:
    portal = bound(range(1, 1001), clock)

    def hide(request: httpx.Request) -> httpx.Response:
        response = portal.handle(_request(request))
        # Order 333 is in the count, and on no page.
        body = response.body.replace(b'{"orderId":333,"ownerId":340,"ownerTypeId":2},', b"")
        return httpx.Response(response.status, headers=list(response.headers), content=body)

    async with client(hide, clock) as ours:
        with pytest.raises(
            IncompleteListing,
            match=r"orders 301 to 350 could not be listed in 4 tries: 49 rows where the portal counts 50",
        ):
            await listed(ours, tuple(range(50, 1001, 50)))


async def test_given_no_totals_when_listed_then_completeness_cannot_be_proved(clock: FakeClock) -> None:
    portal = bound(range(1, 200), clock)

    def forget(request: httpx.Request) -> httpx.Response:
        answer = _answer(portal, request).json()
        answer["result"]["result_total"] = []
        return httpx.Response(200, json=answer)

    async with client(forget, clock) as ours:
        for known in ((), (50, 100)):
            with pytest.raises(IncompleteListing, match="no total"):
                await listed(ours, known)


async def test_given_windows_that_do_not_meet_when_listed_then_it_ends(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.portal.listing.windows_between", lambda *_: [Window(0, 50), Window(60, 1000)])
    async with client(bound(range(1, 200), clock), clock) as ours:
        with pytest.raises(IncompleteListing, match="hole after order 50"):
            await listed(ours, (50,))


async def test_given_a_portal_that_ignores_filters_when_listed_then_it_is_not_taken_for_a_listing(
    clock: FakeClock,
) -> None:
    portal = bound(range(1, 1001), clock)

    def forget(request: httpx.Request) -> httpx.Response:
        request = httpx.Request("POST", request.url, content=request.content.replace(b"filter", b"fitter"))
        return _answer(portal, request)

    async with client(forget, clock) as ours:
        with pytest.raises(IncompleteListing, match="ignored the filter"):
            await listed(ours, (500,))


async def test_given_numbers_as_strings_when_listed_then_they_are_numbers(clock: FakeClock) -> None:
    portal = bound(range(1, 200), clock)

    def quote(request: httpx.Request) -> httpx.Response:
        response = _answer(portal, request)
        body = response.content.replace(b'"orderId":', b'"orderId":"').replace(b',"ownerId":', b'","ownerId":')
        return httpx.Response(200, content=body)

    async with client(quote, clock) as ours:
        assert orders_of(await listed(ours)) == list(range(1, 200))


async def test_given_a_full_temporary_directory_when_listed_then_the_sentence_says_so(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    async with client(bound(range(1, 200), clock), clock) as ours:
        with pytest.raises(Exception, match="temporary file: No space left on device"):
            await listed(ours)


def _request(request: httpx.Request) -> SandboxRequest:
    return SandboxRequest(
        request.method, request.url.path, "", {"content-type": "application/json"}, request.content, secure=True
    )


def _answer(portal: SandboxPortal, request: httpx.Request) -> httpx.Response:
    response = portal.handle(_request(request))
    return httpx.Response(response.status, headers=list(response.headers), content=response.body)


# --------------------------------------------------- bindings that keep coming


@pytest.mark.parametrize("where", ["at the end", "anywhere", "moved and unbound as well"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
async def test_given_bindings_that_keep_coming_when_listed_then_the_listing_is_complete_all_the_same(
    clock: FakeClock, where: str, *, known: bool
) -> None:
    orders = list(range(4, 12_004, 4))
    portal = bound(orders, clock)
    chance = random.Random(3)
    lasting, fresh = set(orders), iter(range(20_000, 10**6))

    def come(method: str, *_: object) -> None:
        if method != LIST or chance.random() < 0.5:
            return
        order = next(fresh) if where == "at the end" else chance.randrange(1, 12_000)
        if where == "moved and unbound as well" and chance.random() < 0.5:
            portal.unbind(order)
            lasting.discard(order)
        else:
            portal.bind(order, 2, 9)

    portal.before_call(come)
    async with client(portal, clock) as ours:
        rows = orders_of(await listed(ours, tuple(orders[49::50]) if known else ()))
        requests = ours.usage().requests

    assert rows == sorted(set(rows))
    assert lasting <= set(rows)
    assert requests < 25


async def test_given_a_row_without_an_owner_when_listing_then_that_order_comes_apart_and_all_others_as_ever(
    clock: FakeClock,
) -> None:
    orders = list(range(1, 400))
    portal = bound(orders, clock)
    for odd in (1, 50, 200, 399):
        portal.bind(odd, 2 if odd < 100 else 0, 0)
    async with client(portal, clock) as ours:
        chunks = [chunk async for chunk in ours.listing((50, 100, 150), EVERYTHING, lambda *_: None)]

    rows = [row for chunk in chunks for row in chunk.rows]
    assert [row.order_id for row in rows] == [order for order in orders if order not in {1, 50, 200, 399}]
    unreadable = {order: why.kind for chunk in chunks for order, why in chunk.unreadable.items()}
    assert unreadable == dict.fromkeys((1, 50, 200, 399), HoldKind.INVALID_ROW)


async def test_given_many_rows_and_some_without_an_owner_when_listing_then_each_comes_with_the_chunk_of_its_range(
    clock: FakeClock,
) -> None:
    portal = bound(range(1, 5001), clock)
    for odd in (7, 2500, 5000):
        portal.bind(odd, 2, 0)
    reached, seen = 0, []
    async with client(portal, clock) as ours:
        async for chunk in ours.listing((), EVERYTHING, lambda *_: None):
            last = chunk.rows[-1].order_id if chunk.rows else 5000
            seen += [(order, reached < order) for order in chunk.unreadable]
            reached = last

    assert seen == [(7, True), (2500, True), (5000, True)]


@pytest.mark.parametrize("nobodys", [0, -3])
@pytest.mark.parametrize("rows", [20, 130])
async def test_given_a_row_whose_order_id_is_none_then_it_is_in_no_window_and_everything_else_is_listed(
    clock: FakeClock, nobodys: int, rows: int
) -> None:
    portal = bound([nobodys, *range(1, rows)], clock)
    async with client(portal, clock) as ours:
        assert orders_of(await listed(ours)) == list(range(1, rows))
        assert orders_of(await listed(ours, (7, 50, 100))) == list(range(1, rows))
        assert await ours.read([1, rows]) == {1: Owner(2, 8)}
        rights = await ours.probe()
        assert (rights.read, rights.detail) == (True, ())
