"""What the addresses in the configuration name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL, make_url

from syncd.config.urls import (
    check_web_url,
    database_identity,
    parse_database_url,
    parse_listen,
    web_host,
    web_origin,
)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("example.bitrix24.com", "https://example.bitrix24.com"),
        ("https://Example.Bitrix24.com/", "https://example.bitrix24.com"),
        ("https://crm.example.com:8443", "https://crm.example.com:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
    ],
)
def test_a_portal_address_is_brought_to_one_form(text: str, origin: str) -> None:
    assert web_origin(text) == origin


@pytest.mark.parametrize("text", ["https://example.com/rest/", "https://example.com/?a=b", "http://example.com", "a b"])
def test_what_is_no_portal_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        web_origin(text)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Example.com./rest/1/a/", "example.com"),
        ("https://example.com:443/", "example.com"),
        ("http://localhost:80/", "localhost"),
        ("https://example.com:80/", "example.com:80"),
        ("http://[::1]:8080/", "[::1]:8080"),
    ],
)
def test_a_host_is_named_with_its_port_only_where_that_is_unusual(url: str, host: str) -> None:
    assert web_host(url) == host


def test_an_address_to_notify_may_be_plain_http_but_not_something_else() -> None:
    check_web_url("http://alerts.internal:9000/hook?x=1")
    with pytest.raises(ValueError, match="must begin with"):
        check_web_url("ftp://alerts.internal/hook")


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:9464", ("127.0.0.1", 9464)), ("[::1]:0", ("::1", 0)), ("localhost:65535", ("localhost", 65535))],
)
def test_where_to_listen_is_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize("text", ["9464", ":9464", "host", "host:", "host:x", "::1:9464", "[]:1", "host:65536", "h:-1"])
def test_what_is_no_place_to_listen_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be host:port"):
        parse_listen(text)


DRIVERS = ["postgresql", "postgresql+psycopg", "mysql+pymysql", "mariadb", "sqlite", "oracle+oracledb"]
PARTS = st.text(alphabet="abcXYZ019._~- ä%!$&'()*,;=+", min_size=1, max_size=8)


@st.composite
def database_urls(draw: st.DrawFn) -> URL:
    driver = draw(st.sampled_from(DRIVERS))
    if driver == "sqlite":
        return URL.create(driver, database=draw(st.none() | st.sampled_from(["a b", "/var/lib/x.db", ":memory:"])))
    username = draw(st.none() | PARTS)
    return URL.create(
        driver,
        username,
        draw(st.none() | st.text(alphabet="abc19:/?#&= %", min_size=1, max_size=8)) if username else None,
        draw(st.none() | st.sampled_from(["db", "db.example.com", "127.0.0.1", "::1"])),
        draw(st.none() | st.integers(min_value=1, max_value=65535)),
        draw(st.none() | st.sampled_from(["shop", "/var/lib/x.db", "a b", "x.db", ":memory:"])),
        draw(st.dictionaries(st.sampled_from(["host", "sslmode", "a"]), st.sampled_from(["1", "x/y", "a b"]))),
    )


@given(database_urls())
def test_a_database_url_is_read_as_sqlalchemy_reads_it(url: Any) -> None:
    text = url.render_as_string(hide_password=False)
    theirs, ours = make_url(text), parse_database_url(text)
    assert ours.dialect == theirs.get_backend_name()
    assert (ours.username or None) == (theirs.username or None)
    assert (ours.password or None) == (theirs.password or None)
    assert (ours.host or None) == theirs.host
    assert ours.port == theirs.port
    assert (ours.database or None) == (theirs.database or None)
    assert dict(ours.query) == dict(theirs.query)


@pytest.mark.parametrize("url", ["", "shop.db", "postgresql:/x", "://x", "sqlite//x", "my sql://x/y"])
def test_what_is_no_database_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not a SQLAlchemy URL"):
        parse_database_url(url)


@pytest.mark.parametrize("url", ["sqlite://shop.db", "sqlite://u:word@h/shop.db", "sqlite://:1/x", "sqlite://u@/x.db"])
def test_users_and_hosts_of_sqlite_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="SQLite, which has no users and no hosts"):
        parse_database_url(url)


@pytest.mark.parametrize(
    "url", ["sqlite:///file:shop.db?mode=ro&uri=true", "sqlite:///file:x?mode=memory", "sqlite:///file%3Ax.db"]
)
def test_an_sqlite_file_that_is_named_as_a_uri_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="write the path itself"):
        parse_database_url(url)


def test_postgres_is_refused_with_the_right_word() -> None:
    with pytest.raises(ValueError, match="write postgresql:// instead"):
        parse_database_url("postgres://u:p@h/d")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_known_as_one(url: str) -> None:
    assert parse_database_url(url).is_memory


def test_a_database_in_a_file_is_not_in_memory() -> None:
    assert not parse_database_url("sqlite:///syncd.db").is_memory


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("postgresql://a:b@db/shop", "postgresql+psycopg://c:d@db/shop"),
        ("postgresql://db/shop", "postgresql://DB:5432/shop"),
        ("postgresql://db/shop", "postgresql://db/shop?sslmode=require&application_name=x"),
        ("mysql+pymysql://db/shop", "mariadb+mariadbconnector://db:3306/shop?charset=utf8mb4"),
        ("postgresql:///shop", "postgresql://localhost/shop"),
        ("postgresql:///shop?host=/run/pg&port=5433", "postgresql://u@/shop?port=5433&host=/run/pg&connect_timeout=3"),
    ],
)
def test_the_same_database_reached_in_another_way_is_the_same(one: str, other: str) -> None:
    assert database_identity(one) == database_identity(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("postgresql://db/shop", "postgresql://db/other"),
        ("postgresql://db/shop", "postgresql://db2/shop"),
        ("postgresql://db/shop", "postgresql://db:5433/shop"),
        ("postgresql://db/shop", "mysql://db/shop"),
        ("postgresql:///shop?host=/run/a", "postgresql:///shop?host=/run/b"),
        ("sqlite:////a/x.db", "sqlite:////b/x.db"),
    ],
)
def test_another_database_is_another(one: str, other: str) -> None:
    assert database_identity(one) != database_identity(other)


def test_a_relative_sqlite_path_counts_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert database_identity("sqlite:///x.db") == f"sqlite:///{tmp_path}/x.db"


def test_no_password_is_in_an_identity() -> None:
    assert "sekret" not in database_identity("postgresql://u:sekret@db/shop?password=sekret")
