"""The pages' frame: templates, errors as pages, and what every endpoint needs at hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from syncd import __version__
from syncd.config.model import Settings
from syncd.daemon.pages.assets import asset_url
from syncd.daemon.pages.glimpse import Glimpse, Look, Watched
from syncd.daemon.pages.phrases import about, ago
from syncd.daemon.pages.strip import told as strip_said
from syncd.daemon.web import PATIENCE
from syncd.engine import words
from syncd.errors import SyncdError
from syncd.obs.redact import redact
from syncd.state import SqlStore
from syncd.state.statistics import Statistics

log = structlog.get_logger("syncd.daemon")

REFRESH: Final = 5
"""Seconds between two times that a page fetches itself again."""

Endpoint: TypeAlias = Callable[["Site", Request], Awaitable[Response]]


class Site:
    """The status page of one daemon.

    Args:
        watched: The daemon.
    """

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self.statistics = Statistics(watched.workplace.store)
        self._glimpse = Glimpse(watched, self.statistics)
        self._templates = _environment()

    @property
    def store(self) -> SqlStore:
        """The state database."""
        return self._watched.workplace.store

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._watched.workplace.settings

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return self._watched.workplace.clock.now()

    async def look(self) -> Look:
        """Return how the links are."""
        return await self._glimpse.look()

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

    def render(self, template: str, look: Look, **values: Any) -> Response:
        """Given a template's name, how the links are, and the template's own values, return the page."""
        return HTMLResponse(
            self._templates.get_template(template).render(look=look, process=look.process, now=self.now, **values)
        )

    def _trouble(self, code: int, text: str) -> Response:
        page = self._templates.get_template("trouble.html").render(
            title=HTTPStatus(code).phrase,
            text=text,
            process=self._watched.process(),
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
        "about": about,
        "ago_words": ago,
        "asset": asset_url,
        "refresh": REFRESH,
        "strip_said": strip_said,
        "version": __version__,
        "words": words,
    }
    made.filters |= {"stamp": stamp, "iso": iso, "told": told, "number": number}
    return made


def stamp(seconds: float) -> str:
    """Given seconds since the epoch, return the date and time in UTC, as a person reads it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(seconds: float) -> str:
    """Given seconds since the epoch, return them as a machine reads them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def told(text: str) -> str:
    """Given a text that came from a portal or a database, return it without secrets.

    Whoever stored it has masked it already; a page that anybody on the network may read looks again.
    """
    return redact(text)


def number(value: float) -> str:
    """Given a number, return it with its thousands apart."""
    return f"{value:,.0f}"
