"""Lock files: one holder, over descriptors and processes, whatever the link is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.errors import StateUnavailable
from syncd.state.database import take_lock
from syncd.state.locks import FileLocks


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def test_a_lock_has_one_holder(database: Path) -> None:
    first, second = FileLocks(database), FileLocks(database)
    assert first.take("shop")
    assert not second.take("shop")
    first.drop("shop")
    assert second.take("shop")
    second.close()


def test_taking_a_lock_twice_is_having_it_once(database: Path) -> None:
    locks, other = FileLocks(database), FileLocks(database)
    assert locks.take("shop")
    assert locks.take("shop")
    locks.drop("shop")
    assert other.take("shop")
    other.close()


def test_locks_of_links_are_apart(database: Path) -> None:
    first, second = FileLocks(database), FileLocks(database)
    assert first.take("shop")
    assert second.take("outlet")
    first.close()
    second.close()


def test_closing_lets_all_locks_go(database: Path) -> None:
    first, second = FileLocks(database), FileLocks(database)
    assert first.take("shop")
    assert first.take("outlet")
    first.close()
    assert second.take("shop")
    assert second.take("outlet")
    second.close()


def test_a_link_may_be_called_anything(database: Path) -> None:
    locks = FileLocks(database)
    assert locks.take("../a/b c")
    assert [path.parent for path in database.parent.iterdir()] == [database.parent]
    locks.close()


def test_a_lock_file_is_its_owners_only(database: Path) -> None:
    locks = FileLocks(database)
    locks.take("shop")
    [file] = database.parent.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    locks.close()


def test_a_lock_file_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StateUnavailable, match="lock file"):
        take_lock(tmp_path / "nowhere" / "state.db.shop.lock", beside=tmp_path / "nowhere" / "state.db")


def test_a_lock_proves_something_on_the_same_kernel_or_the_same_host_only(database: Path) -> None:
    locks = FileLocks(database)
    name, boot_id = locks.scope.split()
    assert locks.proves(locks.scope)
    assert locks.proves(f"{name} an-earlier-boot")
    assert locks.proves(f"another-container {boot_id}")
    assert not locks.proves("another-host another-boot")
    assert not locks.proves("")
