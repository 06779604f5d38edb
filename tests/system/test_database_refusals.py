"""Refusals of a database server, in any language, and options that cannot be used: each gets the right exit code."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.databases import execute
from tests.system.daemon_process import running, until
from tests.system.fake_database import mysql_refusing, mysql_with_sha2, postgres_refusing, serving, silent
from tests.system.shop import Shop, open_shop

POSTGRES = "postgresql://syncd:s3cr3t-of-this-test@127.0.0.1:{port}/erp"
MYSQL = "mysql://syncd:s3cr3t-of-this-test@127.0.0.1:{port}/erp"

REFUSALS = {
    "28P01 in Russian": (
        postgres_refusing("28P01", 'пользователь "syncd" не прошёл проверку подлинности (по паролю)', "ВАЖНО"),
        77,
    ),
    "28000 in German": (postgres_refusing("28000", "Rolle »syncd« darf sich nicht einloggen", "FATAL"), 77),
    "28000 in English": (postgres_refusing("28000", 'role "syncd" is not permitted to log in'), 77),
    "a pooler's SASL": (postgres_refusing("08P01", "SASL authentication failed"), 77),
    "a pooler's database": (postgres_refusing("08P01", "no such database: erp"), 78),
    "3D000 in Russian": (postgres_refusing("3D000", 'база данных "erp" не существует', "ВАЖНО"), 78),
    "starting, in Russian": (postgres_refusing("57P03", "система баз данных запускается", "ВАЖНО"), 69),
    "full, in French": (postgres_refusing("53300", "désolé, trop de clients sont déjà connectés"), 69),
    "a pooler's wait": (postgres_refusing("08P01", "query_wait_timeout"), 69),
    "MySQL 1130": (mysql_refusing(1130, "Host '10.0.0.1' is not allowed to connect to this MySQL server"), 77),
    "MySQL 3159": (mysql_refusing(3159, "Connections using insecure transport are prohibited"), 77),
    "MySQL 1040": (mysql_refusing(1040, "Too many connections"), 69),
    "MySQL 1129": (mysql_refusing(1129, "Host is blocked because of many connection errors"), 69),
}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path, {1: 11}, orders=range(1, 10)) as made:
        made.create_table([(1, 11)])
        made.settings["first_sync"] = '"auto"'
        yield made


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("of", ["table", "state"])
def test_given_a_server_that_answers_then_it_is_never_called_unreachable(shop: Shop, refusal: Any, of: str) -> None:
    answer, code = REFUSALS[refusal]
    with serving(answer) as port:
        url = (MYSQL if refusal.startswith("MySQL") else POSTGRES).format(port=port)
        if of == "table":
            shop.table_url = url
        else:
            shop.state_url = url
        ran = shop.call("reconcile").check(code)
    assert "cannot be reached, or the connection was lost" not in ran.err


@pytest.mark.parametrize("url", [POSTGRES, MYSQL])
def test_given_nobody_who_answers_then_it_is_called_unreachable(shop: Shop, url: str) -> None:
    with serving(silent) as port:
        shop.table_url = url.format(port=port)
        assert "cannot be reached" in shop.call("reconcile").check(69).err


def test_given_refused_credentials_in_any_language_then_the_link_is_parked(shop: Shop) -> None:
    answer, _code = REFUSALS["28P01 in Russian"]
    with serving(answer) as port:
        shop.table_url = POSTGRES.format(port=port)
        shop.settings["schedule"] = '"1s"'
        with running(shop) as daemon:
            (parked,) = until(lambda: daemon.events("link parked"))
            assert parked["reason"].startswith("auth: ")
            assert daemon.end() == 0


def test_given_mysql_8_and_no_cryptography_then_it_is_said_what_to_install(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "stub" / "cryptography").mkdir(parents=True)
    (tmp_path / "stub" / "cryptography" / "__init__.py").write_text("raise ImportError('not installed')")
    with serving(mysql_with_sha2) as port:
        shop.table_url = MYSQL.format(port=port)
        ran = shop.run("reconcile", PYTHONPATH=str(tmp_path / "stub")).check(78)
    assert "needs the package cryptography" in ran.err
    assert "pip install pymysql cryptography" in ran.err


def test_given_the_extra_mysql_then_it_brings_cryptography() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert any(one.startswith("cryptography") for one in project["optional-dependencies"]["mysql"])


# ------------------------------------------------------------------- options


OPTIONS = {
    "postgresql://u@127.0.0.1:1/d?sslmod=require": ("does not know the option sslmod", "sslmode"),
    "postgresql://u@127.0.0.1:1/d?ssl-mode=ALWAYS": ("sslmode of libpq", "verify-full"),
    "postgresql://u@127.0.0.1:1/d?channel_binding=maybe": ("with the options of",),
    "postgresql://u@127.0.0.1:1/d?target_session_attrs=leader": ("with the options of",),
    "postgresql://u@127.0.0.1:1/d?sslrootcert=/nowhere/ca.pem": ("the file that its option sslrootcert names",),
    "postgresql://u@127.0.0.1:1/d?connect_timeout=soon": ("connect_timeout takes a whole number",),
    "postgresql://u@127.0.0.1:1/d?application_name=a&application_name=b": ("given more than once",),
    "mysql://u@127.0.0.1:1/d?ssl_ca=/nowhere/ca.pem": ("the file that its option ssl_ca names does not exist",),
    "mysql://u@127.0.0.1:1/d?serverTimezone=UTC": ("does not know the option serverTimezone",),
    "mysql://u@127.0.0.1:1/d?ssl-mode=ALWAYS": ("ssl-mode takes one of", "VERIFY_IDENTITY"),
    "mysql://u@127.0.0.1:1/d?charset=klingon": ("charset",),
    "mysql://u@127.0.0.1:1/d?read_timeout=soon": ("read_timeout takes a whole number",),
    "mysql://u@127.0.0.1:99999/d": ("a port above 65535",),
    "sqlite:///shop.db?cache=shared": ("does not know the option cache",),
    "sqlite:///shop.db?mode=rwc": ("mode takes ro or rw",),
    "sqlite:///file:shop.db?mode=ro&uri=true": ("names its file as file:", "write the path itself"),
    "sqlite://shop.db": ("which has no users and no hosts", "write sqlite:///file.db"),
}


@pytest.mark.parametrize("url", OPTIONS)
@pytest.mark.parametrize("of", ["table", "state"])
def test_given_an_option_the_driver_cannot_use_then_it_is_named_and_ends_with_78(shop: Shop, url: Any, of: str) -> None:
    if of == "table":
        shop.table_url = url
    else:
        shop.state_url = url
    said = " ".join(shop.call("reconcile").check(78).err.split())
    for words in OPTIONS[url]:
        assert words in said


def test_given_one_link_with_an_option_that_cannot_be_used_then_the_healthy_one_is_checked_and_synced(
    shop: Shop,
) -> None:
    shop.more_links = f"""
[links.outlet.portal]
webhook = "{shop.server.webhook_url}"
[links.outlet.table]
url = "mysql://u@127.0.0.1:1/d?serverTimezone=UTC"
name = "bindings"
columns = {shop.columns}
"""
    checked = shop.call("check")
    assert checked.code == 78
    assert "shop: table" in checked.out
    assert "bindings is readable" in " ".join(checked.out.split())
    done = shop.call("reconcile")
    assert done.code == 78
    assert "link shop, run 1" in done.out


@pytest.mark.postgres
@pytest.mark.parametrize(
    "options",
    [
        "ssl-mode=DISABLED",
        "ssl=false",
        "sslmode=prefer&schema=public",
        "pgbouncer=true&connection_limit=5",
        "currentSchema=erp",
    ],
)
def test_given_a_common_spelling_of_postgresql_then_it_is_understood(
    shop: Shop, postgres_url: str, options: str
) -> None:
    execute(
        postgres_url, "CREATE SCHEMA erp", "CREATE TABLE erp.bindings (order_id bigint primary key, deal_id bigint)"
    )
    execute(postgres_url, "CREATE TABLE public.bindings (order_id bigint primary key, deal_id bigint)")
    shop.table_url = f"{postgres_url}{'&' if '?' in postgres_url else '?'}{options}"
    shop.call("reconcile").check(0)
    rows = _rows(postgres_url, "erp.bindings" if "erp" in options else "public.bindings")
    assert rows == [(1, 11)]


@pytest.mark.mysql
@pytest.mark.parametrize(
    "options", ["ssl-mode=PREFERRED", "ssl_mode=DISABLED", "useSSL=false", "characterEncoding=utf8"]
)
def test_given_a_common_spelling_of_mysql_then_it_is_understood(shop: Shop, mysql_url: str, options: str) -> None:
    execute(mysql_url, "CREATE TABLE bindings (order_id bigint primary key, deal_id bigint)")
    shop.table_url = f"{mysql_url}{'&' if '?' in mysql_url else '?'}{options}"
    shop.call("reconcile").check(0)
    assert _rows(mysql_url, "bindings") == [(1, 11)]


@pytest.mark.mysql
def test_given_tls_that_is_required_of_a_server_without_it_then_it_is_no_outage(shop: Shop, mysql_url: str) -> None:
    execute(mysql_url, "CREATE TABLE bindings (order_id bigint primary key, deal_id bigint)")
    shop.table_url = f"{mysql_url}{'&' if '?' in mysql_url else '?'}ssl-mode=VERIFY_IDENTITY"
    assert "with the options of its URL" in " ".join(shop.call("reconcile").check(78).err.split())


def _rows(url: str, table: str) -> list[tuple[int, int]]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(f"SELECT order_id, deal_id FROM {table}")]
