"""Third parties on the way to a database's server: what they do not get, and what `check` says about the way.

`db.example.com` is another host as far as syncd can know, and leads to this machine.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trustme

from syncd.db import libpq
from tests.databases import execute
from tests.system.fake_database import (
    in_front_of_mysql,
    in_front_of_postgres,
    mysql_asking_for_a_password,
    postgres_asking_for_a_password,
    serving,
)
from tests.system.shop import Shop, open_shop

HOST = "db.example.com"
PASSWORD = "s3cr3t-of-this-test"
TABLE = "CREATE TABLE bindings (order_id bigint primary key, deal_id bigint)"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path, {1: 11}, orders=range(1, 10)) as made:
        made.create_table([(1, 11)])
        made.settings["first_sync"] = '"auto"'
        yield made


@pytest.fixture(autouse=True)
def other_host(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def resolve(host: object, *rest: Any, **more: Any) -> object:
        return real("127.0.0.1" if host == HOST else host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS, and the file of the authority that vouches for it."""
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST, "127.0.0.1").configure_cert(context)
    return context, file


# ------------------------------------------------------------- what is not given


def postgres_at(port: int, options: str = "", host: str = HOST) -> str:
    return f"postgresql://erp:{PASSWORD}@{host}:{port}/erp?hostaddr=127.0.0.1{options}"


@pytest.mark.parametrize("of", ["table", "state"])
def test_given_a_postgresql_nobody_verified_that_asks_for_the_clear_password_then_it_gets_none(
    shop: Shop, of: str
) -> None:
    heard: list[bytes] = []
    with serving(postgres_asking_for_a_password(heard)) as port:
        setattr(shop, f"{of}_url", postgres_at(port))
        said = " ".join(shop.call("reconcile").check(77).err.split())
    assert "asks for the password in the clear, and has not proved who it is; the password was not sent" in said
    assert "sslmode=verify-full" in said
    assert heard, "the server never asked"
    assert PASSWORD.encode() not in b"".join(heard)


def test_given_encryption_that_verifies_nothing_then_the_clear_password_is_not_sent_either(
    shop: Shop, authority: tuple[ssl.SSLContext, Path]
) -> None:
    heard: list[bytes] = []
    with serving(postgres_asking_for_a_password(heard, authority[0])) as port:
        shop.table_url = postgres_at(port, "&sslmode=require")
        shop.call("reconcile").check(77)
    assert heard, "the server never asked"
    assert PASSWORD.encode() not in b"".join(heard)


@pytest.mark.parametrize("why", ["verified", "allowed", "loopback"])
def test_given_a_postgresql_that_may_have_the_clear_password_then_it_gets_it(
    shop: Shop, authority: tuple[ssl.SSLContext, Path], why: str
) -> None:
    heard: list[bytes] = []
    tls, file = authority
    with serving(postgres_asking_for_a_password(heard, tls if why == "verified" else None)) as port:
        shop.table_url = {
            "verified": postgres_at(port, f"&sslmode=verify-full&sslrootcert={file}"),
            "allowed": postgres_at(port, "&require_auth=password"),
            "loopback": postgres_at(port, host="localhost"),
        }[why]
        shop.call("reconcile")
    assert PASSWORD.encode() in b"".join(heard)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("postgresql://u@localhost/d", False),
        ("postgresql://u@localhost/d?host=db.example", True),  # this is the one that is connected to
        ("postgresql://u@localhost/d?host=/run/postgresql&host=db.example", True),
        ("postgresql://u@localhost/d?hostaddr=192.0.2.1", True),
        ("postgresql://u@db.example/d?host=/run/postgresql", False),
    ],
)
def test_given_a_host_among_the_options_then_it_is_the_one_that_gets_no_clear_password(url: str, kept: bool) -> None:
    assert libpq.options_of(sa.make_url(url)).texts.get("require_auth") == ("!password" if kept else None)


@pytest.mark.parametrize("plugin", [b"mysql_clear_password", b"dialog"])
def test_given_a_mysql_nobody_verified_that_asks_for_the_clear_password_then_it_gets_none(
    shop: Shop, plugin: bytes
) -> None:
    heard: list[bytes] = []
    with serving(mysql_asking_for_a_password(heard, plugin)) as port:
        shop.table_url = f"mysql://erp:{PASSWORD}@{HOST}:{port}/erp"
        said = " ".join(shop.call("reconcile").check(77).err.split())
    assert "asks for the password in the clear" in said
    assert heard, "the server never asked"
    assert PASSWORD.encode() not in b"".join(heard)


@pytest.mark.parametrize("where", [f"{HOST}:{{port}}/erp?enable_cleartext_plugin=true", "127.0.0.1:{port}/erp"])
def test_given_a_mysql_that_may_have_the_clear_password_then_it_gets_it(shop: Shop, where: str) -> None:
    heard: list[bytes] = []
    with serving(mysql_asking_for_a_password(heard, b"mysql_clear_password")) as port:
        shop.table_url = f"mysql://erp:{PASSWORD}@{where.format(port=port)}"
        shop.call("reconcile")
    assert PASSWORD.encode() in b"".join(heard)


# -------------------------------------------------------------- what `check` says

SAID = {
    "plain": f"the connection to {HOST} is not encrypted: a third party can read and change what is sent",
    "unverified": f"the connection to {HOST} is encrypted, but the server does not prove that it is {HOST}",
    "verified": "",
    "local": "",
}


def assert_check_says(shop: Shop, how: str, of: str) -> None:
    """`check` says what is known of the way to the server, and its exit code stays the same."""
    said = " ".join(shop.call("check").check(0).out.split())
    subject = "links.shop.table.url: the connection" if of == "table" else "the connection"
    assert (f"{subject}{SAID[how].removeprefix('the connection')}" in said) == bool(SAID[how])
    assert ("the connection to" in said) == bool(SAID[how])


@pytest.mark.postgres
@pytest.mark.parametrize("how", SAID)
@pytest.mark.parametrize("of", ["table", "state"])
def test_given_the_way_to_a_postgresql_then_check_says_whether_it_is_safe(
    shop: Shop, postgres_url: str, authority: tuple[ssl.SSLContext, Path], how: Any, of: str
) -> None:
    parts = sa.make_url(postgres_url)
    folder = parts.query.get("host") or pytest.skip("this PostgreSQL is not reached by a socket")
    if of == "table":
        execute(postgres_url, TABLE, "INSERT INTO bindings VALUES (1, 11)")
    tls, file = authority
    front = in_front_of_postgres(f"{folder}/.s.PGSQL.5432", None if how in {"plain", "local"} else tls)
    with serving(front) as port:
        host = "127.0.0.1" if how == "local" else HOST
        more = f"&sslmode=verify-full&sslrootcert={file}" if how == "verified" else ""
        url = f"postgresql://{parts.username}@{host}:{port}/{parts.database}?hostaddr=127.0.0.1{more}"
        setattr(shop, f"{of}_url", url)
        if of == "state":
            shop.call("db", "upgrade").check(0)
        assert_check_says(shop, how, of)


@pytest.mark.mysql
@pytest.mark.parametrize("how", SAID)
def test_given_the_way_to_a_mysql_then_check_says_whether_it_is_safe(
    shop: Shop, mysql_url: str, authority: tuple[ssl.SSLContext, Path], how: Any
) -> None:
    parts = sa.make_url(mysql_url)
    if parts.password or parts.host is None:
        pytest.skip("this MySQL is not reached over TCP without a password")
    execute(mysql_url, TABLE, "INSERT INTO bindings VALUES (1, 11)")
    tls, file = authority
    with serving(in_front_of_mysql((parts.host, parts.port or 3306), tls)) as port:
        option = {"verified": f"ssl-mode=VERIFY_IDENTITY&ssl-ca={file}", "unverified": "ssl-mode=REQUIRED"}.get(how)
        at = f"{HOST}:{port}" if option else f"{HOST if how == 'plain' else '127.0.0.1'}:{parts.port or 3306}"
        shop.table_url = f"mysql://{parts.username}@{at}/{parts.database}?{option or ''}"
        assert_check_says(shop, how, "table")
