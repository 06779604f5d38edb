"""A database in parts, and passwords that a URL cannot hold as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from syncd.config.render import show
from syncd.config.urls import parse_database_url
from syncd.obs.redact import redact
from tests.unit.config.conftest import Configuration, revealed

URL = 'url = "postgresql://syncd:filepassword@db.example.com/shop"'
WILD = "p@ss:w/rd?#%40 x"


class TestParts:
    def test_given_parts_then_nothing_in_them_needs_to_be_encoded(self, configuration: Configuration) -> None:
        (configuration.directory / "password").write_text(f"{WILD}\n")
        configuration.replace(
            URL, 'host = "db.example.com"\nport = 5433\nuser = "sync:d"\npassword_file = "password"\ndatabase = "a/b"'
        )
        url = sa.make_url(revealed(configuration.load().settings.links["shop"].table.url))
        assert (url.drivername, url.host, url.port) == ("postgresql", "db.example.com", 5433)
        assert (url.username, url.password, url.database) == ("sync:d", WILD, "a/b")

    def test_given_parts_of_the_state_then_they_replace_its_default(self, configuration: Configuration) -> None:
        configuration.more('[state]\nhost = "::1"\nport = 3306\ndatabase = "s"\noptions = { charset = "utf8mb4" }\n')
        assert configuration.load().settings.state.url.get_secret_value() == "mysql://[::1]:3306/s?charset=utf8mb4"

    @pytest.mark.parametrize(
        ("parts", "url"),
        [
            ('host = "h"\ndatabase = "d"', "postgresql://h/d"),
            ('host = "h"\nport = 3306\ndatabase = "d"', "mysql://h:3306/d"),
            ('kind = "mariadb"\nhost = "h"\ndatabase = "d"', "mariadb://h/d"),
            ('host = "/run/postgresql"\ndatabase = "d"', "postgresql:///d?host=%2Frun%2Fpostgresql"),
            ('kind = "mysql"\nhost = "/run/my.sock"\ndatabase = "d"', "mysql:///d?unix_socket=%2Frun%2Fmy.sock"),
        ],
    )
    def test_given_a_port_or_a_kind_then_the_url_is_of_that_kind(
        self, configuration: Configuration, parts: str, url: str
    ) -> None:
        configuration.replace(URL, parts)
        assert revealed(configuration.load().settings.links["shop"].table.url) == url

    @pytest.mark.parametrize(
        ("parts", "problem"),
        [
            (f'{URL}\nhost = "h"', "links.shop.table: host given together with url; keep one way to name the database"),
            ('host = "h"', "links.shop.table: needs database, since the database is given in parts"),
            ('user = "u"', "links.shop.table: needs host and database, since the database is given in parts"),
        ],
    )
    def test_given_parts_that_are_none_or_too_many_then_it_is_said(
        self, configuration: Configuration, parts: str, problem: str
    ) -> None:
        configuration.replace(URL, parts)
        assert problem in configuration.problems()

    @pytest.mark.parametrize(
        "host",
        [
            "h:5432",
            "u:hushhush@h",
            "u@h",
            "postgresql://u:hushhush@h/d",
            "h/hushhush",
            "h?password=hushhush",
            "[::1]",
            "a b",
        ],
    )
    def test_given_more_than_a_host_as_the_host_then_it_is_refused_and_not_repeated(
        self, configuration: Configuration, host: str
    ) -> None:
        configuration.replace(URL, f'host = "{host}"\ndatabase = "d"')
        (problem,) = configuration.problems()
        assert problem.startswith("links.shop.table.host: must be a name, an IP address or the folder of a socket")
        assert "hushhush" not in problem

    @pytest.mark.parametrize("host", ["fe80::1%eth0", "db_1.internal", "bücher.example", "h1,h2"])
    def test_given_another_name_or_address_then_it_is_one(self, configuration: Configuration, host: str) -> None:
        configuration.replace(URL, f'host = "{host}"\ndatabase = "d"')
        assert configuration.load().settings.links["shop"].table.url is not None

    def test_given_a_password_in_parts_then_it_is_never_shown(self, configuration: Configuration) -> None:
        configuration.replace(URL, f'host = "h"\nuser = "u"\npassword = "{WILD}"\ndatabase = "d"')
        configuration.more('[state]\nhost = "s"\ndatabase = "d"\noptions = { sslpassword = "hushhush" }\n')
        text = show(configuration.load())
        assert 'links.shop.table.password = "***"' in text
        assert 'links.shop.table.url = "postgresql://u:***@h/d"' in text
        assert WILD not in text
        assert "hushhush" not in text


RAW = [
    "postgresql://user:p@s3cr3t@host/db",
    "postgresql://user:p@s3cr3t:x@host/db",
    "postgresql://user:p@s3/cr3t@host:5432/db",
    "postgresql://user:p@s3cr3t?x=y@host/db",
    "mysql+pymysql://user:12/s3cr3t@x@host/db",
]


class TestRawPasswords:
    @pytest.mark.parametrize("url", RAW)
    def test_given_a_raw_at_sign_then_nothing_is_taken_for_the_host_and_nothing_is_shown(
        self, configuration: Configuration, url: str
    ) -> None:
        configuration.replace(URL, f'url = "{url}"')
        (problem,) = configuration.problems()
        assert "@ as %40" in problem
        assert not [piece for piece in ("s3", "cr3t", "12") if piece in problem]
        with pytest.raises(ValueError, match="%40") as raised:
            parse_database_url(url)
        assert "s3" not in str(raised.value)

    @pytest.mark.parametrize("url", [*RAW, "postgresql://user:12/s3cr3t@host/db", "mysql://us@er:s3cr3t@host/db"])
    def test_given_a_text_with_such_a_url_then_it_is_masked_up_to_the_last_at_sign(self, url: Any) -> None:
        assert "s3" not in redact(f"cannot connect to {url} now")
        assert redact(f"cannot connect to {url} now").endswith(("@host/db now", "@host:5432/db now"))

    def test_given_a_raw_colon_or_slash_alone_then_it_is_a_password_as_for_sqlalchemy(self) -> None:
        assert parse_database_url("postgresql://user:a:b/c@host/db").password == "a:b/c"
        assert parse_database_url("sqlite:////home/me@corp/syncd.db").database == "/home/me@corp/syncd.db"

    def test_given_no_secret_then_a_url_is_left_as_it_is(self) -> None:
        for url in ("postgresql://user@host:5432/db", "mysql://host/db?charset=utf8", "sqlite:////srv/x.db"):
            assert redact(url) == url


def test_given_a_raw_password_at_init_then_it_is_told_without_a_piece_of_it(tmp_path: Path) -> None:
    from tests.system.shop import call

    (tmp_path / "hook").write_text("https://example.bitrix24.com/rest/1/CODE/")
    ran = call(
        "init",
        "--no-input",
        "--no-check",
        "--webhook-file",
        "hook",
        "--table",
        "t",
        "--table-url",
        RAW[1],
        directory=tmp_path,
    )
    assert ran.code == 64, ran.err
    assert "s3" not in ran.out + ran.err
    assert not (tmp_path / "syncd.toml").exists()
