"""`syncd auth` against the sandbox's authorisation server."""

from __future__ import annotations

import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from syncd.sandbox import Application
from tests.system.daemon_process import PATIENCE, until
from tests.system.shop import Ran, Shop, call, free_port, open_shop, start, visit

CLIENT_SECRET = "sandboxclientsecret"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    application = Application(redirect_uri="https://example.com/landing")
    with open_shop(tmp_path, {1: 11}, application=application) as made:
        made.create_table([(1, 11)])
        yield made


def configure(shop: Shop) -> Path:
    """A configuration with the application instead of the webhook."""
    path = shop.directory / "syncd.toml"
    path.write_text(
        f"""
        [state]
        url = "sqlite:///{shop.directory / "syncd.db"}"
        [links.shop.portal.oauth]
        portal = "{shop.server.url}"
        client_id = "local.sandbox"
        client_secret = "{CLIENT_SECRET}"
        [links.shop.table]
        url = "sqlite:///{shop.file}"
        name = "bindings"
        columns = {shop.columns}
        """
    )
    return path


def authorise(shop: Shop, monkeypatch: pytest.MonkeyPatch, answer: str | None = None) -> Ran:
    """Run `syncd auth` with a person who does what it asks for, or gives another answer."""
    import click

    shown: list[str] = []
    echo = click.echo

    def remember(message: object = None, **options: object) -> None:
        shown.append(str(message))
        echo(message, **options)  # type: ignore[arg-type]

    def person(*_args: object, **_options: object) -> str:
        (url,) = [one for one in shown if one.startswith(shop.server.url)]
        return visit(url) if answer is None else answer

    monkeypatch.setattr("click.echo", remember)
    monkeypatch.setattr("click.prompt", person)
    return call("--config", str(configure(shop)), "auth", directory=shop.directory)


def test_given_a_person_who_pastes_the_address_then_the_tokens_are_kept_and_work(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = authorise(shop, monkeypatch).check(0)

    assert "Authorised" in ran.out
    assert tokens(shop) == 1
    assert CLIENT_SECRET not in ran.out + ran.err
    call("--config", str(configure(shop)), "check", directory=shop.directory).check(0)


def test_given_a_link_that_is_parked_for_want_of_tokens_then_the_daemon_is_asked_for_a_pass(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(shop)
    call("--config", str(config), "reconcile", directory=shop.directory).check(77)
    with closing(sqlite3.connect(shop.directory / "syncd.db")) as state, state:
        state.execute("UPDATE link SET parked = 'auth: no tokens'")

    authorise(shop, monkeypatch).check(0)

    with closing(sqlite3.connect(shop.directory / "syncd.db")) as state:
        assert state.execute("SELECT link, kind, served_at FROM request").fetchall() == [("shop", "trigger", None)]


def test_given_a_link_that_is_not_parked_then_nobody_is_asked_for_a_pass(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    authorise(shop, monkeypatch).check(0)

    with closing(sqlite3.connect(shop.directory / "syncd.db")) as state:
        assert state.execute("SELECT count(*) FROM request").fetchone() == (0,)


def tokens(shop: Shop) -> int:
    """Return how many pairs of tokens the state database holds."""
    with closing(sqlite3.connect(shop.directory / "syncd.db")) as state:
        return int(state.execute("SELECT count(*) FROM token").fetchone()[0])


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("https://example.com/landing?error=denied", "contains no code"),
        ("https://example.com/landing?code=abc&state=another", "another authorisation"),
        ("https://example.com/landing?code=abc", "another authorisation"),
    ],
)
def test_given_an_address_that_will_not_do_then_nothing_is_stored(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, answer: str, sentence: str
) -> None:
    ran = authorise(shop, monkeypatch, answer).check(64)

    assert sentence in ran.err
    assert tokens(shop) == 0


def test_given_a_code_of_another_portal_then_its_tokens_are_refused_and_the_link_stays_without_any(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.portal.oauth.application.client_endpoint = "https://other.bitrix24.com/rest/"

    ran = authorise(shop, monkeypatch).check(77)

    assert "tokens of another portal (other.bitrix24.com, not 127.0.0.1" in ran.err
    assert "never authorised" in call("--config", str(configure(shop)), "plan", directory=shop.directory).check(77).err


def test_given_a_portal_that_was_made_anew_at_the_same_address_then_the_way_is_a_rebase_first(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    authorise(shop, monkeypatch).check(0)
    call("--config", str(configure(shop)), "reconcile", directory=shop.directory).check(0)
    shop.portal.oauth.application.member_id = "another"

    assert "syncd rebase shop" in authorise(shop, monkeypatch).check(77).err
    call("--config", str(configure(shop)), "rebase", directory=shop.directory).check(0)
    authorise(shop, monkeypatch).check(0)


def test_given_a_spent_code_then_the_exit_is_77(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = authorise(shop, monkeypatch, "a-code-nobody-gave").check(77)

    assert "syncd auth shop" in ran.err


def test_given_a_link_with_a_webhook_then_auth_says_that_there_is_nothing_to_do(shop: Shop) -> None:
    assert "needs no authorisation" in shop.call("auth").check(78).err


def test_given_a_port_to_listen_on_then_the_browser_brings_the_code_by_itself(shop: Shop) -> None:
    port = free_port()
    shop.portal.oauth.application.redirect_uri = f"http://127.0.0.1:{port}/"

    with start("--config", str(configure(shop)), "auth", "--listen", str(port), directory=shop.directory) as process:
        assert process.stdout is not None
        location = visit(process.stdout.readline().strip())
        strangers = (f"http://127.0.0.1:{port}/favicon.ico", f"http://127.0.0.1:{port}/?code=theirs&state=theirs")
        refused = [until(partial(status_of, address)) for address in strangers]
        assert status_of(location) == 200
        out, err = process.communicate(timeout=PATIENCE)

    assert process.returncode == 0, err
    assert refused == [400, 400]  # what belongs to another authorisation does not end the wait
    assert "Authorised" in out


def status_of(address: str) -> int:
    """Open an address, and return the status of the answer; 0 where nobody listens yet."""
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except urllib.error.URLError:
        return 0
