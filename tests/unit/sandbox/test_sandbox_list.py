"""The sandbox's `list` methods: filters, casts, order, pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.sandbox import SandboxPortal, Version
from tests.fakes.clock import SetClock
from tests.unit.sandbox.sandbox_calls import add, ask, delete, listed

ROWS = {5: (2, 10), 7: (2, 10), 9: (31, 3)}


@pytest.fixture
def portal() -> SandboxPortal:
    return SandboxPortal(ROWS, orders=range(1, 1000), clock=SetClock())


@pytest.mark.parametrize(
    ("key", "orders"),
    [
        ("orderId", [7]), ("OrderId", [7]), ("orderID", [7]), ("order_id", [7]), ("=orderId", [7]), ("%orderId", [7]),
        ("=%orderId", [7]), ("%=orderId", [7]), ("@orderId", [7]), ("!orderId", [9, 5]), ("!=orderId", [9, 5]),
        ("!@orderId", [9, 5]), ("!%orderId", [9, 5]), ("!=%orderId", [9, 5]), ("!%=orderId", [9, 5]),
        (">orderId", [9]), (">=orderId", [9, 7]), ("<orderId", [5]), ("<=orderId", [5, 7]),
        ("ORDER_ID", [9, 5, 7]), ("orderid", [9, 5, 7]), ("ID", [9, 5, 7]), (">OrderId", [9, 5, 7]),
        ("?orderId", [9, 5, 7]), ("*orderId", [9, 5, 7]), ("*=orderId", [9, 5, 7]), ("*%orderId", [9, 5, 7]),
        ("><orderId", [9, 5, 7]), ("!><orderId", [9, 5, 7]), ("==orderId", [9, 5, 7]), ("!==orderId", [9, 5, 7]),
        ("LOGIC", [9, 5, 7]), ("0", [9, 5, 7]), ("", [9, 5, 7]),
    ],
)  # fmt: skip
def test_each_filter_key_does_what_the_portal_makes_of_it(portal: SandboxPortal, key: str, orders: list[int]) -> None:
    assert listed(portal, filter={key: 7}).orders == orders


@pytest.mark.parametrize("key", ["+orderId", "!+orderId", "!>orderId"])
def test_a_prefix_only_the_first_parser_knows_is_refused(portal: SandboxPortal, key: str) -> None:
    status, code, text = listed(portal, filter={key: 7}).error
    assert (status, code) == (400, "100")
    assert text.startswith("Unknown field definition")


@pytest.mark.parametrize(
    ("value", "orders"),
    [(7, [7]), ("7", [7]), ("7abc", [7]), (7.9, [7]), ("5,7", [5]), ([5, 7], [5, 7]), ({"a": "7"}, [7]), (0, []), ("", []),
     (None, []), ("abc", []), (True, []), ([[5]], []), ([0, -5], [])],
)  # fmt: skip
def test_values_are_cast_to_integers(portal: SandboxPortal, value: Any, orders: list[int]) -> None:
    assert listed(portal, filter={"orderId": value}).orders == orders


def test_what_is_normalised_to_nothing_means_one(portal: SandboxPortal) -> None:
    portal.bind(1, 2, 99)
    for value in ([], [0], ["x"]):
        assert listed(portal, filter={"@orderId": value}).orders == [1]
    assert 1 not in listed(portal, filter={"!@orderId": []}).orders


def test_not_zero_is_everything(portal: SandboxPortal) -> None:
    assert listed(portal, filter={"!orderId": 0}).orders == [9, 5, 7]


def test_an_old_box_takes_any_array_for_one_or_zero() -> None:
    portal = SandboxPortal({**ROWS, 1: (2, 1)}, version=Version.OLD)
    assert listed(portal, filter={"@orderId": [5, 7]}).orders == [1]
    assert listed(portal, filter={">orderId": []}, order={"orderId": "asc"}).orders == [1, 5, 7, 9]


def test_several_conditions_are_anded(portal: SandboxPortal) -> None:
    assert listed(portal, filter={">orderId": 5, "<=orderId": 9, "ownerTypeId": 2}).orders == [7]
    assert listed(portal, filter={"orderId": 7, "@orderId": [5, 9]}).orders == []
    assert listed(portal, filter={"@orderId": [5, 7], ">orderId": 5}).orders == [7]


def test_orders_combine_and_unknown_ones_are_dropped(portal: SandboxPortal) -> None:
    assert listed(portal, order={"ownerId": "desc", "orderId": "DESC"}).orders == [7, 5, 9]
    assert listed(portal, order={"orderId": "desc"}).orders == [9, 7, 5]
    assert listed(portal, order={"ID": "asc"}).orders == [9, 5, 7]
    assert listed(portal, order=["orderId"]).orders == [9, 5, 7]
    assert listed(portal, order={"ownerTypeId": "desc", "orderId": "asc"}).orders == [9, 5, 7]


@pytest.mark.parametrize(
    ("params", "code"),
    [({"order": {"orderId": []}}, "0"), ({"order": "x"}, "100"), ({"filter": "x"}, "100"), ({"select": 5}, "100"),
     ({"order": {"orderId": None}}, "100")],
)  # fmt: skip
def test_wrong_kinds_are_refused(portal: SandboxPortal, params: Any, code: str) -> None:
    assert ask(portal, "crm.orderentity.list", params).error[:2] == (400, code)


def test_the_refusal_names_the_value_and_the_parameter(portal: SandboxPortal) -> None:
    assert listed(portal, select="orderId").error[2] == (
        "Invalid value {orderId} to match with parameter {select}. Should be value of type array."
    )


def test_a_null_argument_is_none(portal: SandboxPortal) -> None:
    assert listed(portal, filter=None, select=None, order=None).orders == [9, 5, 7]


def test_selected_fields_come_in_natural_order(portal: SandboxPortal) -> None:
    row = listed(portal, select=["ownerTypeId", "order_id"], filter={"orderId": 5}).result["orderEntity"][0]
    assert list(row.items()) == [("orderId", 5), ("ownerTypeId", 2)]
    assert len(listed(portal, select=["orderId", "*"]).result["orderEntity"][0]) == 3
    assert len(listed(portal, select=[["orderId"], 5]).result["orderEntity"][0]) == 3


@pytest.mark.parametrize(
    ("start", "first", "total", "following"),
    [(0, 1, 120, 50), (None, 1, 120, 50), ("", 1, 120, 50), (-2, 1, 120, 50), (49, 1, 120, 50), (50, 51, 120, 100),
     (75, 51, 120, 100), ("99", 51, 120, 100), (100, 101, 120, None), (150, None, 150, None), (-1, 1, None, None)],
)  # fmt: skip
def test_paging_rounds_down_and_counts_only_full_pages(
    start: Any, first: int | None, total: int, following: int | None
) -> None:
    portal = SandboxPortal((order, 2, 7) for order in range(1, 121))
    reply = listed(portal, start=start, order={"orderId": "asc"})
    assert next(iter(reply.orders), None) == first
    assert reply.body.get("total") == total
    assert reply.body.get("next") == following
    assert len(reply.orders) == (0 if first is None else 20 if first == 101 else 50)


def test_a_last_page_of_exactly_fifty_is_counted_and_has_no_next() -> None:
    portal = SandboxPortal((order, 2, 7) for order in range(1, 101))
    reply = listed(portal, start=50)
    assert (reply.body["total"], "next" in reply.body) == (100, False)


def test_minus_one_may_mean_everything_where_the_documentation_is_believed() -> None:
    portal = SandboxPortal(((order, 2, 7) for order in range(1, 121)), minus_one_is_everything=True)
    assert len(listed(portal, start=-1).orders) == 120
    assert len(listed(portal, start=0).orders) == 50


def test_rows_of_one_owner_may_change_places_between_queries() -> None:
    portal = SandboxPortal(((order, 2, 7) for order in range(1, 61)), unstable_ties=True)
    first, second = listed(portal, start=0).orders, listed(portal, start=0).orders
    assert first != second
    ordered = [listed(portal, start=0, order={"orderId": "asc"}).orders for _ in range(2)]
    assert ordered == [list(range(1, 51))] * 2


def test_an_answer_does_not_change_with_later_writes(portal: SandboxPortal) -> None:
    seen = listed(portal, order={"orderId": "asc"}).orders
    add(portal, orderId=6, ownerId=1, ownerTypeId=2)
    delete(portal, orderId=7, ownerId=10, ownerTypeId=2)
    assert (seen, listed(portal, order={"orderId": "asc"}).orders) == ([5, 7, 9], [5, 6, 9])
    assert listed(portal).orders == [6, 9, 5]


def test_many_different_scans_in_turn_stay_right(portal: SandboxPortal) -> None:
    for _ in range(2):
        found = [listed(portal, filter={"ownerId": owner}).orders for owner in range(1, 12)]
        assert found == [[], [], [9], [], [], [], [], [], [], [5, 7], []]


OPS: dict[str, Callable[[int, list[int]], bool]] = {
    "": lambda value, wanted: value in wanted,
    "=": lambda value, wanted: value in wanted,
    "@": lambda value, wanted: value in wanted,
    "%": lambda value, wanted: value in wanted,
    "!": lambda value, wanted: value not in wanted,
    "!@": lambda value, wanted: value not in wanted,
    ">": lambda value, wanted: value > min(wanted),
    ">=": lambda value, wanted: value >= min(wanted),
    "<": lambda value, wanted: value < min(wanted),
    "<=": lambda value, wanted: value <= min(wanted),
    "?": lambda *_: True,
}
COLUMN = {"orderId": 0, "ownerTypeId": 1, "ownerId": 2}
IDS = st.integers(1, 40)
TABLES = st.dictionaries(IDS, st.tuples(st.integers(1, 3), st.integers(1, 6)), max_size=30)
FILTERS = st.dictionaries(
    st.tuples(st.sampled_from(sorted(OPS)), st.sampled_from(["orderId", "orderId", "ownerId", "ownerTypeId"])).map(
        "".join
    ),
    st.one_of(IDS, st.lists(IDS, min_size=1, max_size=4)),
    max_size=3,
)
ORDERINGS = st.sampled_from([{}, {"orderId": "asc"}, {"orderId": "desc"}, {"ownerId": "desc", "orderId": "desc"}])
WRITES = st.lists(st.tuples(IDS, st.one_of(st.none(), st.tuples(st.integers(1, 3), st.integers(1, 6)))), max_size=6)


def model(rows: dict[int, tuple[int, int]], asked: dict[str, Any], order: dict[str, str]) -> list[int]:
    """The naive reading of section 4: walk every row, then sort."""
    triples = [(order_id, *owner) for order_id, owner in rows.items()]
    for key, value in asked.items():
        name = key.lstrip("!=@%<>?")
        test, wanted = OPS[key.removesuffix(name)], value if isinstance(value, list) else [value]
        triples = [triple for triple in triples if test(triple[COLUMN[name]], wanted)]
    triples.sort()
    for name, direction in reversed(list((order or {"ownerId": "asc"}).items())):
        triples.sort(key=lambda triple: triple[COLUMN[name]], reverse=direction == "desc")
    return [triple[0] for triple in triples]


@given(TABLES, WRITES, FILTERS, ORDERINGS)
def test_every_list_agrees_with_a_naive_model_before_and_after_writes(
    rows: dict[int, tuple[int, int]], writes: list[tuple[int, Any]], asked: dict[str, Any], order: dict[str, str]
) -> None:
    portal = SandboxPortal(rows, clock=SetClock())
    rows = dict(rows)
    for write in [None, *writes]:
        if write is not None:
            order_id, owner = write
            if owner is None:
                portal.unbind(order_id)
                rows.pop(order_id, None)
            else:
                portal.bind(order_id, *owner)
                rows[order_id] = owner
        reply = listed(portal, filter=asked, order=order)
        assert reply.orders == model(rows, asked, order)
        assert reply.body["total"] == len(reply.orders)
        assert portal.bindings == rows


@given(st.sets(st.integers(1, 400), max_size=200), st.integers(0, 420), st.integers(0, 420), st.booleans())
def test_windows_page_and_count_like_a_naive_model(ids: set[int], low: int, high: int, descending: bool) -> None:
    portal = SandboxPortal(((order, 2, order % 7 + 1) for order in ids), clock=SetClock())
    inside = sorted((order for order in ids if low < order <= high), reverse=descending)
    asked = {"filter": {">orderId": low, "<=orderId": high}, "order": {"orderId": "desc" if descending else "asc"}}
    for start in (0, 50, 100):
        reply = listed(portal, start=start, **asked)
        page = inside[start : start + 50]
        assert reply.orders == page
        assert reply.body["total"] == (len(inside) if len(page) == 50 else start + len(page))
