"""OAuth tokens are sealed in the state database when there is a key."""

from __future__ import annotations

import base64
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from syncd.errors import ConfigError
from syncd.obs.clock import SystemClock
from syncd.state import migrate
from syncd.state.store import SqlStore, open_store

pytestmark = pytest.mark.anyio

PAIR = {"access_token": "access-marked", "refresh_token": "refresh-marked"}


def a_key(letter: str) -> SecretStr:
    return SecretStr(base64.urlsafe_b64encode(letter.encode() * 32).decode())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    migrate.upgrade(f"sqlite:///{tmp_path / 'syncd.db'}")
    return tmp_path / "syncd.db"


def store(file: Path, key: SecretStr | None) -> SqlStore:
    return open_store(f"sqlite:///{file}", clock=SystemClock(), token_key=key)


def stored(file: Path) -> str:
    with closing(sqlite3.connect(file)) as connection:
        return str(connection.execute("SELECT body FROM token").fetchone()[0])


async def test_given_a_key_then_the_database_holds_nothing_of_the_pair_and_the_store_gives_it_back(file: Path) -> None:
    here = store(file, a_key("a"))
    assert await here.swap_token("portal", None, PAIR)

    assert "marked" not in stored(file)
    assert await here.token("portal") == PAIR
    assert await here.swap_token("portal", "refresh-marked", {"refresh_token": "next"})
    assert not await here.swap_token("portal", "refresh-marked", PAIR)
    await here.aclose()


async def test_given_a_pair_from_before_there_was_a_key_then_it_is_read_and_sealed_at_the_next_refresh(
    file: Path,
) -> None:
    before = store(file, None)
    await before.swap_token("portal", None, PAIR)
    await before.aclose()
    here = store(file, a_key("a"))

    assert await here.token("portal") == PAIR
    assert await here.swap_token("portal", "refresh-marked", PAIR)
    assert "marked" not in stored(file)
    await here.aclose()


@pytest.mark.parametrize(("key", "told"), [(None, "names no key"), (a_key("b"), "with another key")])
async def test_given_a_sealed_pair_and_not_its_key_then_the_operator_is_told(
    file: Path, key: SecretStr | None, told: str
) -> None:
    sealing = store(file, a_key("a"))
    await sealing.swap_token("portal", None, PAIR)
    await sealing.aclose()
    here = store(file, key)

    with pytest.raises(ConfigError, match=told) as raised:
        await here.token("portal")

    assert "syncd auth" in raised.value.hint
    await here.aclose()
