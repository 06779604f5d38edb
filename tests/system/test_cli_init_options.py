"""`syncd init` with options only, as a script calls it."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.shop import SECRET, Shop, call, open_shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path, {1: 11, 2: 12, 3: 13}, orders=range(1, 100)) as made:
        made.create_table([(1, 11), (2, 12), (3, 13)])
        yield made


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    made = tmp_path / "new"
    made.mkdir()
    return made


def init(shop: Shop, directory: Path, *args: str):
    secret = shop.directory / "webhook"
    secret.write_text(shop.server.webhook_url)
    wanted = ("--webhook-file", str(secret), "--table-url", f"sqlite:///{shop.file}", "--table", "bindings")
    return call("init", "--no-input", *wanted, *args, directory=directory)


def test_given_options_then_init_writes_a_commented_file_checks_it_and_shows_the_first_plan(
    shop: Shop, empty: Path
) -> None:
    shop.sql("INSERT INTO bindings VALUES (4, 14)")

    ran = init(shop, empty).check(0)

    written = (empty / "syncd.toml").read_text()
    assert 'columns = { order_id = "order_id", owner_type_id = 2, owner_id = "deal_id" }' in written
    assert "# The request limits" in written
    assert SECRET not in written
    assert "All is well." in ran.out
    assert "unbound → deal 14" in ran.out
    assert call("plan", directory=empty).code == 2


def test_given_a_file_that_is_there_then_init_never_overwrites_it(shop: Shop, empty: Path) -> None:
    (empty / "syncd.toml").write_text("mine")

    ran = init(shop, empty).check(64)

    assert "never overwrites" in ran.err
    assert (empty / "syncd.toml").read_text() == "mine"


def test_given_a_secret_on_standard_input_then_it_gets_a_file_only_its_owner_may_read(
    shop: Shop, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(shop.server.webhook_url + "\n"))
    init(shop, empty, "--webhook-file", "-", "--no-check").check(0)

    secret = empty / "credentials" / "shop-webhook"
    assert secret.read_text().strip() == shop.server.webhook_url
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_given_too_few_options_and_nobody_to_ask_then_init_names_all_that_is_missing(empty: Path) -> None:
    ran = call("init", "--no-input", directory=empty).check(64)

    assert "--webhook-file, --table-url or --table-url-file, --table" in ran.err
    assert list(empty.iterdir()) == []


def test_given_answers_that_are_no_configuration_then_init_writes_nothing(shop: Shop, empty: Path) -> None:
    ran = init(shop, empty, "--schedule", "now and then").check(78)

    assert "links.shop.schedule" in ran.err
    assert list(empty.iterdir()) == []


def test_given_a_table_that_is_not_there_then_init_names_those_there_are(shop: Shop, empty: Path) -> None:
    ran = init(shop, empty, "--table", "mapping").check(64)

    assert "Its tables: bindings." in ran.err
