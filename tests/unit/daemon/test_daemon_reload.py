"""Reading the configuration again while the daemon runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syncd.config.load import Loaded, load
from syncd.config.model import Settings
from syncd.daemon.lifecycle import needs_restart, read_again
from syncd.errors import ConfigError
from syncd.obs.redact import redact

CONFIG = """
[state]
url = "sqlite:///state.db"
[web]
listen = "127.0.0.1:9464"
[links.shop]
schedule = "5m"
[links.shop.portal]
webhook = "https://example.bitrix24.com/rest/1/firstsecretcode/"
[links.shop.table]
url = "sqlite:///shop.db"
name = "bindings"
columns = { order_id = "order_id", owner_type_id = 2, owner_id = "deal_id" }
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "syncd.toml"
    file.write_text(CONFIG)
    return file


def _loaded(config: Path) -> Loaded:
    return load(config, os.environ, {"log.level": "debug"})


def test_given_a_changed_file_then_it_is_read_again_and_flags_keep_their_word(config: Path) -> None:
    loaded = _loaded(config)
    config.write_text(CONFIG.replace('"5m"', '"10m"') + '[log]\nlevel = "error"\n')
    again = read_again(loaded)
    assert str(again.settings.links["shop"].schedule) == "10m"
    assert again.settings.log.level.value == "debug"
    assert read_again(again).settings.log.level.value == "debug"


def test_given_a_new_secret_then_it_is_masked_from_then_on(config: Path) -> None:
    loaded = _loaded(config)
    config.write_text(CONFIG.replace("firstsecretcode", "secondsecretcode"))
    read_again(loaded)
    assert "secondsecretcode" not in redact("the code is secondsecretcode")


def test_given_a_bad_file_then_every_problem_is_told(config: Path) -> None:
    loaded = _loaded(config)
    config.write_text(CONFIG.replace('"5m"', '"never"') + "[web2]\n")
    with pytest.raises(ConfigError) as caught:
        read_again(loaded)
    assert len(caught.value.problems) == 2


def test_given_what_a_running_daemon_has_opened_then_only_a_restart_takes_it_up(config: Path) -> None:
    old = _loaded(config).settings
    config.write_text(CONFIG.replace("state.db", "other.db").replace(":9464", ":9465").replace('"5m"', '"1h"'))
    assert needs_restart(old, _loaded(config).settings) == ["state.url", "web.listen"]
    assert needs_restart(old, Settings.model_validate(old.model_dump(exclude={"links"}) | {"links": {}})) == []
