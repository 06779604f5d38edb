"""The list that moves to a temporary file when it grows."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.engine.spill_list import SpillList
from syncd.errors import UnavailableError


@given(parts=st.lists(st.lists(st.integers(), max_size=7), max_size=9), chunk=st.integers(1, 6))
def test_given_items_in_parts_then_they_come_back_in_order_as_often_as_one_likes(
    parts: list[list[int]], chunk: int
) -> None:
    kept: SpillList[int] = SpillList(chunk=chunk)
    for part in parts:
        kept.extend(part)
    items = [item for part in parts for item in part]

    assert (len(kept), list(kept), list(kept)) == (len(items), items, items)
    kept.close()
    assert (len(kept), list(kept)) == (0, [])


def test_given_two_readers_and_a_writer_at_a_time_then_each_sees_everything_in_order() -> None:
    kept = SpillList(range(4), chunk=2)
    kept.extend([4, 5])
    one, other = kept.chunks(), kept.chunks()

    assert (next(one), next(other)) == ([0, 1, 2, 3], [0, 1, 2, 3])
    kept.extend([6, 7])
    assert (next(one), next(other)) == ([4, 5], [4, 5])
    kept.close()


@given(sizes=st.lists(st.integers(1, 5), max_size=9), chunk=st.integers(1, 6))
def test_given_orders_of_several_changes_then_no_chunk_ends_within_one(sizes: list[int], chunk: int) -> None:
    kept: SpillList[int] = SpillList(chunk=chunk)
    for order, size in enumerate(sizes):
        kept.extend([order] * size)

    assert all(before[-1] != after[0] for before, after in pairwise(kept.chunks()))
    kept.close()


def test_given_a_full_temporary_directory_then_the_sentence_says_so() -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    kept = SpillList(range(4), chunk=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.TemporaryFile", full)
        with pytest.raises(UnavailableError, match="temporary directory: No space left on device"):
            kept.append(4)
