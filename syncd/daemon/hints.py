"""Hints: a program reports that orders have changed, and their next comparison is brought forward. Nothing more.

`POST /hooks/LINK` takes the form of a portal's outgoing webhook (portal.md 10: `event=ONSALEORDERSAVED`,
`data[FIELDS][ID]`, `auth[application_token]`), and JSON with a bearer token, `{"orders": [5125, 5126]}`. It is answered
at once; the orders are gathered for a moment, and then covered by one pass. Mapping tables with `watch` are asked every
few seconds which rows have changed.

A hint decides nothing: one that is lost is found by a pass, and one that is doubled or wrong costs at most a comparison
of orders that are in step. So trouble with a hint never reaches the passes, which report a table that cannot be read
themselves.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final, Protocol
from urllib.parse import parse_qsl

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from syncd.config.model import LinkSettings
from syncd.core.order_ranges import LARGEST_ID, parse_order_id
from syncd.core.ports import Clock
from syncd.daemon.lifecycle import Tasks
from syncd.errors import ConfigError, SyncdError
from syncd.table.rows import ChangedOrders

log = structlog.get_logger("syncd.daemon")

HOOKS: Final = "/hooks/"
"""Where hints are posted to."""
LARGEST_BODY: Final = 64 * 1024
"""Bytes of a request."""
MOST_FIELDS: Final = 200
"""Fields of a form: an event has a dozen."""
MOST_PENDING: Final = 5000
"""Orders of a link that wait for their pass; more of them are left to the passes of the schedule."""
GATHER: Final = 0.5
"""Seconds for which hints are collected before their pass is triggered."""
APART: Final = 3.0
"""Seconds between two passes for hints, at least."""
UNSIGNED: Final = "no token: expected a form with auth[application_token], or application/json and a bearer token"
REFUSED: Final = "wrong token, or no link of this name takes hints; see hook_token of the link"
EVENTS: Final = frozenset({"ONSALEORDERSAVED", "ONORDERENTITYSAVED", "ONORDERDELETED"})
"""The events that name an order; others are answered, and mean nothing."""
EVERY: Final = 3.0
"""Seconds between two looks at a table."""
LONGEST: Final = 60.0
"""Seconds between two looks at one that cannot be read now."""
SHARE: Final = 10
"""Seconds of pause for each second that a look took: a table without an index must not be read all the time."""
WHOLE_APART: Final = 300.0
"""Seconds between two passes over all orders that are brought forward."""

Hint = Callable[[str, set[int]], None]


class Hooks:
    """The application behind `HOOKS`.

    Args:
        links: Returns the links of the configuration in force, by name.
        hint: Called with a link and the orders to bring forward.
    """

    def __init__(self, links: Callable[[], Mapping[str, LinkSettings]], hint: Hint) -> None:
        self._links = links
        self._hint = hint
        self._pending: dict[str, set[int]] = {}
        self._asked: dict[str, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; one whose sender leaves before its end gets no answer, and nothing is logged of it."""
        with suppress(ClientDisconnect):
            response = await self._answer(Request(scope, receive))
            await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return PlainTextResponse("the request is too large\n", 413)
        try:
            token, orders = read_hint(request.headers, body)
        except ValueError as error:
            return PlainTextResponse(f"{error}\n", 400)
        name = request.url.path.removeprefix(HOOKS)
        if not self._is_token(name, token):
            log.debug("hint refused", link=name, reason="wrong token" if token else "no token")
            return PlainTextResponse(f"{REFUSED if token else UNSIGNED}\n", 403)
        if orders:
            self._gather(name, orders)
        return PlainTextResponse("noted\n", 202)

    def _is_token(self, name: str, token: str) -> bool:
        """Return whether a link takes hints with this token. Without one, no answer shows which links exist."""
        link = self._links().get(name)
        expected = None if link is None else link.hook_token
        return expected is not None and hmac.compare_digest(token.encode(), expected.get_secret_value().encode())

    def _gather(self, link: str, orders: set[int]) -> None:
        """Keep orders until their pass is asked for, which is soon."""
        pending = self._pending.get(link)
        if pending is None:
            loop = asyncio.get_running_loop()
            wait = max(GATHER, self._asked.get(link, float("-inf")) + APART - loop.time())
            pending = self._pending[link] = set()
            loop.call_later(wait, self._ask, link)
        room = MOST_PENDING - len(pending)
        pending.update(sorted(orders - pending)[:room])

    def _ask(self, link: str) -> None:
        self._asked[link] = asyncio.get_running_loop().time()
        self._hint(link, self._pending.pop(link))


def read_hint(headers: Headers, body: bytes) -> tuple[str, set[int]]:
    """Given a request, return its token and the orders it names; none where its event says nothing of orders.

    Raises:
        ValueError: It has neither form.
    """
    if headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        scheme, _, token = headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else "", _orders_of(body)
    try:
        form = dict(parse_qsl(body.decode(), max_num_fields=MOST_FIELDS, keep_blank_values=True))
    except ValueError:
        raise ValueError("neither a form nor JSON") from None
    token, order = form.get("auth[application_token]", ""), form.get("data[FIELDS][ID]", "")
    if form.get("event", "").upper() not in EVENTS:
        return token, set()
    number = parse_order_id(order)
    if number is None:
        raise ValueError("the event names no order")
    return token, {number}


def _orders_of(body: bytes) -> set[int]:
    try:
        orders = json.loads(body)["orders"]
    except (ValueError, KeyError, TypeError, RecursionError):
        orders = None
    if not isinstance(orders, list) or not all(type(one) is int and 0 < one <= LARGEST_ID for one in orders):
        raise ValueError('expected {"orders": [order id, ...]}')
    return set(orders)


async def _body(request: Request) -> bytes | None:
    """Return what was sent; None where that is too much."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            return None
    return body


class Watchable(Protocol):
    """A mapping table that says what has changed (`syncd.table.sql.SqlTable`)."""

    async def changed(self) -> ChangedOrders:
        """Return what has changed since it was asked last."""
        ...


class Hinted(Protocol):
    """Takes what was found (`syncd.daemon.supervisor.Supervisor`)."""

    def hint(self, link: str, orders: set[int]) -> None:
        """Bring some orders of a link forward."""
        ...

    def hint_all(self, link: str) -> None:
        """Bring a pass over all orders of a link forward."""
        ...


OpenTable = Callable[[str], AbstractAsyncContextManager[Watchable]]


class TableWatch:
    """Watches the table of one link until it is stopped.

    Args:
        link: The link.
        open_table: Opens its table.
        clock: Time.
        hinted: Takes what was found.
    """

    def __init__(self, link: str, open_table: OpenTable, clock: Clock, hinted: Hinted) -> None:
        self._link = link
        self._open_table = open_table
        self._clock = clock
        self._hinted = hinted
        self._stopped = False
        self._trouble = ""
        self._many = False
        self._whole_from = clock.monotonic()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped = True

    async def run(self) -> None:
        """Look, until stopped, or until the configuration turns out not to fit the table."""
        try:
            async with self._open_table(self._link) as table:
                pause = EVERY
                while not self._stopped:
                    began = self._clock.monotonic()
                    seen = await self._look(table)
                    took = self._clock.monotonic() - began
                    pause = max(EVERY, SHARE * took) if seen else min(LONGEST, 2 * pause)
                    await self._clock.sleep(pause)
        except ConfigError as error:
            log.warning("table not watched", link=self._link, error="; ".join(error.problems) or error.message)

    async def _look(self, table: Watchable) -> bool:
        """Look once; return whether the table could be read."""
        try:
            found = await table.changed()
        except ConfigError:
            raise
        except SyncdError as error:
            if not self._trouble:
                log.warning("table not watched for now", link=self._link, error=error.message)
            self._trouble = error.message
            return False
        if self._trouble:
            log.info("table watched again", link=self._link)
        self._trouble = ""
        if not self._stopped:
            self._tell(found)
        return True

    def _tell(self, found: ChangedOrders) -> None:
        if found.orders:
            self._hinted.hint(self._link, set(found.orders))
        self._many = self._many or found.many
        now = self._clock.monotonic()
        if self._many and now >= self._whole_from:
            self._many, self._whole_from = False, now + WHOLE_APART
            self._hinted.hint_all(self._link)


class TableWatches:
    """The watches of all links of a daemon.

    Args:
        open_table: Opens the table of a link.
        clock: Time.
        hinted: Takes what was found.
        tasks: Runs them.
    """

    def __init__(self, open_table: OpenTable, clock: Clock, hinted: Hinted, tasks: Tasks) -> None:
        self._open_table = open_table
        self._clock = clock
        self._hinted = hinted
        self._tasks = tasks
        self._watches: dict[str, tuple[LinkSettings, TableWatch]] = {}

    def configure(self, links: Mapping[str, LinkSettings]) -> None:
        """Watch the tables of these links from now on. One whose settings changed starts again."""
        for name in [name for name, (settings, _) in self._watches.items() if links.get(name) != settings]:
            self._watches.pop(name)[1].stop()
        for name, settings in links.items():
            if settings.table.watch is not None and name not in self._watches:
                watch = TableWatch(name, self._open_table, self._clock, self._hinted)
                self._watches[name] = settings, watch
                self._tasks.start(f"watch {name}", watch.run())
