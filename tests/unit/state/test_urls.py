"""Which URLs name a state database."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.config.urls import DATABASES, database_kind
from syncd.db.registry import BACKENDS
from syncd.errors import ConfigError
from syncd.state.database import Database, read_url


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:///syncd.db", "sqlite"),
        ("sqlite:////var/lib/syncd/syncd.db", "sqlite"),
        ("postgresql://u@h/d", "postgresql+psycopg"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg"),
        ("mysql://u@h/d", "mysql+pymysql"),
        ("mariadb://u@h/d", "mysql+pymysql"),
    ],
)
def test_a_url_is_read_with_the_driver_syncd_ships(url: str, driver: str) -> None:
    assert read_url(url).drivername == driver


def test_the_configuration_takes_every_kind_of_database_that_syncd_works_with_and_no_other() -> None:
    assert {name for backend in BACKENDS for name in backend.names} == DATABASES
    assert {backend.kind for backend in BACKENDS} == {database_kind(name) for name in DATABASES}


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_an_sqlite_state_needs_a_file(url: str) -> None:
    with pytest.raises(ConfigError, match="names no file"):
        read_url(url)


def test_other_kinds_of_database_are_refused() -> None:
    with pytest.raises(ConfigError, match="a oracle database"):
        read_url("oracle://u@h/d")


@given(st.text(max_size=30))
def test_what_is_no_url_is_not_repeated_since_it_may_hold_a_password(text: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        read_url(f"s3cr3t@{text}")
    assert "s3cr3t" not in str(caught.value) + caught.value.hint


def test_a_server_is_named_without_its_credentials() -> None:
    database = Database(read_url("postgresql://user:s3cr3t@db.example/state?password=s3cr3t"))
    assert database.where == "postgresql://db.example/state"


def test_a_driver_that_is_not_installed_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match="driver psycopg") as caught:
        Database(read_url("postgresql://u@h/d"))
    assert "'psycopg[binary]'" in caught.value.hint
