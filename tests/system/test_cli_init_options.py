"""`syncd init` with options only, as a script calls it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from syncd.config import service_places
from tests.system.shop import SECRET, Ran, Shop, call


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    made = tmp_path / "new"
    made.mkdir()
    return made


def init(shop: Shop, directory: Path, *args: str) -> Ran:
    secret = shop.directory / "webhook"
    secret.write_text(shop.server.webhook_url)
    secret.chmod(0o600)
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


@pytest.mark.parametrize("chosen", [(), ("--order-column", "number")])
def test_given_a_table_of_order_numbers_then_init_names_them_so_and_all_is_well(
    shop: Shop, empty: Path, chosen: tuple[str, ...]
) -> None:
    shop.sql("CREATE TABLE numbers (number TEXT PRIMARY KEY, deal_id INTEGER)")
    shop.sql("INSERT INTO numbers VALUES ('WEB-1', 11)")

    ran = init(shop, empty, "--table", "numbers", *chosen).check(0)

    written = (empty / "syncd.toml").read_text()
    assert 'columns = { order_number = "number", owner_type_id = 2, owner_id = "deal_id" }' in written
    assert "All is well." in ran.out


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


def test_given_a_password_in_an_option_then_init_refuses_it_and_writes_nothing(shop: Shop, empty: Path) -> None:
    ran = call("init", "--no-input", "--table-url", "postgresql://erp:marked-secret@db/erp", directory=empty).check(64)

    assert "--table-url-file" in ran.err
    assert "marked" not in ran.err
    assert not list(empty.iterdir())


def test_given_a_configuration_then_add_appends_a_link_and_keeps_every_line_that_was_there(
    shop: Shop, empty: Path
) -> None:
    init(shop, empty, "--no-check").check(0)
    before = "# mine, above\n" + (empty / "syncd.toml").read_text() + "# mine, below"
    (empty / "syncd.toml").write_text(before)
    shop.sql("CREATE TABLE others (order_id INTEGER PRIMARY KEY, deal_id INTEGER)")

    ran = init(shop, empty, "--add", "--link", "other", "--table", "others").check(0)

    after = (empty / "syncd.toml").read_text()
    assert after.startswith(before + "\n\n# One portal and one mapping table")
    assert stat.S_IMODE((empty / "syncd.toml").stat().st_mode) == 0o600
    assert [one.name for one in empty.iterdir() if one.name.startswith(".")] == []
    assert "shop and other both write to the CRM, and their scopes overlap" in ran.out
    assert "All is well; 1 warning." in ran.out
    assert "SIGHUP" in ran.out
    assert call("plan", "other", directory=empty).code == 2
    assert call("plan", "shop", directory=empty).code == 0


@pytest.mark.parametrize(
    ("name", "said", "code"),
    [("shop", "has a link shop already", 64), ("again", "connect the same portal and the same table", 78)],
)
def test_given_a_link_that_cannot_be_added_then_nothing_is_written(
    shop: Shop, empty: Path, name: str, said: str, code: int
) -> None:
    init(shop, empty, "--no-check").check(0)
    before = {path: path.read_bytes() for path in empty.rglob("*") if path.is_file()}

    ran = init(shop, empty, "--add", "--no-check", "--link", name).check(code)

    assert said in ran.err
    assert {path: path.read_bytes() for path in empty.rglob("*") if path.is_file()} == before


def test_given_a_configuration_that_cannot_be_appended_to_then_it_stays_as_it_is(
    shop: Shop, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    inline = (
        'links = { a = { portal = { webhook = "https://a.bitrix24.com/rest/1/x/" }, table = { url = "sqlite:///a.db", '
    )
    inline += 'name = "t", columns = { order_id = "a", owner_type_id = 2, owner_id = "b" } } } }\n'
    (empty / "syncd.toml").write_text(inline)
    monkeypatch.setattr("sys.stdin", io.StringIO(shop.server.webhook_url + "\n"))

    ran = init(shop, empty, "--add", "--no-check", "--link", "b", "--webhook-file", "-").check(78)

    assert "is not valid TOML" in ran.err
    assert [path.name for path in empty.rglob("*") if path.is_file()] == ["syncd.toml"]
    assert (empty / "syncd.toml").read_text() == inline


def test_given_a_place_in_etc_then_the_files_are_made_for_the_service_and_name_no_secret(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_places, "ROOT", tmp_path / "root")
    etc, home = tmp_path / "root/etc/syncd", tmp_path / "root/var/lib/syncd"
    etc.mkdir(parents=True)
    home.mkdir(parents=True)  # it is root's here, so nobody becomes another user
    (shop.directory / "state").write_text(f"sqlite:///{home}/other.db?timeout=5")

    first = init(shop, etc, "--config", str(etc / "syncd.toml")).check(0)
    more = ("--state-file", str(shop.directory / "state"), "--no-check")
    init(shop, etc, "--config", str(etc / "north.toml"), *more).check(0)

    written = (etc / "syncd.toml").read_text()
    assert f'url = "sqlite:///{home}/syncd.db"' in written
    assert (home / "syncd.db").exists()
    assert "\nwebhook" not in written
    assert "\nurl" in (etc / "north.toml").read_text()  # that of the table, which holds no secret
    assert (etc / "credentials/links__shop__portal__webhook").read_text().strip() == shop.server.webhook_url
    assert (etc / "north.credentials/state__url").read_text().startswith("sqlite:///")
    modes = [stat.S_IMODE((etc / name).stat().st_mode) for name in ("syncd.toml", "credentials", "north.credentials")]
    assert modes == [0o640, 0o700, 0o700]
    assert first.out.rstrip().endswith("sudo systemctl enable --now syncd.service")


def test_given_a_state_on_a_server_then_its_password_comes_from_a_file(shop: Shop, empty: Path) -> None:
    refused = init(shop, empty, "--state", "postgresql://syncd:marked-secret@db/state").check(64)
    assert "--state-file" in refused.err
    assert "marked" not in refused.err
    (shop.directory / "state").write_text("postgresql://syncd:marked-secret@127.0.0.1:1/state")
    (shop.directory / "state").chmod(0o600)

    ran = init(shop, empty, "--state-file", str(shop.directory / "state")).check(69)

    assert f'url_file = "{shop.directory}/state"' in (empty / "syncd.toml").read_text()
    assert "marked" not in (empty / "syncd.toml").read_text()
    assert ran.out.rstrip().endswith("syncd run")
    assert "Fix that, and check again:\n  syncd check shop" in ran.out


@pytest.mark.postgres
def test_given_a_fresh_state_database_on_a_server_then_init_ends_well_and_makes_it(
    shop: Shop, empty: Path, postgres_url: str
) -> None:
    ran = init(shop, empty, "--state", postgres_url).check(0)

    assert "the first command that needs them creates them" in ran.out
    assert "PROBLEM" not in ran.out
    assert call("db", "check", directory=empty).code == 0
