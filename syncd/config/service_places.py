"""The systemd service that a configuration in /etc/syncd belongs to, and its folders (deploy/systemd).

A command that a person types must do what the service would do: with the same secrets, the same state, and a share of
the same request limit. systemd passes these folders to a service; a command in a shell derives them from the
configuration's name, as the unit files do.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path("/")
"""The root of these folders; tests replace it."""

MAIN = "syncd.toml"
"""The configuration of syncd.service; NAME.toml is that of syncd@NAME.service."""


class ServicePlaces(NamedTuple):
    """One service.

    Args:
        unit: Its name.
        credentials: The folder of its secrets, a file for each, named by its key; for root only.
        loaded: Where systemd keeps its credentials while it runs, including encrypted ones and those of drop-ins.
        home: /var/lib/syncd, which belongs to the user of the services.
        state: The service's own folder: that one, or one in it.
        runtime: The folder that the processes of syncd on this host share.
    """

    unit: str
    credentials: Path
    loaded: Path
    home: Path
    state: Path
    runtime: Path

    @property
    def state_url(self) -> str:
        """The URL of its state database."""
        return f"sqlite:///{self.state}/syncd.db"


def service_places(file: Path) -> ServicePlaces | None:
    """Given a configuration, return its service; None for one outside /etc/syncd."""
    file = file.absolute()
    if file.parent != ROOT / "etc/syncd" or file.suffix != ".toml":
        return None
    is_main = file.name == MAIN
    unit = "syncd.service" if is_main else f"syncd@{file.stem}.service"
    home = ROOT / "var/lib/syncd"
    return ServicePlaces(
        unit=unit,
        credentials=file.with_name("credentials" if is_main else f"{file.stem}.credentials"),
        loaded=ROOT / "run/credentials" / unit,
        home=home,
        state=home if is_main else home / file.stem,
        runtime=ROOT / "run/syncd",
    )
