"""Reading windows in waves: whatever a wave leaves open (a full page, a failed command) is read by the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from syncd.errors import IncompleteListing
from syncd.portal.codes import Fault, Verdict, terminal, verdict
from syncd.portal.commands import MAX_COMMANDS, OPEN, PAGE, list_window
from syncd.portal.envelope import CommandAnswer
from syncd.portal.pages import Page, UnusablePage, ascending, decode_page
from syncd.portal.session import Session
from syncd.portal.shelf import Shelf
from syncd.portal.side_by_side import side_by_side
from syncd.portal.transport import CONNECTIONS
from syncd.portal.windows import Window, batches, cut, density

TRIES: Final = 4
"""How often a window is read before the listing is given up."""

WAVES: Final = 100
"""How many waves a listing may take: a dozen do for any ids, and each further one is the wait for a budget's reset."""

AT_ONCE: Final = 0.75
"""The part of what the request bucket has room for that a wave takes if it can do with less: writes follow."""

BOX_LANES: Final = 8
"""Requests side by side to a portal without request limits, whose patience is unknown."""


class Census(NamedTuple):
    """A range whose rows are to be counted, and for whom."""

    after: int
    upto: int
    whom: int
    tries: int = 0


Call: TypeAlias = Window | Census


class Sweep:
    """Reads windows of one listing into its shelf.

    Args:
        session: The way to the portal.
        shelf: Where the rows go.
        told: Called with the number of rows so far, once a batch.
    """

    def __init__(self, session: Session, shelf: Shelf, told: Callable[[int], None]) -> None:
        self.counts: dict[int, int] = {}
        self._session = session
        self._shelf = shelf
        self._told = told
        self._next: list[Call] = []

    async def read(self, calls: Sequence[Call]) -> None:
        """Read windows until nothing of them is left open; the numbers of censuses go to `counts`.

        Raises:
            IncompleteListing: A window could not be read in `TRIES` tries.
            AuthError, PortalBlocked, UnavailableError: As their names say.
        """
        wave = list(calls)
        for _ in range(WAVES):
            if not wave:
                return
            free = self._session.host.limiter.free()
            boxed = free == float("inf")
            groups = batches(wave, BOX_LANES if boxed else min(CONNECTIONS, int(free * AT_ONCE)))
            await side_by_side(self._send, groups, min(len(groups), BOX_LANES if boxed else CONNECTIONS))
            wave, self._next = self._next, []
        raise _unread(wave[0].after, wave[-1].upto, "the portal keeps refusing for its operating time")

    async def first_pages(self, after: int, upto: int) -> tuple[Page, int, Page]:
        """Read a range from both its ends in one request: what a listing begins with when nothing is known.

        Returns:
            The first rows and the total, and the last rows, ascending as well.
        """
        problem = ""
        for _ in range(TRIES):
            answer = await self._session.read(
                {
                    "first": list_window(after, upto, count=True),
                    "last": list_window(after, upto, count=True, descending=True),
                }
            )
            try:
                first, total = _page(answer.commands.get("first"), after, upto)
                last, _ = _page(answer.commands.get("last"), after, upto, descending=True)
                return first, _known(total), last
            except (UnusablePage, _Refused) as error:
                problem = self._judge(error)
        raise _unread(after, upto, problem)

    async def _send(self, calls: Sequence[Call]) -> None:
        assert len(calls) <= MAX_COMMANDS
        keyed = {f"w{number}": call for number, call in enumerate(calls)}
        answer = await self._session.read(
            {
                key: list_window(call.after, call.upto, count=isinstance(call, Census) or call.counted)
                for key, call in keyed.items()
            }
        )
        for key, call in keyed.items():
            try:
                self._take(call, answer.commands.get(key))
            except (UnusablePage, _Refused) as error:
                problem = self._judge(error)
                # Refused for the operating budget: the session waits for the reset, which is no fault of the window.
                spent = isinstance(error, _Refused) and verdict(error.fault) is Verdict.OPERATING
                tries = call.tries + (0 if spent else 1)
                if tries >= TRIES:
                    raise _unread(call.after, call.upto, problem) from None
                self._next.append(call._replace(tries=tries))
        self._told(self._shelf.rows)

    def _take(self, call: Call, answer: CommandAnswer | None) -> None:
        if isinstance(call, Census):
            # Only the number is asked for; the page that comes with it is not looked at.
            self.counts[call.whom] = _known(_result(answer).total)
            return
        page, total = _page(answer, call.after, call.upto)
        left = _known(total) - len(page) if call.counted else None
        if self._is_last(call, page, total):
            self._shelf.put(call.after, call.upto, page)
            return
        reached = page.order_ids[-1]
        self._shelf.put(call.after, reached, page)
        if left is None:
            # Mostly a few rows more than a page. Should it be many, the portal says how many.
            self._next.append(Window(reached, call.upto, counted=True))
        else:
            near = density(page.order_ids)
            self._next += cut(reached, call.upto, left, (near,))

    @staticmethod
    def _is_last(call: Window, page: Page, total: int | None) -> bool:
        """Given a window's page, return whether there is nothing after it in the window.

        A full page is only the last one where nothing can come after it, whatever the total says: page and total are
        not read at the same moment (bitrix24-rest.md 5.3).
        """
        if len(page) > PAGE:
            # A portal that takes start=-1 for "all" (peers.md 1).
            return total is None or total <= len(page)
        # Unique ids: 50 of them fill a span of 50.
        return len(page) < PAGE or page.order_ids[-1] == call.upto or call.upto - call.after <= PAGE

    def _judge(self, error: UnusablePage | _Refused) -> str:
        """Given why a page is not one, return it in words, or raise what ends the run."""
        if isinstance(error, UnusablePage):
            return str(error)
        fault = error.fault
        if verdict(fault) in {Verdict.BLOCKED, Verdict.AUTH, Verdict.CLOSED, Verdict.EXPIRED}:
            raise terminal(fault, host=self._session.host.name, link=self._session.link) from None
        return str(fault)


class _Refused(Exception):
    """A command came to a fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


def _page(answer: CommandAnswer | None, after: int, upto: int, *, descending: bool = False) -> tuple[Page, int | None]:
    """Given a list command's answer, return its rows, ascending, and the total; every row is what was asked for."""
    answer = _result(answer)
    page = decode_page(answer.result, backwards=descending)
    if page:
        ids = page.order_ids
        if not ascending(ids):
            raise UnusablePage("rows out of order")
        if ids[0] <= after or ids[-1] > upto:
            raise UnusablePage("rows that were not asked for: the portal ignored the filter")
    if answer.total is not None and len(page) < PAGE and answer.total > len(page):
        raise UnusablePage(f"{len(page)} rows where the portal counts {answer.total}")
    return page, answer.total


def _result(answer: CommandAnswer | None) -> CommandAnswer:
    if answer is None:
        raise UnusablePage("no answer to the command")
    if answer.fault is not None:
        raise _Refused(answer.fault)
    return answer


def _known(total: int | None) -> int:
    if total is None:
        raise UnusablePage("no total")
    return total


def _unread(after: int, upto: int, problem: str) -> IncompleteListing:
    return IncompleteListing(
        f"The portal's orders {span_of(after, upto)} could not be listed in {TRIES} tries: {problem}. "
        "Nothing was written.",
        hint="The next run lists again. If it stays so, look at these orders' bindings in the portal.",
    )


def span_of(after: int, upto: int) -> str:
    """Given a range (after, upto] of order ids, return it in words."""
    return f"from {after + 1} on" if upto == OPEN else f"{after + 1} to {upto}"
