"""What others ask of the settings: policies, seconds, addresses; and how the values in force are shown."""

from __future__ import annotations

import ast
import json
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from syncd.config import keys
from syncd.config.model import DaemonSettings, GuardSettings, LinkSettings, PortalSettings, TableSettings, WebSettings
from syncd.config.render import effective, mask_url, secret_values, show
from syncd.config.schedule import Interval, parse_schedule
from syncd.core.guards import GuardLimits
from syncd.core.model import Direction, OnConflict, Policy, Scope
from tests.unit.config.conftest import Configuration

COLUMNS: dict[str, str | int | dict[str, Any]] = {"order_id": "a", "owner_type_id": "b", "owner_id": "c"}


class TestLink:
    def test_its_policy_is_what_the_core_decides_by(self, configuration: Configuration) -> None:
        configuration.link('direction = "crm-to-table"\non_conflict = "table"\nowner_types = [2, 31]\norders = [5, 9]')
        assert configuration.load().settings.links["shop"].policy() == Policy(
            Direction.CRM_TO_TABLE, OnConflict.TABLE, Scope(frozenset({2, 31}), 5, 9)
        )

    def test_without_a_range_its_scope_is_open(self, configuration: Configuration) -> None:
        assert configuration.load().settings.links["shop"].scope() == Scope(frozenset({2}))

    def test_its_schedule_is_parsed_and_its_plans_live_a_day(self, configuration: Configuration) -> None:
        link = configuration.link('schedule = "1h30m"').load().settings.links["shop"]
        assert link.schedule == Interval(5400)
        assert link.plan_ttl_seconds == 86400

    def test_given_a_guard_then_it_has_a_key_and_the_key_sets_its_limit(self) -> None:
        given = {name: limit + 1 for name, limit in asdict(GuardLimits()).items()}
        assert set(GuardSettings.model_fields) == set(given)
        assert GuardSettings(**given).limits() == GuardLimits(**given)
        assert GuardSettings().limits() == GuardLimits()

    def test_without_a_schedule_it_has_none(self, configuration: Configuration) -> None:
        assert configuration.load().settings.links["shop"].schedule is None

    def test_settings_may_be_made_of_parsed_values(self) -> None:
        portal, table = (
            PortalSettings(webhook=SecretStr("https://a.b/rest/1/x/")),
            TableSettings(url=SecretStr("sqlite://"), name="t", columns=COLUMNS),
        )
        assert LinkSettings(portal=portal, table=table, schedule=Interval(60)).schedule == Interval(60)

    def test_settings_do_not_change_once_read(self, configuration: Configuration) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            configuration.load().settings.links["shop"].plan_ttl = "1h"

    def test_settings_survive_being_dumped_and_read_again(self, configuration: Configuration) -> None:
        link = configuration.link('schedule = "0 3 * * 1"').load().settings.links["shop"]
        assert type(link).model_validate(link.model_dump()) == link


class TestEnds:
    def test_a_portal_is_known_by_its_host(self) -> None:
        assert PortalSettings(webhook=SecretStr("https://A.bitrix24.com/rest/1/x/")).address == "a.bitrix24.com"
        assert PortalSettings(webhook=SecretStr("http://127.0.0.1:8080/rest/1/x/")).address == "127.0.0.1:8080"

    def test_a_secret_still_in_its_file_is_not_guessed(self) -> None:
        with pytest.raises(ValueError, match="has not been read"):
            _ = PortalSettings(webhook_file="x").address
        with pytest.raises(ValueError, match="has not been read"):
            _ = TableSettings(url_file="x", name="t", columns=COLUMNS).database_identity


class TestDaemon:
    def test_without_jitter_passes_begin_on_time(self) -> None:
        assert DaemonSettings().jitter_seconds(Interval(300)) == 0

    def test_jitter_is_at_most_a_tenth_of_an_interval(self) -> None:
        daemon = DaemonSettings(jitter="30s")
        assert daemon.jitter_seconds(Interval(60)) == 6
        assert daemon.jitter_seconds(Interval(3600)) == 30

    def test_jitter_of_a_cron_expression_is_what_it_says(self) -> None:
        assert DaemonSettings(jitter="2m").jitter_seconds(parse_schedule("* * * * *")) == 120

    def test_a_known_time_zone_is_accepted(self) -> None:
        assert DaemonSettings(timezone="Europe/Berlin").timezone == "Europe/Berlin"


class TestWeb:
    def test_where_to_listen_is_ready_for_a_socket(self) -> None:
        assert WebSettings(listen="[::1]:9464").address == ("::1", 9464)
        assert WebSettings().address is None


class TestShown:
    def test_each_value_in_force_has_its_origin(self, configuration: Configuration) -> None:
        configuration.link('schedule = "5m"').variable("SYNCD_LINKS__SHOP__ORDERS", "[1, 9]")
        shown = {one.key: one for one in effective(configuration.load({"log.level": "debug"}))}
        assert shown["links.shop.schedule"][1:] == ("5m", f"file {configuration.file}")
        assert shown["links.shop.orders"][1:] == ([1, 9], "environment SYNCD_LINKS__SHOP__ORDERS")
        assert shown["log.level"][1:] == ("debug", "flag --log-level")
        assert shown["links.shop.guards.max_removes"][1:] == (100, "default")
        assert shown["links.shop.table.columns.owner_type_id"].value == 2

    def test_what_is_left_out_and_has_no_default_is_not_shown(self, configuration: Configuration) -> None:
        assert "web.listen" not in {one.key for one in effective(configuration.load())}

    def test_it_is_ready_for_json(self, configuration: Configuration) -> None:
        configuration.table("extra = { since = 2024-01-01 }").link("orders = [1, 9]")
        assert json.dumps([one._asdict() for one in effective(configuration.load())])

    def test_as_text_it_is_toml_with_the_origin_as_a_comment(self, configuration: Configuration) -> None:
        text = show(configuration.load())
        assert tomllib.loads(text)["links"]["shop"]["table"]["name"] == "crm.order_bindings"
        state = f'"sqlite:///{configuration.directory}/syncd.db"'
        assert text.splitlines()[0].split() == ["state.url", "=", state, "#", "default"]

    def test_secrets_are_masked(self, configuration: Configuration) -> None:
        configuration.more('[notify]\nwebhook = "https://alerts.example.com/hooks/hookcode?x=y"\n')
        configuration.variable("SYNCD_STATE__URL", "mysql+pymysql://u:statepassword@[::1]:3307/s?ssl_ca=a&charset=utf8")
        text = show(configuration.load())
        assert 'links.shop.portal.webhook = "https://example.bitrix24.com/rest/1/***"' in text
        assert 'links.shop.table.url = "postgresql://syncd:***@db.example.com/shop"' in text
        assert 'state.url = "mysql+pymysql://u:***@[::1]:3307/s?ssl_ca=***&charset=utf8"' in text
        assert 'notify.webhook = "https://alerts.example.com/***"' in text
        for secret in ("filecode", "filepassword", "hookcode", "statepassword"):
            assert secret not in text

    def test_an_applications_secret_is_masked_altogether(self, configuration: Configuration) -> None:
        configuration.without('webhook = "https://example.bitrix24.com/rest/1/filecode/"')
        configuration.more('[links.shop.portal.oauth]\nportal = "a.b"\nclient_id = "x"\nclient_secret = "hush"\n')
        assert 'links.shop.portal.oauth.client_secret = "***"' in show(configuration.load())


class TestSecrets:
    def test_every_secret_is_listed_for_redaction(self, configuration: Configuration) -> None:
        configuration.replace("filepassword", "p%40ss+word")
        configuration.more('[notify]\nwebhook = "https://alerts.example.com/hooks/hookcode?x=y"\n')
        configuration.variable("SYNCD_STATE__URL", "postgresql://u@h/s?password=statepassword&sslmode=require")
        assert set(secret_values(configuration.load().settings)) == {
            "filecode",
            "p@ss+word",
            "p%40ss%2Bword",
            "hooks/hookcode?x=y",
            "statepassword",
        }

    def test_no_key_that_holds_a_secret_is_left_out(self, configuration: Configuration) -> None:
        marks = {
            "state.key": "QUFB" * 10 + "QUE=", "links.shop.hook_token": "mark" * 5, "web.password": "mark-of-the-page",
            "notify.webhook": "https://x.example/mark-of-notices", "notify.apprise": "tgram://mark-of-apprise/1",
            "links.shop.ping": "https://x.example/mark-of-a-ping", "links.shop.table.url": "mysql://u:mark-of-it@h/d",
            "links.shop.portal.webhook": "https://x.example/rest/1/markofaportal/",
            "state.url": "mysql://u:mark-of-state@h/d",
        }  # fmt: skip
        elsewhere = {"links.shop.portal.oauth.client_secret", "state.password", "links.shop.table.password"}
        secret = {
            keys.dotted(path)
            for path in keys.plain_keys(["shop"])
            if "SecretStr" in str(keys.annotation_at(path)) and "oauth" not in path
        }
        assert secret - elsewhere == set(marks)
        configuration.replace('url = "postgresql://syncd:filepassword@db.example.com/shop"', "")
        configuration.replace('webhook = "https://example.bitrix24.com/rest/1/filecode/"', "")
        for key, value in marks.items():
            configuration.variable("SYNCD_" + key.upper().replace(".", "__"), value)
        listed = set(secret_values(configuration.load().settings))
        assert [key for key, value in marks.items() if not any(one in value for one in listed)] == []

    def test_so_is_an_applications(self, configuration: Configuration) -> None:
        configuration.without('webhook = "https://example.bitrix24.com/rest/1/filecode/"')
        configuration.more('[links.shop.portal.oauth]\nportal = "a.b"\nclient_id = "x"\nclient_secret = "hush"\n')
        assert "hush" in set(secret_values(configuration.load().settings))

    def test_so_is_the_key_of_the_state_and_one_that_is_no_key_is_a_problem_without_it(
        self, configuration: Configuration
    ) -> None:
        key = "QUFB" * 10 + "QUE="
        loaded = configuration.variable("SYNCD_STATE__KEY", key).load()
        assert key in secret_values(loaded.settings)
        assert key not in show(loaded)

        [problem] = configuration.variable("SYNCD_STATE__KEY", "correct-horse").problems()
        assert "state.key: must be a Fernet key" in problem
        assert "horse" not in problem

    @pytest.mark.parametrize(
        "option",
        ["ssl=require", "sslMode=require", "ssl_mode=VERIFY_CA", "useSSL=true", "target_session_attrs=read-write"],
    )
    def test_an_option_that_says_how_to_connect_is_no_secret_however_it_is_spelled(
        self, configuration: Configuration, option: str
    ) -> None:
        configuration.variable("SYNCD_STATE__URL", f"postgresql://u@h/s?{option}&token=hush")

        assert option.partition("=")[2] not in set(secret_values(configuration.load().settings))
        assert mask_url(f"postgresql://u@h/s?{option}&token=hush") == f"postgresql://u@h/s?{option}&token=***"

    def test_what_is_no_address_is_masked_altogether(self) -> None:
        assert mask_url("hush") == "***"


def test_given_a_key_then_the_program_reads_it() -> None:
    trees = [ast.parse(path.read_text("utf-8")) for path in (Path(__file__).parents[3] / "syncd").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    read = {node.attr for node in nodes if isinstance(node.ctx, ast.Load)}
    all_keys = list(keys.plain_keys(["shop"]))
    # A secret's file is read in place of the secret, when the configuration is loaded.
    files = {path for path in all_keys if path[-1].endswith("_file") and keys.counterpart(path) is not None}

    assert len(all_keys) > 50
    assert [keys.dotted(path) for path in all_keys if path not in files and path[-1] not in read] == []
