"""Reading a range of order ids: it is cut into windows, which are read in waves.

Each window is to be read as one page. Order ids are unique, so a window of 50 ids never needs a second page; wider ones
are cut so that few overflow. Each wave reads what the one before left open (a full page, a failed command).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import pairwise
from math import ceil, sqrt
from typing import Final, NamedTuple, TypeAlias, TypeVar

from syncd.core.order_ranges import LARGEST_ID
from syncd.errors import IncompleteListing
from syncd.portal.commands import MAX_COMMANDS, PAGE, list_window
from syncd.portal.connections import CONNECTIONS
from syncd.portal.pages import RowBuffer, RowPage, UnusablePage, ascending, decode_page
from syncd.portal.responses import ENDS_THE_RUN, ApiError, ApiErrorKind, CommandAnswer, kind_of, to_exception
from syncd.portal.session import Session

# ------------------------------------------------- cutting, pure arithmetic

SPREAD: Final = 1.4
"""Standard deviations kept free in a window when ids have gaps. More of them make more windows, fewer make more windows
overflow; the number of calls hardly changes around this value."""

UNEVEN_FACTOR: Final = 3.0
"""A range is uneven where the ids near an end are this many times denser or thinner than its average."""

MOST_CELLS: Final = MAX_COMMANDS - 2
LEAST_CELLS: Final = 8
ROWS_A_CELL: Final = 2000
"""An uneven range is cut into windows that are counted, to find out where its ids are: one for so many rows, within
these limits. More windows find out sooner, but more of them are empty."""

LEAST_COMMANDS: Final = 12
"""Commands that a batch has at least, where requests are to spare."""

T = TypeVar("T")


class Window(NamedTuple):
    """Order ids (after, upto] to be read as one page; `counted` asks for their number, too."""

    after: int
    upto: int
    counted: bool = False
    tries: int = 0


def density(order_ids: Sequence[int]) -> float:
    """Given the ascending order ids of a page, return how many there are for each id of their span, up to 1."""
    if len(order_ids) < 2:
        return 1.0
    return (len(order_ids) - 1) / (order_ids[-1] - order_ids[0])


def window_width(part: float) -> int:
    """Given the part of ids that is bound (0 to 1], return how many ids a window should span.

    With ids bound at random, the rows of a window scatter around their mean m by sqrt(m * (1 - part)); the widest
    window is taken with m + SPREAD * sqrt(m * (1 - part)) <= 50. Where all ids are bound that is 50 exactly.
    """
    slack = SPREAD * sqrt(max(0.0, 1 - part))
    root = (sqrt(slack * slack + 4 * PAGE) - slack) / 2
    return max(PAGE, int(root * root / part))


def cut_windows(after: int, upto: int, rows: int, near: Sequence[float] = ()) -> list[Window]:
    """Given a range and the number of rows expected in it, return windows that cover it exactly.

    Args:
        after: Its lower bound, excluded.
        upto: Its upper bound, included; may be `LARGEST_ID`.
        rows: The rows expected in it.
        near: Densities seen at its ends, the lower one first. Where they are far from the average, only a few windows
            are cut, to be counted.
    """
    if after >= upto:
        return []
    span = upto - after
    if span <= PAGE or rows <= 0:
        return [Window(after, upto)]
    if upto == LARGEST_ID:
        # How far the ids go is unknown: guess from the density, and leave the rest open.
        reach = after + ceil(rows / min(near, default=1.0))
        return [*cut_windows(after, reach, rows), Window(reach, LARGEST_ID, counted=True)]
    part = min(1.0, rows / span)
    uneven = any(one > UNEVEN_FACTOR * part or one * UNEVEN_FACTOR < part for one in near)
    # A few rows are read faster than counted.
    if not uneven or rows <= 10 * PAGE:
        return _even(after, upto, ceil(span / window_width(part)), counted=False)
    # As far as the rows would go at the density near the lower end, then the rest in cells.
    reach = min(upto, after + ceil(rows / near[0])) if near[0] > UNEVEN_FACTOR * part else after
    head = [Window(after, reach, counted=True)] if reach > after else []
    cells = min(MOST_CELLS, max(LEAST_CELLS, rows // ROWS_A_CELL))
    return head + _even(reach, upto, cells, counted=True)


def windows_between(after: int, upto: int, bounds: Sequence[int]) -> list[Window]:
    """Given a range and order ids known inside it, return the windows between them, up to the range's end."""
    inside = [after, *(bound for bound in bounds if after < bound < upto), upto]
    return [Window(low, high) for low, high in pairwise(inside)]


def batches(calls: Sequence[T], lanes: int) -> list[Sequence[T]]:
    """Given calls and how many requests may be under way at once, return the calls of each batch, never more than 50.

    A portal carries out a batch's commands one after another, so there are as many batches as lanes, but with
    `LEAST_COMMANDS` in each: smaller ones would cost requests and gain nothing.
    """
    if not calls:
        return []
    number = max(ceil(len(calls) / MAX_COMMANDS), min(ceil(len(calls) / LEAST_COMMANDS), lanes))
    edges = [index * len(calls) // number for index in range(number + 1)]
    return [calls[low:high] for low, high in pairwise(edges)]


def _even(after: int, upto: int, pieces: int, *, counted: bool) -> list[Window]:
    step = max(PAGE, ceil((upto - after) / pieces))
    return [Window(low, min(low + step, upto), counted) for low in range(after, upto, step)]


# -------------------------------------------------------- reading in waves

TRIES: Final = 4
"""How often a window is read before the listing is given up."""

WAVES: Final = 100
"""How many waves a listing may take. A dozen are enough for any ids; each further one waited for a budget's reset."""

WAVE_SHARE: Final = 0.75
"""The share of the free requests that one wave may use, so that writes still have some."""

BOX_LANES: Final = 8
"""Requests side by side to a portal without request limits, whose capacity is unknown."""


SPARING_LANES: Final = 3
"""Requests side by side for a part of the link: it is listed every few seconds, and seldom needs more than 50 calls."""

SPARING_FROM: Final = 30
"""How many requests the bucket must have room for, of 40 as shipped, so that more than one is sent for 50 calls."""


class CountRequest(NamedTuple):
    """A range whose rows are to be counted, and the key under which the count is kept."""

    after: int
    upto: int
    key: int
    tries: int = 0


Call: TypeAlias = Window | CountRequest


class WindowReader:
    """Reads windows of one listing into its buffer.

    Args:
        session: The way to the portal.
        buffer: Where the rows go.
        report: Called with the number of rows so far, once a batch.
        sparing: Send few requests: `SPARING_LANES` where the request bucket has room, else as few as it takes.
            Otherwise as many side by side as bring the last answer soonest.
    """

    def __init__(
        self, session: Session, buffer: RowBuffer, report: Callable[[int], None], *, sparing: bool = False
    ) -> None:
        self._sparing = sparing
        self.counts: dict[int, int] = {}
        self._session = session
        self._buffer = buffer
        self._report = report
        self._next: list[Call] = []
        self._proving = False

    async def read(self, calls: Sequence[Call], *, proving: bool = False) -> None:
        """Read windows until nothing of them is left open; counts go to `counts`, by their keys.

        Args:
            calls: What to read.
            proving: Have every window bring its own count. A page that is short and agrees with the count of the same
                call has everything, however many bindings come and go elsewhere meanwhile.

        Raises:
            IncompleteListing: A window could not be read in `TRIES` tries.
            AuthError, PortalBlocked, UnavailableError: As their names say.
        """
        self._proving = proving
        wave = list(calls)
        for _ in range(WAVES):
            if not wave:
                return
            free = self._session.host.limiter.free()
            boxed = free == float("inf")
            lanes = BOX_LANES if boxed else min(CONNECTIONS, int(free * WAVE_SHARE))
            if self._sparing:
                lanes = min(lanes, SPARING_LANES if boxed or free >= SPARING_FROM else 1)
            groups = batches(wave, lanes)
            await gather_limited(self._send, groups, min(len(groups), BOX_LANES if boxed else CONNECTIONS))
            wave, self._next = self._next, []
        raise _unread(wave[0].after, wave[-1].upto, "the portal keeps refusing for its operating time")

    async def first_pages(self, after: int, upto: int) -> tuple[RowPage, int, RowPage]:
        """Read a range from both its ends in one request: the first step of a listing when nothing is known.

        All other requests wait for this one, and a count takes the portal half as long as a page: one is asked for.

        Returns:
            The first rows and the total, and the last rows, ascending as well.
        """
        problem = ""
        for _ in range(TRIES):
            answer = await self._session.send(
                {
                    "first": list_window(after, upto, count=True),
                    "last": list_window(after, upto, descending=True),
                }
            )
            try:
                first, total = _page(answer.commands.get("first"), after, upto)
                last, _ = _page(answer.commands.get("last"), after, upto, descending=True)
                return first, _agreed(_known(total), last), last
            except (UnusablePage, _Refused) as error:
                problem = self._judge(error)
        raise _unread(after, upto, problem)

    async def _send(self, calls: Sequence[Call]) -> None:
        assert len(calls) <= MAX_COMMANDS
        keyed = {f"w{number}": call for number, call in enumerate(calls)}
        answer = await self._session.send(
            {key: list_window(call.after, call.upto, count=self._is_counted(call)) for key, call in keyed.items()}
        )
        for key, call in keyed.items():
            try:
                self._take(call, answer.commands.get(key))
            except (UnusablePage, _Refused) as error:
                problem = self._judge(error)
                # The operating budget is spent: the session waits for its reset, and this does not count as a try.
                spent = isinstance(error, _Refused) and kind_of(error.error) is ApiErrorKind.OPERATING
                tries = call.tries + (0 if spent else 1)
                if tries >= TRIES:
                    raise _unread(call.after, call.upto, problem) from None
                self._next.append(call._replace(tries=tries))
        self._report(self._buffer.rows)

    def _take(self, call: Call, answer: CommandAnswer | None) -> None:
        if isinstance(call, CountRequest):
            # Only the number is asked for; the page that comes with it is not looked at.
            self.counts[call.key] = _known(_result(answer).total)
            return
        page, total = _page(answer, call.after, call.upto)
        left = _known(total) - len(page) if self._is_counted(call) else None
        if self._is_last(call, page, total):
            if self._proving and total != len(page):
                raise UnusablePage(f"{len(page)} rows where the portal counts {total}")
            self._buffer.put(call.after, call.upto, page)
            return
        reached = page.order_ids[-1]
        self._buffer.put(call.after, reached, page)
        if left is None:
            # Mostly a few rows more than a page. Should it be many, the portal says how many.
            self._next.append(Window(reached, call.upto, counted=True))
        else:
            near = density(page.order_ids)
            self._next += cut_windows(reached, call.upto, left, (near,))

    def _is_counted(self, call: Call) -> bool:
        return self._proving or isinstance(call, CountRequest) or call.counted

    @staticmethod
    def _is_last(call: Window, page: RowPage, total: int | None) -> bool:
        """Given a window's page, return whether there is nothing after it in the window.

        A full page is only the last one where nothing can come after it. The total does not count here: page and total
        are not read at the same moment (portal.md 5.3).
        """
        if len(page) > PAGE:
            # A portal that takes start=-1 for "all" (peers.md 1).
            return total is None or total <= len(page)
        # Unique ids: 50 of them fill a span of 50.
        return len(page) < PAGE or page.order_ids[-1] == call.upto or call.upto - call.after <= PAGE

    def _judge(self, error: UnusablePage | _Refused) -> str:
        """Given why a page is unusable, return it in words, or raise what ends the run."""
        if isinstance(error, UnusablePage):
            return str(error)
        if kind_of(error.error) in ENDS_THE_RUN:
            raise to_exception(error.error, host=self._session.host.name, link=self._session.link) from None
        return str(error.error)


class _Refused(Exception):
    """The portal answered a command with an error."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(str(error))
        self.error = error


def _page(
    answer: CommandAnswer | None, after: int, upto: int, *, descending: bool = False
) -> tuple[RowPage, int | None]:
    """Given a list command's answer, return its rows, ascending, and the total; every row is what was asked for."""
    answer = _result(answer)
    page = decode_page(answer.result, backwards=descending)
    if page:
        ids = page.order_ids
        if not ascending(ids):
            raise UnusablePage("rows out of order")
        if not _are_within(ids, after, upto):
            raise UnusablePage("rows that were not asked for: the portal ignored the filter")
    if answer.total is not None and len(page) < PAGE and answer.total != len(page):
        raise UnusablePage(f"{len(page)} rows where the portal counts {answer.total}")
    return page, answer.total


def _are_within(ids: Sequence[int], after: int, upto: int) -> bool:
    return after < ids[0] and ids[-1] <= upto


def _result(answer: CommandAnswer | None) -> CommandAnswer:
    if answer is None:
        raise UnusablePage("no answer to the command")
    if answer.error is not None:
        raise _Refused(answer.error)
    return answer


def _known(total: int | None) -> int:
    if total is None:
        raise UnusablePage("no total")
    return total


def _agreed(total: int, last: RowPage) -> int:
    """Given the portal's count and its last page, return the count; the page must be full where the count says so."""
    if len(last) < PAGE <= total:
        raise UnusablePage(f"{len(last)} rows where the portal counts {total}")
    return total


def _unread(after: int, upto: int, problem: str) -> IncompleteListing:
    return IncompleteListing(
        f"The portal's orders {span_of(after, upto)} could not be listed in {TRIES} tries: {problem}. "
        "Nothing was written.",
        hint="The next run lists again. If it stays so, look at these orders' bindings in the portal.",
    )


def span_of(after: int, upto: int) -> str:
    """Given a range (after, upto] of order ids, return it in words."""
    return f"from {after + 1} on" if upto == LARGEST_ID else f"{after + 1} to {upto}"


async def gather_limited(act: Callable[[T], Awaitable[None]], items: Iterable[T], lanes: int) -> None:
    """Await `act` for each item, at most `lanes` of them at a time, begun in order; the first failure ends all.

    A `TaskGroup` would wrap that failure in an `ExceptionGroup`, which each handler would have to open.

    Raises:
        BaseException: The first failure, once the other lanes have been cancelled and are over.
    """
    waiting = iter(items)

    async def lane() -> None:
        for item in waiting:
            await act(item)

    tasks = [asyncio.ensure_future(lane()) for _ in range(lanes)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
