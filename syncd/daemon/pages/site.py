"""The pages' frame: templates, errors as pages, the browser's files, what a request asks for, and how the links are.

The links are looked at once for all who watch.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from http import HTTPStatus
from importlib import resources
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from syncd import __version__
from syncd.config.model import Settings
from syncd.core.model import MaybeOwner
from syncd.core.order_ranges import LARGEST_ID
from syncd.daemon.lifecycle import Process
from syncd.daemon.pages.plots import sparkline_text
from syncd.daemon.web import PATIENCE
from syncd.engine import formatting
from syncd.errors import SyncdError
from syncd.obs.redact import redact
from syncd.state.page_queries import Point
from syncd.state.store import SqlStore
from syncd.status.links import LinkStatus
from syncd.status.owners import NO_LABELS, Labels, Titles
from syncd.wiring import AppContext

log = structlog.get_logger("syncd.daemon")

REFRESH: Final = 5
"""Seconds between two times that a page fetches itself again."""

Endpoint: TypeAlias = Callable[["Site", Request], Awaitable[Response]]


class Site:
    """The status page of one daemon.

    Args:
        daemon: The daemon.
    """

    def __init__(self, daemon: DaemonState) -> None:
        self._daemon = daemon
        self._cache = StatusCache(daemon)
        self._templates = _environment()

    @property
    def store(self) -> SqlStore:
        """The state database."""
        return self._daemon.context.store

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._daemon.context.settings

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return self._daemon.context.clock.now()

    async def snapshot(self) -> StatusSnapshot:
        """Return how the links are."""
        return await self._cache.snapshot()

    async def labels(self, link: str, owners: Iterable[MaybeOwner]) -> Labels:
        """Given a link and owners, return their titles and addresses; the portal is not waited for."""
        return await self._daemon.titles.labels_at_hand(link, set(owners))

    def page(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """Given an endpoint, return it as starlette wants it; what goes wrong becomes a page that says so."""

        async def serve(request: Request) -> Response:
            try:
                async with asyncio.timeout(PATIENCE):
                    return await endpoint(self, request)
            except HTTPException as error:
                return self._trouble(error.status_code, error.detail)
            except TimeoutError:
                log.warning("page not shown", path=request.url.path, error="the state database is slow")
                return self._trouble(503, f"The state database has not answered for {PATIENCE:g} seconds.")
            except SyncdError as error:
                log.warning("page not shown", path=request.url.path, error=error.message)
                return self._trouble(503, "The state database does not answer; the log has the details.")

        return serve

    def render(self, template: str, look: StatusSnapshot, **values: Any) -> Response:
        """Given a template's name, how the links are, and the template's own values, return the page."""
        return HTMLResponse(
            self._templates.get_template(template).render(
                {"look": look, "process": look.process, "now": self.now, "labels": NO_LABELS} | values
            )
        )

    def _trouble(self, code: int, text: str) -> Response:
        page = self._templates.get_template("trouble.html").render(
            title=HTTPStatus(code).phrase,
            text=text,
            process=self._daemon.process(),
            now=self.now,
            refresh=REFRESH if code >= 500 else 0,
        )
        return HTMLResponse(page, code)


@cache
def _environment() -> Environment:
    """Return the templates, each compiled once in a process."""
    made = Environment(
        loader=PackageLoader("syncd.daemon.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {
        "about": formatting.about,
        "ago_words": ago,
        "asset": asset_url,
        "refresh": REFRESH,
        "sparkline_text": sparkline_text,
        "version": __version__,
        "formatting": formatting,
    }
    made.filters |= {"stamp": formatting.utc_moment, "iso": iso, "outside_text": outside_text, "number": number}
    return made


def ago(then: float, now: float) -> str:
    """Given a moment and now, return how far apart they are, no finer than `formatting.about`."""
    return f"in {formatting.about(then - now)}" if then > now else f"{formatting.about(now - then)} ago"


def iso(seconds: float) -> str:
    """Given seconds since the epoch, return them as a machine reads them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def outside_text(text: str) -> str:
    """Given a text that came from a portal or a database, return it without secrets, and with its times in words.

    It was masked when it was stored. The page is open to the network, so it is masked once more.
    """
    return formatting.with_moments(redact(text), formatting.utc_moment)


def number(value: float) -> str:
    """Given a number, return it with its thousands apart."""
    return f"{value:,.0f}"


FRESH: Final = 2.0
"""Seconds for which one snapshot serves all requests."""
SHARE: Final = 20.0
"""A snapshot that took a second to read serves for twenty. So the page costs the state database at most a twentieth of
its time, with any number of links, holds and readers."""
RECENT: Final = 30
"""How many runs of each link are shown as a sparkline."""


class DaemonState(Protocol):
    """What the status page asks of the daemon (`syncd.daemon.web.WebViews`)."""

    @property
    def context(self) -> AppContext:
        """The settings in force, the clock and the state database."""
        ...

    @property
    def titles(self) -> Titles:
        """The titles of deals and invoices."""
        ...

    def process(self) -> Process:
        """Return what the daemon says of itself now."""
        ...

    async def links(self) -> list[LinkStatus]:
        """Return how each link is now."""
        ...


@dataclass(frozen=True, slots=True)
class StatusSnapshot:
    """The links at one moment.

    Args:
        at: When, in seconds since the epoch.
        process: The daemon itself.
        links: How each link of the configuration is, by name.
        recent: The newest runs of each, oldest first.
    """

    at: float
    process: Process
    links: Mapping[str, LinkStatus]
    recent: Mapping[str, Sequence[Point]]

    def at_work(self, link: str) -> bool:
        """Given a link's name, return whether a process works on it."""
        return link in self.links and self.links[link].lease is not None


class StatusCache:
    """Reads how the links are, and keeps the result for a moment.

    Args:
        daemon: The daemon.
    """

    def __init__(self, daemon: DaemonState) -> None:
        self._daemon = daemon
        self._store = daemon.context.store
        self._clock = daemon.context.clock
        self._look: StatusSnapshot | None = None
        self._good_until = 0.0
        self._taking: asyncio.Task[StatusSnapshot] | None = None

    async def snapshot(self) -> StatusSnapshot:
        """Return how the links are, at most a moment ago.

        Raises:
            StateUnavailable: The state database is out of reach.
        """
        if self._look is not None and self._clock.monotonic() < self._good_until:
            return self._look
        if self._taking is None:
            self._taking = asyncio.create_task(self._take())
            self._taking.add_done_callback(self._taken)
        # A cancelled caller does not cancel the shared refresh.
        return await asyncio.shield(self._taking)

    def _taken(self, task: asyncio.Task[StatusSnapshot]) -> None:
        self._taking = None
        if not task.cancelled():
            task.exception()  # those who waited got it; if all have left, asyncio must not complain about it

    async def _take(self) -> StatusSnapshot:
        began = self._clock.monotonic()
        links = {status.name: status for status in await self._daemon.links()}
        recent = {name: await self._store.series(name, 0.0, RECENT) for name in links}
        self._look = StatusSnapshot(self._clock.now(), self._daemon.process(), links, recent)
        ended = self._clock.monotonic()
        self._good_until = ended + max(FRESH, SHARE * (ended - began))
        return self._look


TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


class Asset(NamedTuple):
    """One file: its bytes, its content type, and a mark that changes with the bytes."""

    body: bytes
    media_type: str
    mark: str


@cache
def assets() -> Mapping[str, Asset]:
    """Return all files of `syncd/daemon/static` by name."""
    found = {}
    for entry in resources.files("syncd.daemon").joinpath("static").iterdir():
        suffix = entry.name[entry.name.rfind(".") :]
        if suffix in TYPES:
            body = entry.read_bytes()
            found[entry.name] = Asset(body, TYPES[suffix], hashlib.sha256(body).hexdigest()[:12])
    return found


def asset_url(name: str) -> str:
    """Given a file's name, return its address on this site."""
    return f"/static/{name}?v={assets()[name].mark}"


async def serve_asset(request: Request) -> Response:
    """Answer a request for a file. Under its marked address it may be cached without a limit."""
    asset = assets().get(request.path_params["name"])
    if asset is None:
        return PlainTextResponse("There is no such file.\n", 404)
    marked = request.query_params.get("v") == asset.mark
    headers = {"Cache-Control": "public, max-age=31536000, immutable" if marked else "no-cache"}
    return Response(asset.body, media_type=asset.media_type, headers=headers)


_DIGITS: Final = len(str(LARGEST_ID))

W = TypeVar("W", bound=StrEnum)


def whole(text: str) -> int | None:
    """Given a text, return the whole number it is, from 0 to `LARGEST_ID`; None for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        return None
    number = int(text)
    return number if number <= LARGEST_ID else None


def number_in_path(request: Request, name: str) -> int:
    """Given a request, return a number of its path.

    Raises:
        HTTPException: 404, it is none.
    """
    number = whole(request.path_params[name])
    if number is None:
        article = "an" if name[0] in "aeio" else "a"
        raise HTTPException(404, f"{request.path_params[name]} is not the number of {article} {name}.")
    return number


def number_in_query(request: Request, name: str, *, signed: bool = False) -> int | None:
    """Given a request, return a number of its query; None where it names none.

    Args:
        request: The request.
        name: The number's name.
        signed: Whether it may be below zero.

    Raises:
        HTTPException: 400, it is none.
    """
    text = request.query_params.get(name)
    if text is None:
        return None
    below_zero = signed and text.startswith("-")
    number = whole(text[below_zero:])
    if number is None:
        raise HTTPException(400, f"{name} must be a whole number.")
    return -number if below_zero else number


def word_in_query(request: Request, name: str, words: type[W]) -> W | None:
    """Given a request, return a word of its query out of those known; None where it names none.

    Raises:
        HTTPException: 400, it is another one.
    """
    text = request.query_params.get(name)
    if text is None:
        return None
    if text not in set(words):
        raise HTTPException(400, f"{name} must be one of: {', '.join(words)}.")
    return words(text)
