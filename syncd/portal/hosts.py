"""What all links of the process share of one portal host: address, connections, request bucket, budgets.

A portal may move to another address. A redirect is followed only where the new host is the vendor's or of the same
domain.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpx
from pydantic import SecretBytes, SecretStr

from syncd.config.urls import is_loopback, web_host
from syncd.core.ports import Clock
from syncd.portal.budget import Budget
from syncd.portal.commands import BATCH
from syncd.portal.limiter import Limiter, RateFile, RateLimits, default_directory
from syncd.portal.transport import JSON, HttpClient, RequestFailed

REMEMBERED: Final = 600.0
"""Seconds for which it is remembered what a portal can do. An update may take it away at any moment: the condition of a
write then names order 0, which the portal refuses (portal.md 6.6), and an IN list finds other orders than it names, or
none. Either is forgotten as soon as an answer looks like that."""

HOPS: Final = 3
"""How many addresses one after another are asked where each redirects to the next."""

_OPEN_PATH: Final = f"/rest/{BATCH}"
"""A path of every portal that says nothing of the credentials."""

_VENDOR: Final = (
    *(f"bitrix24.{top}" for top in ("com", "ru", "eu", "de", "fr", "es", "it", "pl", "ua", "by", "kz", "in", "cn")),
    *(f"bitrix24.{top}" for top in ("jp", "id", "vn", "mx", "co", "uk", "tr", "com.br", "com.tr")),
)
"""The domains under which the vendor keeps cloud portals. Domains with sites that users make are not among them."""

VENDOR_SERVERS: Final = frozenset({"oauth.bitrix.info", "oauth.bitrix24.tech"})
"""The vendor's authorisation servers (portal.md 8.1)."""

_SECOND_LEVEL: Final = frozenset({"co", "com", "edu", "gob", "gov", "gouv", "net", "nom", "org", "msk", "spb"})
"""The labels before a country's domain below which names are registered, as in example.co.uk."""


class Ability(StrEnum):
    """Something that a portal is tried for before syncd relies on it.

    IN lists, conditions within a batch, and pairs, which are the shorter form of a conditional bind.
    """

    IN_LISTS = "in-lists"
    CONDITIONS = "conditions"
    PAIRS = "pairs"


class Abilities:
    """What portals have shown that they can do, for a while: passes may follow each other within seconds.

    Args:
        clock: Time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._shown: dict[tuple[str, Ability], float] = {}

    def note(self, origin: str, ability: Ability) -> None:
        """Note that a portal has just shown that it can do this."""
        self._shown[origin, ability] = self._clock.monotonic()

    def forget(self, origin: str, ability: Ability) -> None:
        """Forget that a portal could do this: an answer has cast doubt on it."""
        self._shown.pop((origin, ability), None)

    def has(self, origin: str, ability: Ability) -> bool:
        """Return whether a portal has shown lately that it can do this."""
        shown = self._shown.get((origin, ability))
        return shown is not None and self._clock.monotonic() - shown < REMEMBERED


class Host:
    """One portal host.

    Args:
        origin: `https://host[:port]` as configured.
        client: Its connections.
        limiter: Its bucket.
        clock: Time.
        abilities: What is remembered of it.
    """

    def __init__(
        self, origin: str, client: HttpClient, limiter: Limiter, clock: Clock, abilities: Abilities | None = None
    ) -> None:
        self.client = client
        self.limiter = limiter
        self.users = 0
        self.configured = origin
        self._moved = ""
        self._clock = clock
        self._budgets: dict[str, Budget] = {}
        self._abilities = abilities or Abilities(clock)

    def note(self, ability: Ability) -> None:
        """Note that the portal has just shown that it can do this."""
        self._abilities.note(self.origin, ability)

    def forget(self, ability: Ability) -> None:
        """Forget that the portal could do this."""
        self._abilities.forget(self.origin, ability)

    def has(self, ability: Ability) -> bool:
        """Return whether the portal has shown lately that it can do this."""
        return self._abilities.has(self.origin, ability)

    @property
    def name(self) -> str:
        """The host as configured, for sentences and keys."""
        return web_host(self.configured)

    def budget(self, credentials: str) -> Budget:
        """Given what names a set of credentials, return its operating budget: two links of one webhook share it."""
        return self._budgets.setdefault(credentials, Budget(self._clock))

    @property
    def origin(self) -> str:
        """Where the portal answers: the configured address, or the one it moved to."""
        return self._moved or self.configured

    def move(self, base: SecretStr) -> bool:
        """Given an address that the portal answered at, use it from now on; return whether that is a change."""
        before = self.origin
        self._moved = _origin(base.get_secret_value())
        return self.origin != before

    def follow(self, sent_to: SecretStr, location: str) -> str | None:
        """Given a redirect, return where the portal may be now (portal.md 8.4).

        Args:
            sent_to: The URL the request went to.
            location: The redirect's target, perhaps relative.

        Returns:
            The new origin; None where the target is not the same method at an address that this portal's may have
            become: one of the same registrable domain, or of the vendor's, and as safe.
        """
        old = sent_to.get_secret_value()
        origin = redirected_to(old, location)
        if origin is None or (is_loopback(old) and is_loopback(origin)):
            return origin
        new = urlsplit(origin).hostname or ""
        return origin if is_of_vendor(new) or same_domain(urlsplit(old).hostname or "", new) else None

    async def is_target_of(self, address: str, *, seconds: float) -> bool:
        """Return whether another address redirects to this portal. It is asked without any credentials.

        Args:
            address: `host[:port]`.
            seconds: How long to wait for an answer.
        """
        url = f"{urlsplit(self.configured).scheme}://{address}{_OPEN_PATH}"
        for _ in range(HOPS):
            await self.limiter.take()
            try:
                reply = await self.client.post(SecretStr(url), SecretBytes(b"{}"), JSON, seconds=seconds)
            except RequestFailed:
                return False
            origin = redirected_to(url, reply.location) if 300 <= reply.status < 400 else None
            if origin is None:
                return False
            if origin == self.configured:
                return True
            url = origin + _OPEN_PATH
        return False


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
        self._abilities = Abilities(clock)

    def open(self, origin: str, limits: RateLimits | None) -> Host:
        """Given an origin and the limits to keep to, return the shared host; give it back with `release`."""
        host = self._hosts.get(origin)
        if host is None:
            shared = None if limits is None else RateFile(self.runtime_dir, web_host(origin))
            client = HttpClient(origin, self.clock, transport=self._transport)
            limiter = Limiter(self.clock, limits, shared)
            host = self._hosts[origin] = Host(origin, client, limiter, self.clock, self._abilities)
        host.limiter.narrow(limits)
        host.users += 1
        return host

    async def release(self, host: Host) -> None:
        """Give a host back; the last one closes its connections."""
        host.users -= 1
        if host.users == 0:
            self._hosts = {origin: one for origin, one in self._hosts.items() if one is not host}
            host.limiter.close()
            await host.client.aclose()


def _origin(url: str) -> str:
    return f"{urlsplit(url).scheme}://{web_host(url)}"


def redirected_to(url: str, location: str) -> str | None:
    """Given a URL and where it redirects, return the new origin.

    Returns:
        None where that is not the same path at an address that is as safe: https, or this machine's for one on it.
    """
    try:
        location = urljoin(url, location)
        new = urlsplit(location)
        _ = new.port
    except ValueError:
        return None
    # Credentials may be sent there, so only the host may differ, never the path or the encryption.
    if not new.hostname or new.username is not None or new.path.rstrip("/") != urlsplit(url).path.rstrip("/"):
        return None
    if is_loopback(url) and is_loopback(location):
        return _origin(location) if new.scheme == urlsplit(url).scheme else None
    return _origin(location) if new.scheme == "https" else None


def is_of_vendor(host: str) -> bool:
    """Given a host, return whether it is a cloud portal's, at one of the vendor's own domains."""
    return any(host.lower().rstrip(".").endswith(f".{domain}") for domain in _VENDOR)


def same_domain(host: str, other: str) -> bool:
    """Given two hosts, return whether they belong to one registrable domain, such as example.com or example.co.uk.

    Without a list of all public suffixes this errs on the safe side for those it does not know: at worst a portal's new
    address has to be written into the configuration.
    """
    return _registrable(host) == _registrable(other)


def _registrable(host: str) -> str:
    host = host.lower().rstrip(".")
    labels = host.split(".")
    if ":" in host or labels[-1].isdigit() or len(labels) < 3:  # an IP address, or nothing below the domain
        return host
    below_country = len(labels[-1]) == 2 and (labels[-2] in _SECOND_LEVEL or len(labels[-2]) == 2)
    return ".".join(labels[-3:] if below_country else labels[-2:])
