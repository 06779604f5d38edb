"""Where the configuration is found, and which source wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from syncd.config.load import load
from syncd.config.model import Settings
from syncd.config.sources import Origin, Source, read_secret
from syncd.config.urls import sqlite_file
from syncd.errors import ConfigError
from tests.unit.config.conftest import Configuration, revealed


def write(path: Path) -> Path:
    path.write_text("")
    return path


class TestFinding:
    def test_the_file_named_on_the_command_line_wins(self, tmp_path: Path) -> None:
        named, other = write(tmp_path / "named.toml"), write(tmp_path / "other.toml")
        assert load(named, {"SYNCD_CONFIG": str(other)}, searched=[other]).path == named

    def test_then_the_one_the_environment_names(self, tmp_path: Path) -> None:
        named, usual = write(tmp_path / "named.toml"), write(tmp_path / "usual.toml")
        assert load(None, {"SYNCD_CONFIG": str(named)}, searched=[usual]).path == named

    def test_then_the_first_usual_place_that_has_one(self, tmp_path: Path) -> None:
        second, third = write(tmp_path / "second.toml"), write(tmp_path / "third.toml")
        assert load(None, {}, searched=[tmp_path / "first.toml", second, third]).path == second

    def test_the_usual_places_begin_with_the_current_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(tmp_path / "syncd.toml")
        monkeypatch.chdir(tmp_path)
        assert load(None, {}).path.name == "syncd.toml"

    @pytest.mark.parametrize("how", ["--config", "SYNCD_CONFIG"])
    def test_a_named_file_that_does_not_exist_is_an_error_even_where_a_usual_one_does(
        self, tmp_path: Path, how: str
    ) -> None:
        usual, missing = write(tmp_path / "usual.toml"), tmp_path / "missing.toml"
        flag, environ = (missing, {}) if how == "--config" else (None, {"SYNCD_CONFIG": str(missing)})
        with pytest.raises(ConfigError, match=f"missing.toml, which {how} names"):
            load(flag, environ, searched=[usual])

    def test_no_file_at_all_says_where_it_looked_and_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"none of these exists: .*first\.toml") as raised:
            load(None, {"SYNCD_CONFIG": ""}, searched=[tmp_path / "first.toml"])
        assert "syncd init" in raised.value.hint
        assert raised.value.exit_code == 78


class TestReading:
    def test_broken_toml_is_reported_with_its_line(self, configuration: Configuration) -> None:
        configuration.text = "[state]\nurl 'x'\n"
        (problem,) = configuration.problems()
        assert "syncd.toml: is not valid TOML" in problem
        assert "line 2" in problem

    @pytest.mark.parametrize("given", [None, "[log]\nlevel = 'debug'\n"])
    def test_a_byte_order_mark_of_a_windows_editor_is_no_part_of_the_text(
        self, configuration: Configuration, given: str | None
    ) -> None:
        configuration.file.write_bytes(b"\xef\xbb\xbf[log]\r\nlevel = 'debug'\r\n")

        loaded = load(configuration.file, {}, text=None if given is None else f"\ufeff{given}")

        assert loaded.settings.log.level == "debug"

    def test_bytes_that_are_no_text_are_reported(self, configuration: Configuration) -> None:
        configuration.file.write_bytes(b"a = '\xff'")
        with pytest.raises(ConfigError) as raised:
            load(configuration.file, {})
        assert raised.value.problems[0].endswith("is not UTF-8 text (at byte 5)")

    def test_an_absurd_number_is_reported_and_no_crash(self, configuration: Configuration) -> None:
        configuration.text = f"a = {'1' * 5000}"
        assert "is not valid TOML" in configuration.problems()[0]

    def test_a_directory_in_place_of_the_file_is_reported(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as raised:
            load(tmp_path, {})
        assert raised.value.problems == (f"{tmp_path}: cannot be read: Is a directory",)

    def test_an_empty_file_gives_the_defaults(self, configuration: Configuration) -> None:
        configuration.text = ""
        state = {"url": f"sqlite:///{configuration.directory}/syncd.db"}
        assert configuration.load().settings == Settings.model_validate({"state": state})


class TestSqliteFiles:
    """A relative path counts from the configuration's folder, wherever a command is run."""

    @pytest.fixture(autouse=True)
    def elsewhere(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))

    def test_the_state_and_the_table_count_from_the_folder_of_the_configuration(
        self, configuration: Configuration
    ) -> None:
        configuration.replace("postgresql://syncd:filepassword@db.example.com/shop", "sqlite:///data/erp.db")
        configuration.more('[state]\nurl = "sqlite:///state/syncd.db"\n')
        settings = configuration.load().settings
        assert settings.state.url.get_secret_value() == f"sqlite:///{configuration.directory}/state/syncd.db"
        assert settings.links["shop"].table.database_identity == f"sqlite:///{configuration.directory}/data/erp.db"

    def test_so_do_the_default_and_what_the_environment_says(self, configuration: Configuration) -> None:
        assert (
            configuration.load().settings.state.url.get_secret_value().endswith(f"{configuration.directory}/syncd.db")
        )
        configuration.variable("SYNCD_STATE__URL", "sqlite:///other.db")
        assert (
            configuration.load().settings.state.url.get_secret_value().endswith(f"{configuration.directory}/other.db")
        )

    def test_a_folder_of_any_name_is_written_as_a_url_wants_it(self, tmp_path: Path) -> None:
        folder = tmp_path / "a b%20?c"
        folder.mkdir()
        url = load(write(folder / "syncd.toml"), {}).settings.state.url.get_secret_value()
        assert sqlite_file(url) == folder / "syncd.db"

    def test_an_absolute_path_and_a_server_stay_as_they_are(self, configuration: Configuration) -> None:
        configuration.more('[state]\nurl = "sqlite:////var/lib/syncd/syncd.db"\n')
        loaded = configuration.load()
        assert loaded.settings.state.url.get_secret_value() == "sqlite:////var/lib/syncd/syncd.db"
        assert loaded.settings.links["shop"].table.database_identity == "postgresql://db.example.com:5432/shop"

    def test_a_state_database_left_in_the_current_directory_is_not_forgotten_in_silence(
        self, configuration: Configuration
    ) -> None:
        write(Path("syncd.db"))
        (problem,) = configuration.problems()
        assert problem.startswith("state.url: is relative to the folder of the configuration, where there is no")
        assert f"{Path.cwd()}/syncd.db" in problem
        write(configuration.directory / "syncd.db")
        configuration.load()


class TestPrecedence:
    """Flags over environment over credentials over the file over defaults."""

    def test_each_source_wins_over_the_one_below_it(self, configuration: Configuration) -> None:
        level, origin = "log.level", "log.level"
        assert str(configuration.load().origin(level)) == "default"

        configuration.more('[log]\nlevel = "error"\n')
        assert configuration.load().settings.log.level == "error"
        assert configuration.load().origin(origin) == Origin(Source.FILE, str(configuration.file))

        configuration.credential("log__level", "warning\n")
        assert configuration.load().settings.log.level == "warning"
        assert str(configuration.load().origin(origin)) == "credential log__level"

        configuration.variable("SYNCD_LOG__LEVEL", "info")
        assert configuration.load().settings.log.level == "info"
        assert str(configuration.load().origin(origin)) == "environment SYNCD_LOG__LEVEL"

        assert configuration.load({"log.level": "debug"}).settings.log.level == "debug"
        assert str(configuration.load({"log.level": "debug"}).origin(origin)) == "flag --log-level"

    def test_a_flag_not_given_changes_nothing(self, configuration: Configuration) -> None:
        assert configuration.load({"log.level": None}).settings.log.level == "info"


class TestEnvironment:
    def test_a_link_is_named_in_any_case(self, configuration: Configuration) -> None:
        configuration.replace("links.shop", "links.Shop").variable("SYNCD_LINKS__SHOP__PLAN_TTL", "2h")
        assert configuration.load().settings.links["Shop"].plan_ttl_seconds == 7200

    @pytest.mark.parametrize("name", ["my-shop", "my_shop", "my__shop", "MY-Shop--"])
    def test_a_link_with_dashes_or_underscores_is_named_with_underscores(
        self, configuration: Configuration, name: str
    ) -> None:
        variable = f"SYNCD_LINKS__{name.upper().replace('-', '_')}__PLAN_TTL"
        configuration.replace("links.shop", f"links.{name}").variable(variable, "2h")
        assert configuration.load().settings.links[name].plan_ttl_seconds == 7200

    def test_of_two_links_that_fit_the_longer_name_is_meant(self, configuration: Configuration) -> None:
        configuration.more(configuration.text.replace("links.shop", "links.shop__two").replace("/shop", "/other"))
        configuration.variable("SYNCD_LINKS__SHOP__TWO__PLAN_TTL", "2h")
        links = configuration.load().settings.links
        assert [link.plan_ttl for link in links.values()] == ["24h", "2h"]

    def test_a_name_that_means_two_links_alike_is_refused(self, configuration: Configuration) -> None:
        configuration.more(configuration.text.replace("links.shop", "links.SHOP").replace("/shop", "/other"))
        configuration.variable("SYNCD_LINKS__SHOP__PLAN_TTL", "2h")
        assert configuration.problems() == [
            "links.shop: the name matches shop and SHOP; set it in the file (environment SYNCD_LINKS__SHOP__PLAN_TTL)"
        ]

    @pytest.mark.parametrize("text", ["[2, 31]", "[2,31]"])
    def test_a_list_is_written_as_json_or_toml(self, configuration: Configuration, text: str) -> None:
        configuration.variable("SYNCD_LINKS__SHOP__OWNER_TYPES", text)
        assert configuration.load().settings.links["shop"].owner_types == [2, 31]

    @pytest.mark.parametrize("text", ['{"source": "web", "n": 1}', '{source = "web", n = 1}'])
    def test_a_table_is_written_as_json_or_toml_and_replaces_the_lower_one(
        self, configuration: Configuration, text: str
    ) -> None:
        configuration.table('extra = { other = "x" }').variable("SYNCD_LINKS__SHOP__TABLE__EXTRA", text)
        loaded = configuration.load()
        assert loaded.settings.links["shop"].table.extra == {"source": "web", "n": 1}
        assert loaded.origin("links.shop.table.extra.source").source is Source.ENVIRONMENT

    def test_an_empty_table_leaves_nothing_of_the_lower_one(self, configuration: Configuration) -> None:
        configuration.table('extra = { other = "x" }').variable("SYNCD_LINKS__SHOP__TABLE__EXTRA", "{}")
        loaded = configuration.load()
        assert loaded.settings.links["shop"].table.extra == {}
        assert "links.shop.table.extra.other" not in loaded.origins

    def test_one_entry_of_a_table_can_be_set(self, configuration: Configuration) -> None:
        configuration.variable("SYNCD_LINKS__SHOP__TABLE__COLUMNS__OWNER_TYPE_ID", "31")
        configuration.variable("SYNCD_LINKS__SHOP__TABLE__COLUMNS__OWNER_ID", "invoice_id")
        configuration.link("owner_types = [31]")
        assert configuration.load().settings.links["shop"].table.columns == {
            "order_id": "order_id",
            "owner_type_id": 31,
            "owner_id": "invoice_id",
        }

    def test_numbers_and_booleans_are_read_from_text(self, configuration: Configuration) -> None:
        configuration.variable("SYNCD_LINKS__SHOP__VERIFY_OWNERS", "false")
        configuration.variable("SYNCD_LINKS__SHOP__GUARDS__MAX_REMOVES", "7")
        configuration.variable("SYNCD_LINKS__SHOP__PORTAL__RATE_SHARE", "0.5")
        link = configuration.load().settings.links["shop"]
        assert (link.verify_owners, link.guards.max_removes, link.portal.rate_share) == (False, 7, 0.5)

    @pytest.mark.parametrize(
        "name",
        [
            "SYNCD_PORT_9464_TCP", "SYNCD_PORT_9464_TCP_ADDR", "SYNCD_SERVICE_HOST", "SYNCD_SERVICE_PORT_WEB",
            "SYNCD_STANDBY_PORT", "SYNCD_STANDBY_SERVICE_HOST", "OTHER__KEY",
        ],
    )  # fmt: skip
    def test_what_kubernetes_says_of_a_service_named_syncd_is_left_alone(
        self, configuration: Configuration, name: str
    ) -> None:
        configuration.variable(name, "tcp://10.0.0.1").load()

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("SYNCD_CONFG", "; did you mean SYNCD_CONFIG?"),
            ("SYNCD_LOG_LEVEL", "; did you mean SYNCD_LOG__LEVEL?"),
            ("SYNCD_STATE_URL", "; did you mean SYNCD_STATE__URL?"),
            ("SYNCD_LINKS_SHOP_PORTAL_WEBHOOK", "; did you mean SYNCD_LINKS__SHOP__PORTAL__WEBHOOK?"),
            ("SYNCD_STATE__ULR", None),
            ("SYNCD_QQ", "; SYNCD_SECTION__KEY sets a key"),
        ],
    )
    def test_a_misspelt_variable_is_told_with_the_one_that_may_be_meant(
        self, configuration: Configuration, name: str, meant: str | None
    ) -> None:
        (problem,) = configuration.variable(name, "x").problems()
        expected = "state.ulr: unknown key; did you mean url? (environment SYNCD_STATE__ULR)"
        assert problem == (expected if meant is None else f"{name}: is not a variable of syncd{meant}")

    @pytest.mark.parametrize(
        ("name", "problem"),
        [
            ("SYNCD_LINKS__SHOP__PORTL__WEBHOOK", "links.shop.portl: unknown key; did you mean portal?"),
            ("SYNCD_LINKS__SHOP__PORTAL__WEBHOK", "links.shop.portal.webhok: unknown key; did you mean webhook?"),
            ("SYNCD_LINKS__SHPO__PORTAL__WEBHOOK", "links.shpo: the file has no such link; did you mean shop?"),
            ("SYNCD_STAT__URL", "stat: unknown key; did you mean state?"),
            ("SYNCD_LOG__LEVEL__X", "log.level.x: unknown key"),
            ("SYNCD_LINKS__SHOP__PORTAL", "links.shop.portal: is a table; name one of its keys"),
            ("SYNCD_LINKS__SHOP", "links.shop: is a table; name one of its keys"),
        ],
    )
    def test_a_variable_that_leads_nowhere_is_an_error(
        self, configuration: Configuration, name: str, problem: str
    ) -> None:
        assert configuration.variable(name, "x").problems() == [f"{problem} (environment {name})"]

    def test_problems_come_in_the_same_order_whatever_the_environments(self, configuration: Configuration) -> None:
        configuration.variable("SYNCD_B__X", "").variable("SYNCD_A__X", "")
        assert [problem[0] for problem in configuration.problems()] == ["a", "b"]

    def test_a_value_that_does_not_fit_names_the_variable(self, configuration: Configuration) -> None:
        configuration.variable("SYNCD_LINKS__SHOP__OWNER_TYPES", "deals")
        assert configuration.problems() == [
            "links.shop.owner_types: must be a list (environment SYNCD_LINKS__SHOP__OWNER_TYPES)"
        ]

    def test_a_value_below_what_the_file_spoilt_is_not_reported_twice(self, configuration: Configuration) -> None:
        configuration.text = "log = 5\n"
        assert configuration.variable("SYNCD_LOG__LEVEL", "debug").problems() == ["log: must be a table"]


class TestCredentials:
    def test_a_credential_is_read_without_white_space_at_its_end(self, configuration: Configuration) -> None:
        configuration.credential("links__shop__portal__webhook", "https://example.bitrix24.com/rest/1/other/\n\n")
        loaded = configuration.load()
        assert revealed(loaded.settings.links["shop"].portal.webhook).endswith("/rest/1/other/")
        assert str(loaded.origin("links.shop.portal.webhook")) == "credential links__shop__portal__webhook"

    def test_files_of_others_in_the_directory_are_left_alone(self, configuration: Configuration) -> None:
        configuration.credential("tls.key", "x").load()

    def test_a_credential_that_leads_nowhere_is_an_error(self, configuration: Configuration) -> None:
        configuration.credential("portal__webhook_url", "x")
        assert configuration.problems() == ["portal: unknown key (credential portal__webhook_url)"]

    @pytest.mark.parametrize(
        ("content", "what"),
        [
            (b"", "is empty"),
            (b" \n", "is empty"),
            (b"\xff", "is not UTF-8 text"),
            (b"x" * 70_000, "is larger than 64 KiB"),
        ],
    )
    def test_a_credential_that_can_be_no_secret_is_an_error(
        self, configuration: Configuration, content: Any, what: str
    ) -> None:
        configuration.credential("state__url", "x")
        (configuration.directory / "credentials" / "state__url").write_bytes(content)
        (problem,) = configuration.problems()
        assert problem.startswith(f"state__url: {what}")

    def test_a_directory_that_cannot_be_read_is_an_error(self, configuration: Configuration) -> None:
        configuration.variable("CREDENTIALS_DIRECTORY", "/nowhere/at/all")
        assert configuration.problems() == [
            "/nowhere/at/all: the credentials directory cannot be read: No such file or directory"
        ]


class TestSecretFiles:
    WEBHOOK = 'webhook = "https://example.bitrix24.com/rest/1/filecode/"'
    URL = 'url = "postgresql://syncd:filepassword@db.example.com/shop"'

    def test_a_file_beside_the_configuration_gives_the_secret(self, configuration: Configuration) -> None:
        (configuration.directory / "hook").write_text("https://example.bitrix24.com/rest/7/fromfile/\n")
        configuration.replace(self.WEBHOOK, 'webhook_file = "hook"')
        loaded = configuration.load()
        portal = loaded.settings.links["shop"].portal
        assert revealed(portal.webhook) == "https://example.bitrix24.com/rest/7/fromfile/"
        assert portal.webhook_file is None
        assert str(loaded.origin("links.shop.portal.webhook")) == f"secret file {configuration.directory / 'hook'}"

    def test_a_byte_order_mark_is_no_part_of_a_secret(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"\xef\xbb\xbfs3cret\r\n")
        (tmp_path / "nothing").write_bytes(b"\xef\xbb\xbf\r\n")

        assert read_secret(tmp_path / "secret") == "s3cret"
        with pytest.raises(ValueError, match="is empty"):
            read_secret(tmp_path / "nothing")

    def test_an_absolute_path_counts_as_it_stands(
        self, configuration: Configuration, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        file = tmp_path_factory.mktemp("elsewhere") / "url"
        file.write_text("sqlite:////srv/shop.db")
        configuration.replace(self.URL, f'url_file = "{file}"')
        assert configuration.load().settings.links["shop"].table.database_identity == "sqlite:////srv/shop.db"

    def test_every_secret_may_stand_in_a_file(self, configuration: Configuration) -> None:
        (configuration.directory / "s").write_text("sqlite:///s.db")
        (configuration.directory / "n").write_text("https://alerts.example.com/x")
        (configuration.directory / "c").write_text("hush")
        configuration.without(self.WEBHOOK)
        configuration.more('[state]\nurl_file = "s"\n[notify]\nwebhook_file = "n"\n')
        configuration.more('[links.shop.portal.oauth]\nportal = "a.b"\nclient_id = "x"\nclient_secret_file = "c"\n')
        settings = configuration.load().settings
        oauth = settings.links["shop"].portal.oauth
        assert settings.state.url.get_secret_value() == f"sqlite:///{configuration.directory}/s.db"
        assert revealed(settings.notify.webhook) == "https://alerts.example.com/x"
        assert oauth is not None
        assert (revealed(oauth.client_secret), oauth.portal) == ("hush", "https://a.b")

    def test_a_file_that_cannot_be_read_is_a_problem_of_its_key_and_no_other(
        self, configuration: Configuration
    ) -> None:
        configuration.replace(self.WEBHOOK, 'webhook_file = "hook"')
        (problem,) = configuration.problems()
        assert problem.startswith("links.shop.portal.webhook_file: the file it names cannot be read: No such file")
        assert problem.endswith(f"; relative names count from {configuration.directory}")

    def test_where_relative_names_count_from_is_said_of_relative_names_only(self, configuration: Configuration) -> None:
        configuration.replace(self.WEBHOOK, 'webhook_file = "/nowhere/hook"')
        assert configuration.problems()[0].endswith("cannot be read: No such file or directory")

    def test_what_stands_in_the_file_is_checked_and_the_file_named(self, configuration: Configuration) -> None:
        (configuration.directory / "hook").write_text("nonsense")
        configuration.replace(self.WEBHOOK, 'webhook_file = "hook"')
        (problem,) = configuration.problems()
        assert problem.startswith("links.shop.portal.webhook: must be a web address")
        assert problem.endswith(f"(secret file {configuration.directory / 'hook'})")

    @pytest.mark.parametrize(
        ("section", "lines", "problem"),
        [
            (
                "portal",
                'webhook_file = "x"',
                "links.shop.portal.webhook_file: is given together with webhook; keep one of them",
            ),
            ("table", 'url_file = "x"', "links.shop.table.url_file: is given together with url; keep one of them"),
        ],
    )
    def test_the_secret_and_its_file_in_one_source_are_refused(
        self, configuration: Configuration, section: str, lines: str, problem: str
    ) -> None:
        assert getattr(configuration, section)(lines).problems() == [problem]

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ('[state]\nurl = "sqlite:///a.db"\nurl_file = "x"', "state.url_file: is given together with url"),
            (
                '[notify]\nwebhook = "https://a.b/"\nwebhook_file = "x"',
                "notify.webhook_file: is given together with webhook",
            ),
        ],
    )
    def test_so_are_they_in_the_other_tables(self, configuration: Configuration, text: str, problem: str) -> None:
        assert configuration.more(text).problems()[0].startswith(problem)

    def test_a_higher_source_may_replace_a_file_by_the_secret_itself(self, configuration: Configuration) -> None:
        configuration.replace(self.WEBHOOK, 'webhook_file = "not-there"')
        configuration.variable("SYNCD_LINKS__SHOP__PORTAL__WEBHOOK", "https://example.bitrix24.com/rest/1/env/")
        assert configuration.load().settings.links["shop"].portal.webhook is not None

    def test_and_the_secret_itself_by_a_file(self, configuration: Configuration) -> None:
        (configuration.directory / "hook").write_text("https://example.bitrix24.com/rest/7/fromfile/\n")
        configuration.variable("SYNCD_LINKS__SHOP__PORTAL__WEBHOOK_FILE", "hook")
        loaded = configuration.load()
        assert revealed(loaded.settings.links["shop"].portal.webhook).endswith("/rest/7/fromfile/")
