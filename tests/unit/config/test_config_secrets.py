"""Secrets that are missing, and those that a service in /etc/syncd has as credentials."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syncd.config import service_places
from syncd.config.load import load
from syncd.config.render import show
from syncd.errors import ConfigError
from tests.unit.config.conftest import Configuration, revealed

WEBHOOK = "https://example.bitrix24.com/rest/1/credential/"
TEXT = """
[links.shop.portal]

[links.shop.table]
name = "crm.order_bindings"
columns = { order_id = "order_id", owner_type_id = 2, owner_id = "deal_id" }
"""


class TestMissing:
    """A command that needs only the state database does not need the secrets of links."""

    def test_they_are_told_and_the_rest_is_loaded(self, configuration: Configuration) -> None:
        configuration.text = TEXT
        configuration.file.write_text(TEXT)
        loaded = load(configuration.file, {}, secrets=False)
        assert loaded.missing == (
            "links.shop.portal: needs a webhook (or webhook_file), or the table oauth",
            "links.shop.table: needs url or url_file, or the database in parts: host, database",
        )
        link = loaded.settings.links["shop"]
        assert (link.portal.has_address, link.table.name) == (False, "crm.order_bindings")
        assert "crm.order_bindings" in show(loaded)
        assert configuration.problems() == list(loaded.missing)

    @pytest.mark.parametrize(
        "more",
        [
            '[notify]\nwebhook_file = "away"\n',
            '[notify]\napprise_file = "away"\n',
            '[web]\npassword_file = "away"\n',
            '[state]\nkey_file = "away"\n',
            '[links.shop.portal]\noauth = { portal = "https://x.bitrix24.com", client_id = "x", client_secret_file = "away" }\n',
        ],
    )
    def test_a_file_that_cannot_be_read_is_one_as_well(self, configuration: Configuration, more: str) -> None:
        if "oauth" in more:
            configuration.without('[links.shop.portal]\nwebhook = "https://example.bitrix24.com/rest/1/filecode/"')
        configuration.file.write_text(configuration.more(more).text)
        (missing,) = load(configuration.file, {}, secrets=False).missing
        assert "_file: the file it names cannot be read: No such file or directory" in missing

    def test_the_state_database_is_needed_by_every_command(self, configuration: Configuration) -> None:
        configuration.file.write_text(configuration.more('[state]\nurl_file = "away"\n').text)
        with pytest.raises(ConfigError) as raised:
            load(configuration.file, {}, secrets=False)
        assert raised.value.problems[0].startswith("state.url_file: the file it names cannot be read")

    def test_what_is_wrong_besides_is_an_error_all_the_same(self, configuration: Configuration) -> None:
        configuration.file.write_text(TEXT + "nonsense = 1\n")
        with pytest.raises(ConfigError) as raised:
            load(configuration.file, {}, secrets=False)
        assert "links.shop.table.nonsense: unknown key" in raised.value.problems

    def test_two_links_over_the_same_ends_are_found_although_a_third_lacks_its_secret(
        self, configuration: Configuration
    ) -> None:
        again = configuration.text.replace("links.shop", "links.again")
        configuration.file.write_text(configuration.text + again + TEXT.replace("links.shop", "links.third"))
        with pytest.raises(ConfigError) as raised:
            load(configuration.file, {}, secrets=False)
        assert any("connect the same portal and the same table" in problem for problem in raised.value.problems)


def test_given_notifications_in_a_file_then_they_are_read(configuration: Configuration) -> None:
    (configuration.directory / "ways").write_text("json://alerts.example.com/CODE\n")
    loaded = configuration.more('[notify]\napprise_file = "ways"\n').load()
    assert revealed(loaded.settings.notify.apprise) == "json://alerts.example.com/CODE"


class TestService:
    """A configuration in /etc/syncd belongs to a service, and a command on it has the service's secrets."""

    @pytest.fixture
    def etc(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(service_places, "ROOT", tmp_path)
        folder = tmp_path / "etc/syncd"
        folder.mkdir(parents=True)
        return folder

    @pytest.mark.parametrize(
        ("name", "folder", "unit"),
        [
            ("syncd.toml", "credentials", "syncd.service"),
            ("my-shop.toml", "my-shop.credentials", "syncd@my-shop.service"),
        ],
    )
    def test_its_secrets_are_files_named_by_their_keys(self, etc: Path, name: str, folder: str, unit: str) -> None:
        (etc / name).write_text(TEXT)
        (etc / folder).mkdir()
        (etc / folder / "links__shop__portal__webhook").write_text(f"{WEBHOOK}\n")
        (etc / folder / "links__shop__table__url").write_text("sqlite:////srv/shop.db")
        (etc / folder / "README").write_text("no secret")
        loaded = load(etc / name, {})
        assert revealed(loaded.settings.links["shop"].portal.webhook) == WEBHOOK
        assert str(loaded.origin("links.shop.portal.webhook")) == "credential links__shop__portal__webhook"
        places = service_places.service_places(etc / name)
        assert places is not None
        assert places.unit == unit

    def test_an_applications_secret_is_one_as_well(self, etc: Path) -> None:
        oauth = '[links.shop.portal.oauth]\nportal = "https://example.bitrix24.com"\nclient_id = "local.1"\n'
        (etc / "syncd.toml").write_text(TEXT.replace("[links.shop.portal]\n", oauth))
        (etc / "credentials").mkdir()
        (etc / "credentials/links__shop__portal__oauth__client_secret").write_text("secret")
        (etc / "credentials/links__shop__table__url").write_text("sqlite:////srv/shop.db")
        (etc / "credentials/state__url").write_text("postgresql://syncd:secret@db/state")
        settings = load(etc / "syncd.toml", {}).settings
        oauth_settings = settings.links["shop"].portal.oauth
        assert oauth_settings is not None
        assert revealed(oauth_settings.client_secret) == "secret"
        assert settings.state.url.get_secret_value() == "postgresql://syncd:secret@db/state"

    def test_those_it_runs_with_count_too_and_newer_files_win(self, etc: Path, tmp_path: Path) -> None:
        (etc / "syncd.toml").write_text(TEXT)
        running = tmp_path / "run/credentials/syncd.service"
        running.mkdir(parents=True)
        (running / "syncd_links__shop__portal__webhook").write_text("https://old.bitrix24.com/rest/1/old/")
        (running / "links__shop__table__url").write_text("sqlite:////srv/shop.db")  # from a drop-in
        (etc / "credentials").mkdir()
        (etc / "credentials/links__shop__portal__webhook").write_text(WEBHOOK)
        link = load(etc / "syncd.toml", {}).settings.links["shop"]
        assert revealed(link.portal.webhook) == WEBHOOK
        assert revealed(link.table.url) == "sqlite:////srv/shop.db"

    def test_a_folder_that_systemd_names_is_the_only_one(self, etc: Path, tmp_path: Path) -> None:
        (etc / "syncd.toml").write_text(TEXT)
        (etc / "credentials").mkdir()
        (etc / "credentials/nonsense__key").write_text("x")
        named = tmp_path / "named"
        named.mkdir()
        (named / "syncd_links__shop__portal__webhook").write_text(WEBHOOK)
        (named / "links__shop__table__url").write_text("sqlite:////srv/shop.db")
        link = load(etc / "syncd.toml", {"CREDENTIALS_DIRECTORY": str(named)}).settings.links["shop"]
        assert revealed(link.portal.webhook) == WEBHOOK

    def test_a_configuration_elsewhere_has_no_service(self, tmp_path: Path) -> None:
        assert service_places.service_places(tmp_path / "syncd.toml") is None
        assert service_places.service_places(service_places.ROOT / "etc/syncd/notes.txt") is None

    @pytest.mark.skipif(os.geteuid() != 0, reason="others are told to use sudo")
    def test_root_is_told_where_they_belong(self, etc: Path) -> None:
        (etc / "syncd.toml").write_text(TEXT)
        (etc / "credentials").mkdir()
        with pytest.raises(ConfigError) as raised:
            load(etc / "syncd.toml", {})
        assert f"in {etc}/credentials that is named by its key" in raised.value.hint
        assert "while syncd.service runs" in raised.value.hint

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
    def test_who_may_not_read_them_is_told_to_use_sudo(self, etc: Path) -> None:
        for folder in (etc, *list(etc.parents)[:5]):
            folder.chmod(folder.stat().st_mode | 0o055)
        (etc / "syncd.toml").write_text(TEXT)
        (etc / "credentials").mkdir(mode=0o700)
        os.seteuid(65534)
        try:
            loaded = load(etc / "syncd.toml", {}, secrets=False)
            with pytest.raises(ConfigError) as raised:
                loaded.require_secrets()
        finally:
            os.seteuid(0)
        assert raised.value.hint == "Only root may read the credentials of syncd.service: run the command with sudo."

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
    def test_who_may_not_look_into_the_folder_is_told_so(self, etc: Path) -> None:
        (etc / "syncd.toml").write_text(TEXT)
        etc.chmod(0o700)
        os.seteuid(65534)
        try:
            with pytest.raises(ConfigError, match="This user may not look into") as raised:
                load(None, {}, searched=[etc / "syncd.toml"])
        finally:
            os.seteuid(0)
        assert "sudo" in raised.value.hint
