"""The example file, the reference page, the JSON Schema: complete, valid and fresh."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from syncd.config.fields import PARTS
from syncd.config.load import load
from syncd.config.model import Settings
from syncd.config.render import ConfigTable, example, reference, schema, tables, toml_value
from tests.unit.config.conftest import Configuration

ROOT = Path(__file__).parents[3]
KEYS = [f"{table.heading}.{key.name}" for table in tables() for key in table.keys]


def page(name: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "syncd.config.render", name],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=60,
    ).stdout


class TestExample:
    def test_the_file_in_the_repository_is_fresh(self) -> None:
        assert (ROOT / "config.example.toml").read_text() == example()

    def test_it_is_a_valid_configuration(self, configuration: Configuration) -> None:
        configuration.text = example()
        link = configuration.load().settings.links["shop"]
        assert str(link.schedule) == "5m"

    def test_it_shows_every_key_there_is(self) -> None:
        uncommented = tomllib.loads(re.sub(r"(?m)^# (?=\[|\w+ = )", "", example()))
        for key in KEYS:
            table = uncommented
            for part in key.split(".")[:-1]:
                table = table[part]
            assert key.rpartition(".")[2] in table, key

    @pytest.mark.parametrize("line", re.findall(r"(?m)^# (\w+ = .*)$", example()))
    def test_each_line_behind_a_mark_is_valid_once_the_mark_is_gone(
        self, configuration: Configuration, line: Any
    ) -> None:
        configuration.text = example().replace(f"# {line}", line)
        key = line.partition(" ")[0]
        if key in PARTS and "web" not in line:  # instead of the URL, and with the others that are needed
            configuration.text = re.sub(r"(?m)^url = ", "# url = ", configuration.text)
            configuration.text = re.sub(r"(?m)^# (host|database) = ", r"\1 = ", configuration.text)
            (configuration.directory / "credentials").mkdir()
            (configuration.directory / "credentials" / "shop-password").write_text("PASSWORD")
        elif key.endswith("_file"):  # instead of the secret itself
            base = key.removesuffix("_file")
            section = next(
                table.heading
                for table in tables()
                if any(k.name == key for k in table.keys) and line in section_of(table)
            )
            configuration.text = without(configuration.text, section, base)
            name = line.partition('"')[2].strip('"')
            (configuration.directory / "credentials").mkdir()
            secret = found(rf'(?m)^(?:# )?{base} = "(.*)"$', section_of_heading(section))[1]
            (configuration.directory / name).write_text(secret)
        if key in OAUTH_KEYS:
            configuration.text = with_oauth(configuration.text, key)
        if line in {"orders = 2000", 'every = "20s"'}:
            configuration.text = configuration.text.replace("# [links.shop.recent]", "[links.shop.recent]")
        configuration.load()

    def test_it_can_be_made_for_a_link_of_another_name(self) -> None:
        assert list(tomllib.loads(example("north-9"))["links"]) == ["north-9"]

    def test_lines_fit_into_120_columns(self) -> None:
        assert max(map(len, example().splitlines())) <= 120


OAUTH_KEYS = frozenset({"portal", "client_id", "client_secret", "client_secret_file", "server"})


def found(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text)
    assert match is not None
    return match


def section_of_heading(heading: str) -> str:
    return found(rf"(?ms)^(?:# )?\[{re.escape(heading)}\]$.*?(?=\n\n|\Z)", example())[0]


def section_of(table: ConfigTable) -> str:
    return section_of_heading(table.heading)


def without(text: str, heading: str, key: str) -> str:
    old = found(rf"(?ms)^(?:# )?\[{re.escape(heading)}\]$.*?(?=\n\n|\Z)", text)[0]
    return text.replace(old, re.sub(rf"(?m)^{key} = .*$", "", old))


def with_oauth(text: str, key: str) -> str:
    """An application instead of the webhook, with what it needs besides the key."""
    needed = {"portal", "client_id", "client_secret" if key != "client_secret_file" else "client_secret_file"}
    for one in needed - {key}:
        text = re.sub(rf"(?m)^# ({one} = )", r"\1", text)
    text = re.sub(r"(?m)^webhook = .*$", "", text)
    return text.replace("# [links.shop.portal.oauth]", "[links.shop.portal.oauth]")


class TestReference:
    def test_the_page_in_the_repository_is_fresh(self) -> None:
        assert (ROOT / "docs/reference/configuration.md").read_text() == reference()

    @pytest.mark.parametrize("table", tables(), ids=lambda table: table.heading)
    def test_every_key_has_a_type_and_a_meaning(self, table: Any) -> None:
        assert table.meaning
        for key in table.keys:
            assert key.kind, key.name
            assert key.meaning.endswith("."), key.name

    def test_defaults_and_required_keys_are_named(self) -> None:
        assert '| `plan_ttl` | duration | `"24h"` |' in reference()
        assert "| `name` | table name | required |" in reference()


class TestSchema:
    def test_it_describes_every_key(self) -> None:
        made = schema()
        assert made["title"] == "syncd configuration"
        for name, definition in made["$defs"].items():
            for key, described in definition.get("properties", {}).items():
                assert described.get("description") or "$ref" in described, f"{name}.{key}"

    def test_unknown_keys_and_odd_link_names_are_refused_by_it_too(self) -> None:
        made = schema()
        assert made["additionalProperties"] is False
        assert list(made["properties"]["links"]["patternProperties"]) == ["^[A-Za-z0-9_-]+$"]

    def test_secrets_are_marked_as_passwords(self) -> None:
        webhook = schema()["$defs"]["PortalSettings"]["properties"]["webhook"]
        assert {"format": "password", "type": "string", "writeOnly": True} in webhook["anyOf"]

    def test_it_is_json(self) -> None:
        assert json.loads(json.dumps(schema())) == schema()


def test_the_pages_are_printed_by_the_package() -> None:
    assert page("example") == example()
    assert page("reference") == reference()
    assert json.loads(page("schema")) == schema()


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        5,
        0.8,
        'a "b" \\ ü \x00\x1f\x7f\n',
        [1, [2]],
        {"a b": 1, "c": {"d": "e"}},
        {},
        [],
        "",
        60.0,
        {"ä": 1},
    ],
)
def test_a_value_written_as_toml_reads_as_the_same_value(value: Any) -> None:
    assert tomllib.loads(f"value = {toml_value(value)}")["value"] == value


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = Settings()
    assert settings.state.url.get_secret_value() == "sqlite:///syncd.db"
    assert settings.web.listen is None
    assert settings.links == {}
    assert settings.state.lease_ttl_seconds == 30
    assert settings.daemon.shutdown_timeout_seconds == 45
    assert settings.notify.holds_after_seconds == 3600


def test_importing_the_settings_pulls_in_no_database_scheduler_log_or_web_client() -> None:
    code = "import syncd.config.load, sys; print(sorted({'sqlalchemy', 'apscheduler', 'structlog', 'httpx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_loading_needs_no_link(tmp_path: Path) -> None:
    file = tmp_path / "syncd.toml"
    file.write_text('[state]\nurl = "sqlite:///x.db"\n')
    assert load(file, {}).settings.links == {}
