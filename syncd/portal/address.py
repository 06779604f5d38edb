"""Where a portal is, and the webhook's secret kept where no repr shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from syncd.config.endpoints import web_host, web_origin
from syncd.errors import ConfigError
from syncd.obs.redact import remember

_FORM = "https://HOST/rest/USER/CODE/, as the portal shows it under Developer resources, Inbound webhook"


@dataclass(frozen=True, slots=True)
class Webhook:
    """An inbound webhook (bitrix24-rest.md 1.1).

    Args:
        origin: `https://host[:port]`.
        user: The id (or login) of the user it acts for.
        code: The secret.
    """

    origin: str
    user: str
    code: str = field(repr=False)

    @property
    def host(self) -> str:
        """The host, with a port that is not the scheme's own."""
        return web_host(self.origin)

    @property
    def path(self) -> str:
        """The path that methods are appended to; holds the secret."""
        return f"/rest/{self.user}/{self.code}/"


def parse_webhook(url: str) -> Webhook:
    """Given the URL of an inbound webhook, return its parts.

    Raises:
        ConfigError: It is not one. The sentence never repeats the URL.
    """
    url = url.strip()
    try:
        origin = origin_of(url)
    except ValueError as error:
        raise ConfigError(f"The webhook's URL {error}.", hint=f"Write it as {_FORM}.") from None
    parts = urlsplit(url)
    segments = [segment for segment in parts.path.split("/") if segment]
    if parts.query or parts.fragment or not segments or segments[0] != "rest" or len(segments) > 3:
        raise ConfigError("The webhook's URL is not that of an inbound webhook.", hint=f"Write it as {_FORM}.")
    if len(segments) != 3:
        absent = "the user id and the code" if len(segments) == 1 else "the user id or the code"
        raise ConfigError(f"The webhook's URL lacks {absent}.", hint=f"Write it as {_FORM}.")
    remember(segments[2])
    return Webhook(origin=origin, user=segments[1], code=segments[2])


def origin_of(url: str) -> str:
    """Given an address that credentials may be sent to, return its origin.

    Raises:
        ValueError: It is not https:// (or http:// to this machine). The sentence never repeats it.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("must be a web address, such as https://example.bitrix24.com/") from None
    return web_origin(f"{parts.scheme}://{parts.netloc}")


def parse_origin(portal: str) -> str:
    """Given a portal's address as in `[links.X.portal.oauth]`, return `https://host[:port]`.

    Raises:
        ConfigError: It is not an address.
    """
    try:
        return web_origin(portal.strip())
    except ValueError as error:
        raise ConfigError(f"The portal's address {error}.", hint="Write it as https://example.bitrix24.com.") from None


def is_loopback(origin: str) -> bool:
    """Given an origin, return whether it is this machine (so that no proxy is asked)."""
    host = urlsplit(origin).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")
