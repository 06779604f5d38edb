"""Values to columns and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.model import Counts, Side, SideCounts
from syncd.core.records import GuardHit
from syncd.state import rows
from syncd.state.schema import binding, change, hold

COUNT = st.integers(min_value=0, max_value=2**40)
SIDE_COUNTS = st.builds(SideCounts, COUNT, COUNT, COUNT)
COUNTS = st.builds(Counts, COUNT, SIDE_COUNTS, SIDE_COUNTS, COUNT, COUNT, COUNT, COUNT)
GUARDS = st.lists(
    st.builds(GuardHit, st.text(max_size=20), st.sampled_from([*Side, None]), COUNT, st.floats(0, 1e9)),
    max_size=3,
)


@given(COUNTS)
def test_the_numbers_of_a_run_come_back(counts: Any) -> None:
    assert rows.counts_of(rows.counts_text(counts)) == counts


@given(GUARDS)
def test_the_guards_of_a_run_come_back(guards: Any) -> None:
    back = rows.guards_of(rows.guards_text(guards))
    assert back == guards
    assert [type(hit.side) for hit in back] == [type(hit.side) for hit in guards]


@given(st.text(alphabet=st.characters(), max_size=300), st.integers(min_value=1, max_value=200))
def test_cleaned_text_is_what_every_database_takes(text: Any, limit: Any) -> None:
    cleaned = rows.clean(text, limit)
    assert "\x00" not in cleaned
    assert len(cleaned) <= limit
    cleaned.encode("utf-8")


@given(st.text(max_size=100).filter(lambda text: "\x00" not in text))
def test_ordinary_text_is_kept_as_it_is(text: Any) -> None:
    assert rows.clean(text) == text


@pytest.mark.parametrize(
    ("table", "names"), [(change, rows.CHANGE_COLUMNS), (hold, rows.HOLD_COLUMNS)], ids=["change", "hold"]
)
def test_rows_are_built_in_the_order_of_their_table(table: Any, names: Any) -> None:
    """The driver's own bulk insert takes values by place; what only the journal writes later has a default."""
    later = {"id", "batch", "sends"}
    assert tuple(column.name for column in table.columns if column.name not in later) == names


def test_binding_rows_are_built_in_the_order_of_their_table() -> None:
    assert tuple(binding.columns.keys()) == rows.BINDING_COLUMNS
