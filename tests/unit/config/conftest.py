"""A configuration file that holds what must be there, and ways to change it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from syncd.config.load import Loaded, load
from syncd.errors import ConfigError

MINIMAL = """
[links.shop.portal]
webhook = "https://example.bitrix24.com/rest/1/filecode/"

[links.shop.table]
url = "postgresql://syncd:filepassword@db.example.com/shop"
name = "crm.order_bindings"
columns = { order_id = "order_id", owner_type_id = 2, owner_id = "deal_id" }
"""


def revealed(secret: SecretStr | None) -> str:
    assert secret is not None
    return secret.get_secret_value()


class Configuration:
    """One configuration in a directory of its own: change the text, add files, load it, or ask what is wrong."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "syncd.toml"
        self.text = MINIMAL
        self.environ: dict[str, str] = {}

    def without(self, line: str) -> Configuration:
        assert line in self.text
        self.text = self.text.replace(line, "")
        return self

    def replace(self, old: str, new: str) -> Configuration:
        assert old in self.text
        self.text = self.text.replace(old, new)
        return self

    def link(self, line: str) -> Configuration:
        return self._below("[links.shop.portal]", f"[links.shop]\n{line}\n[links.shop.portal]")

    def portal(self, line: str) -> Configuration:
        return self._below("[links.shop.portal]", f"[links.shop.portal]\n{line}")

    def table(self, line: str) -> Configuration:
        return self._below("[links.shop.table]", f"[links.shop.table]\n{line}")

    def more(self, text: str) -> Configuration:
        self.text += text
        return self

    def credential(self, name: str, text: str) -> Configuration:
        folder = self.directory / "credentials"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        self.environ["CREDENTIALS_DIRECTORY"] = str(folder)
        return self

    def variable(self, name: str, text: str) -> Configuration:
        self.environ[name] = text
        return self

    def load(self, flags: Mapping[str, Any] | None = None) -> Loaded:
        self.file.write_text(self.text)
        return load(self.file, self.environ, flags)

    def problems(self) -> list[str]:
        with pytest.raises(ConfigError) as raised:
            self.load()
        return list(raised.value.problems)

    def _below(self, line: str, lines: str) -> Configuration:
        return self.replace(line, lines)


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    return Configuration(tmp_path)
