"""What all links of the process share of one portal host: its connections, its request bucket, its budgets."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
from pydantic import SecretStr

from syncd.config.endpoints import web_host
from syncd.core.ports import Clock
from syncd.portal.address import is_loopback
from syncd.portal.budget import Budget
from syncd.portal.limiter import Limiter, Limits
from syncd.portal.ratefile import RateFile, default_directory
from syncd.portal.transport import Wire


class Host:
    """One portal host.

    Args:
        origin: `https://host[:port]` as configured.
        wire: Its connections.
        limiter: Its bucket.
        clock: Time.
    """

    def __init__(self, origin: str, wire: Wire, limiter: Limiter, clock: Clock) -> None:
        self.wire = wire
        self.limiter = limiter
        self.users = 0
        self._origin = origin
        self._moved: str | None = None
        self._clock = clock
        self._budgets: dict[str, Budget] = {}

    @property
    def name(self) -> str:
        """The host as configured, for sentences and keys."""
        return web_host(self._origin)

    def budget(self, credentials: str) -> Budget:
        """Given what names a set of credentials, return its operating budget: two links of one webhook share it."""
        return self._budgets.setdefault(credentials, Budget(self._clock))

    def current(self, origin: str) -> str:
        """Given a portal's origin, return where it answers now."""
        return self._moved if self._moved is not None and origin == self._origin else origin

    def follow(self, sent_to: SecretStr, location: str) -> str | None:
        """The portal redirects: its address changed (bitrix24-rest.md 8.4). Remember the new one.

        Args:
            sent_to: The URL the request went to.
            location: The redirect's target, perhaps relative.

        Returns:
            The new origin; None where the target is not the same method of a portal at another, equally safe address.
        """
        old = urlsplit(sent_to.get_secret_value())
        try:
            location = urljoin(sent_to.get_secret_value(), location)
            new = urlsplit(location)
            _ = new.port
        except ValueError:
            return None
        # Whoever is named here is given the credentials, so only the host may differ, never the path or the encryption.
        if not new.hostname or new.username is not None or new.path.rstrip("/") != old.path.rstrip("/"):
            return None
        stays_here = new.scheme == old.scheme and is_loopback(location) and is_loopback(old.geturl())
        if new.scheme != "https" and not stays_here:
            return None
        self._moved = f"{new.scheme}://{web_host(location)}"
        return self._moved


class Hosts:
    """The portal hosts of this process; made once, handed to each `open_portal`.

    Args:
        clock: Time and chance.
        runtime_dir: Where processes of this host meet; None is the user's runtime directory.
        transport: Another way to the portals, in tests.
    """

    def __init__(
        self, clock: Clock, *, runtime_dir: Path | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.clock = clock
        self.runtime_dir = runtime_dir or default_directory()
        self._transport = transport
        self._hosts: dict[str, Host] = {}

    def open(self, origin: str, limits: Limits | None) -> Host:
        """Given an origin and the limits to keep to, return the shared host; give it back with `release`."""
        host = self._hosts.get(origin)
        if host is None:
            shared = None if limits is None else RateFile(self.runtime_dir, web_host(origin))
            wire = Wire(direct=is_loopback(origin), transport=self._transport)
            host = self._hosts[origin] = Host(origin, wire, Limiter(self.clock, limits, shared), self.clock)
        host.limiter.narrow(limits)
        host.users += 1
        return host

    async def release(self, host: Host) -> None:
        """Give a host back; the last one closes its connections."""
        host.users -= 1
        if host.users == 0:
            self._hosts = {origin: one for origin, one in self._hosts.items() if one is not host}
            host.limiter.close()
            await host.wire.aclose()
