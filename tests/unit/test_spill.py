"""Temporary files: rows and lists that are too long for memory."""

from __future__ import annotations

import errno
import os
import tempfile
from array import array
from collections.abc import Callable
from itertools import chain, pairwise
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import UnavailableError
from syncd.spill import RowFile, SpillList


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


@given(parts=st.lists(st.lists(st.tuples(*[st.integers(0, 2**63 - 1)] * 3), max_size=5), max_size=5), data=st.data())
def test_given_rows_in_parts_then_any_of_them_are_found_by_their_number(
    parts: list[list[tuple[int, int, int]]], data: st.DataObject
) -> None:
    rows = [row for part in parts for row in part]
    first = data.draw(st.integers(0, len(rows)))
    count = data.draw(st.integers(0, len(rows) - first))

    kept = RowFile()
    firsts = [kept.append(array("q", chain.from_iterable(part))) for part in parts]
    read = kept.rows(first, count)
    kept.close()

    assert firsts == [sum(map(len, parts[:number])) for number in range(len(parts))]
    assert read == rows[first : first + count]


def test_given_a_disk_that_takes_little_at_a_time_then_everything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr("os.pwrite", lambda file, data, place: write(file, data[:7], place))
    kept = SpillList(range(100), chunk=10)

    assert list(kept) == list(range(100))
    kept.close()


def broken(_file: int, _size: int, _place: int) -> bytes:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize(
    ("pread", "why"),
    [(broken, "Input/output error"), (lambda *_: bytes(24), "it is too short")],
    ids=["broken", "short"],
)
def test_given_a_file_that_gives_back_less_than_was_added_then_that_ends_the_pass_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, pread: Callable[[int, int, int], bytes], why: str
) -> None:
    rows = RowFile()
    rows.append(array("q", range(9)))
    items = SpillList(range(100), chunk=10)
    monkeypatch.setattr("os.pread", pread)

    for read in (lambda: rows.rows(0, 3), lambda: list(items)):
        with pytest.raises(UnavailableError, match=why) as raised:
            read()
        assert "Nothing more was written" in raised.value.message
    rows.close()
    items.close()


def test_given_rows_whose_file_was_closed_then_they_are_not_read_as_none() -> None:
    rows = RowFile()
    rows.append(array("q", range(9)))
    rows.close()

    with pytest.raises(UnavailableError):
        rows.rows(0, 3)


def test_given_a_closed_list_then_its_file_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[IO[bytes]] = []
    make = tempfile.TemporaryFile

    def remember(**options: Any) -> IO[bytes]:
        made.append(make(**options))
        return made[-1]

    monkeypatch.setattr("tempfile.TemporaryFile", remember)
    kept = SpillList(range(4), chunk=5)
    assert made == []
    kept.append(4)
    kept.close()
    assert [file.closed for file in made] == [True]


def test_given_a_full_temporary_directory_then_the_sentence_says_so() -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    kept = SpillList(range(4), chunk=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.TemporaryFile", full)
        with pytest.raises(UnavailableError, match="temporary file: No space left on device"):
            kept.append(4)
