"""Lock files: one holder, over descriptors and processes, whatever the link is called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncd.errors import StateUnavailable
from syncd.state.database import take_lock
from syncd.state.locks import FileLocks


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def locks(database: Path) -> Iterator[FileLocks]:
    with closing(FileLocks(database)) as made:
        yield made


@pytest.fixture
def others(database: Path) -> Iterator[FileLocks]:
    """The same locks as another process has them: a lock is its descriptor's."""
    with closing(FileLocks(database)) as made:
        yield made


def test_a_lock_has_one_holder(locks: FileLocks, others: FileLocks) -> None:
    assert locks.acquire("shop")
    assert not others.acquire("shop")
    locks.release("shop")
    assert others.acquire("shop")


def test_taking_a_lock_twice_is_having_it_once(locks: FileLocks, others: FileLocks) -> None:
    assert locks.acquire("shop")
    assert locks.acquire("shop")
    locks.release("shop")
    assert others.acquire("shop")


def test_locks_of_links_are_apart(locks: FileLocks, others: FileLocks) -> None:
    assert locks.acquire("shop")
    assert others.acquire("outlet")


def test_closing_lets_all_locks_go(locks: FileLocks, others: FileLocks) -> None:
    assert locks.acquire("shop")
    assert locks.acquire("outlet")
    locks.close()
    assert others.acquire("shop")
    assert others.acquire("outlet")


def test_a_link_may_be_called_anything(database: Path, locks: FileLocks) -> None:
    assert locks.acquire("../a/b c")
    assert [path.parent for path in database.parent.iterdir()] == [database.parent]


def test_a_lock_file_is_its_owners_only(database: Path, locks: FileLocks) -> None:
    locks.acquire("shop")
    [file] = database.parent.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_lock_file_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StateUnavailable, match="lock file"):
        take_lock(tmp_path / "nowhere" / "state.db.shop.lock", beside=tmp_path / "nowhere" / "state.db")


def test_a_lock_proves_something_on_the_same_kernel_or_the_same_host_only(locks: FileLocks) -> None:
    name, boot_id = locks.scope.split()
    assert locks.proves_death(locks.scope)
    assert locks.proves_death(f"{name} an-earlier-boot")
    assert locks.proves_death(f"another-container {boot_id}")
    assert not locks.proves_death("another-host another-boot")
    assert not locks.proves_death("")
