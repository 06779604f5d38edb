"""Joining one segment of the three sources: only what differs somewhere is looked at."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from syncd.core.diff import join_segment
from syncd.core.model import Facts, MaybeOwner, Row, Unreadable
from syncd.core.records import BindingRow
from tests.unit.core.builders import DUPLICATE, INVALID, OWNERS, bindings, facts, rows

IN_STEP = {1: "X", 2: "Y", 3: "o"}
LOCAL = {order: (letter, letter) for order, letter in IN_STEP.items()}


def joined(
    crm: Mapping[int, str],
    table: Mapping[int, str],
    local: Mapping[int, tuple[str, str]],
    unreadable: Mapping[int, Unreadable] | None = None,
    looked_up: Collection[int] = (),
) -> list[tuple[int, Facts, MaybeOwner]]:
    return list(join_segment(rows(crm), rows(table), bindings(local), unreadable or {}, looked_up))


def test_given_that_all_sources_agree_then_nothing_is_looked_at() -> None:
    assert joined(IN_STEP, IN_STEP, LOCAL) == []


def test_given_three_empty_sources_then_nothing_is_looked_at() -> None:
    assert joined({}, {}, {}) == []


@pytest.mark.parametrize(
    ("crm", "table", "local", "order_facts", "listed"),
    [
        ({2: "Z"}, {}, {}, "ZYY", "Y"),
        ({2: "-"}, {}, {}, "-YY", "Y"),
        ({}, {2: "Z"}, {}, "YZY", "Y"),
        ({}, {2: "-"}, {}, "Y-Y", "Y"),
        ({}, {}, {2: ("Y", "Z")}, "YYZ", "Y"),
        ({}, {}, {2: ("Y", "-")}, "YY-", "Y"),
        ({}, {}, {2: ("Z", "Y")}, "YYY", "Z"),
        ({}, {}, {2: ("-", "Y")}, "YYY", "-"),
        ({}, {}, {2: ("-", "-")}, "YY-", "-"),
        ({2: "-"}, {2: "-"}, {}, "--Y", "Y"),
        ({2: "-"}, {2: "-"}, {2: ("Y", "-")}, "---", "Y"),
        ({2: "-"}, {}, {2: ("-", "-")}, "-Y-", "-"),
        ({}, {2: "-"}, {2: ("Y", "-")}, "Y--", "Y"),
    ],
)
def test_given_that_one_order_differs_somewhere_then_it_alone_is_looked_at(
    crm: dict[int, Any], table: dict[int, Any], local: dict[int, Any], order_facts: str, listed: str
) -> None:
    assert joined({**IN_STEP, **crm}, {**IN_STEP, **table}, {**LOCAL, **local}) == [
        (2, facts(order_facts), OWNERS[listed])
    ]


def test_given_orders_known_to_one_source_only_then_they_come_in_ascending_order() -> None:
    assert [order for order, _facts, _listed in joined({30: "X"}, {4: "X"}, {100: ("-", "X"), 2: ("X", "-")})] == [
        2, 4, 30, 100,
    ]  # fmt: skip


def test_given_unreadable_rows_then_the_order_is_looked_at_though_all_else_agrees() -> None:
    assert joined({1: "X"}, {}, {1: ("X", "X")}, {1: INVALID}) == [(1, facts("X-X", INVALID), OWNERS["X"])]
    assert joined({}, {}, {}, {5: DUPLICATE}) == [(5, facts("---", DUPLICATE), None)]
    assert joined(IN_STEP, IN_STEP, LOCAL, {9: INVALID}) == [(9, facts("---", INVALID), None)]


def test_given_orders_to_look_up_then_they_are_looked_at_though_all_sources_agree() -> None:
    assert joined(IN_STEP, IN_STEP, LOCAL, looked_up=[2, 7]) == [
        (2, facts("YYY"), OWNERS["Y"]),
        (7, facts("---"), None),
    ]
    assert joined({}, {}, {}, looked_up=[7]) == [(7, facts("---"), None)]


def test_given_the_same_owner_id_of_another_type_then_the_values_differ() -> None:
    assert joined({1: "X"}, {1: "Z"}, {1: ("X", "X")}) == [(1, facts("XZX"), OWNERS["X"])]


@pytest.mark.parametrize("half", [(2, None), (None, 11)], ids=["type", "id"])
def test_given_half_an_owner_in_the_local_database_then_it_says_nothing(half: tuple[int | None, int | None]) -> None:
    bound = [Row(1, 2, 11)]
    nothing = (None, None)

    assert list(join_segment([], [], [BindingRow(1, *half, *nothing), BindingRow(2, *nothing, *half)], {})) == []
    assert list(join_segment(bound, bound, [BindingRow(1, *half, 2, 11)], {})) == [(1, facts("XXX"), None)]
    assert list(join_segment(bound, bound, [BindingRow(1, 2, 11, *half)], {})) == [(1, facts("XX-"), OWNERS["X"])]
