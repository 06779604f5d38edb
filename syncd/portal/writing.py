"""Writing: one batch that lists its orders and then writes them, and what became of each of them.

A batch is made of groups: a list of the group's orders, then their writes. The list says what was there right before,
so that whatever a race still overwrites is known. Groups are small, so that little time lies between the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from syncd.core.model import Owner
from syncd.core.ports import Effect, Write, WriteAnswer, WriteResult
from syncd.errors import SyncdError
from syncd.portal import commands
from syncd.portal.codes import (
    DUPLICATE,
    NO_SUCH_BINDING,
    NO_SUCH_ORDER,
    Fault,
    Verdict,
    terminal,
    verdict,
)
from syncd.portal.commands import MAX_COMMANDS
from syncd.portal.envelope import BatchAnswer, CommandAnswer, whole
from syncd.portal.pages import UnusablePage
from syncd.portal.reading import Reader, owners_of
from syncd.portal.session import OverBudget, Session
from syncd.portal.transport import PerhapsExecuted

GROUP: Final = 9
"""Writes after one list: at 0.33 s each about 3 s lie between the list and the last of them."""

_READ: Final = "read"

# (code, whether it is a removal): the codes mean different things to the two methods.
_BY_CODE: Final = {
    (DUPLICATE, False): Effect.ALREADY,
    (NO_SUCH_BINDING, True): Effect.MOVED,
    (NO_SUCH_ORDER, False): Effect.ORDER_MISSING,
    (NO_SUCH_ORDER, True): Effect.ORDER_MISSING,
}
_BY_VERDICT: Final = {
    Verdict.RATE: Effect.NOT_SENT,
    Verdict.OPERATING: Effect.NOT_SENT,
    Verdict.PASSING: Effect.NOT_SENT,
    Verdict.BROKEN: Effect.UNKNOWN,
}


class _Sent(NamedTuple):
    """A batch as composed: the commands, each order's own key and its list's."""

    commands: dict[str, str]
    own: dict[int, str]
    listed: dict[int, tuple[str, tuple[int, ...]]]


class Writer:
    """Writes batches of bindings.

    Args:
        session: The way to the portal.
        reader: Knows whether IN lists work, and reads again what is in doubt.
    """

    def __init__(self, session: Session, reader: Reader) -> None:
        self._session = session
        self._reader = reader

    def batch_size(self, writes: Sequence[Write]) -> int:
        """Given writes of one method, return how many of the first fit into one request."""
        if not writes:
            return 0
        # One list a group and one for `then_read`; without IN lists, one a write.
        most = (MAX_COMMANDS - 1) * GROUP // (GROUP + 1) if self._reader.in_lists else MAX_COMMANDS // 2
        return min(len(writes), most, self._session.pace.fit(commands.method_of(writes[0])))

    async def write(self, batch: Sequence[Write], then_read: Sequence[int]) -> WriteAnswer:
        """Send one batch and account for each write; see `syncd.core.ports.Portal.write`."""
        if not batch:
            return WriteAnswer([], await self._there(then_read) if then_read else {})
        sent = self._compose(batch)
        last = self._reader.command(then_read) if then_read and len(sent.commands) < MAX_COMMANDS else None
        everything = sent.commands | ({_READ: last} if last is not None else {})
        try:
            answer = await self._session.write(everything)
        except PerhapsExecuted as lost:
            self._session.pace.overrun(commands.method_of(batch[0]))
            return _all(batch, Effect.UNKNOWN, str(lost))
        except OverBudget as refused:
            return _all(batch, Effect.NOT_SENT, str(refused))
        self._end_if_none_executed(batch, sent, answer)
        results = [self._result(write, sent, answer) for write in batch]
        read: dict[int, Owner] | None = None if then_read else {}
        if last is not None:
            read = _owners(answer.commands.get(_READ), then_read)
        return WriteAnswer(await self._settle(batch, results), read)

    def _compose(self, batch: Sequence[Write]) -> _Sent:
        sent = _Sent({}, {}, {})
        size = GROUP if self._reader.in_lists else 1
        for start in range(0, len(batch), size):
            group = batch[start : start + size]
            ids = tuple(write.order_id for write in group)
            listing = self._reader.command(ids)
            assert listing is not None
            sent.commands[f"l{start}"] = listing
            for write in group:
                key = f"o{write.order_id}"
                sent.commands[key] = commands.write(write)
                sent.own[write.order_id] = key
                sent.listed[write.order_id] = (f"l{start}", ids)
        return sent

    def _result(self, write: Write, sent: _Sent, answer: BatchAnswer) -> WriteResult:
        key, ids = sent.listed[write.order_id]
        before = _owners(answer.commands.get(key), ids)
        own = answer.commands.get(sent.own[write.order_id])
        effect, fault = _effect(write, own)
        result = WriteResult(write.order_id, effect, code=fault.code, text=fault.text)
        return result if before is None else result._replace(found=before.get(write.order_id), found_known=True)

    async def _settle(self, batch: Sequence[Write], results: list[WriteResult]) -> list[WriteResult]:
        """Read again the orders whose answer leaves open what is there now."""
        open_ids = [result.order_id for result in results if result.effect is Effect.UNKNOWN or _is_gone(result)]
        if not open_ids:
            return results
        there = await self._there(open_ids)
        return [
            result if result.order_id not in open_ids else _seen(write, result, there)
            for write, result in zip(batch, results, strict=True)
        ]

    async def _there(self, order_ids: Sequence[int]) -> dict[int, Owner] | None:
        """Read orders; None where that cannot be done: the writes stand, whatever reading comes to."""
        try:
            return await self._reader.read(order_ids)
        except SyncdError:
            return None

    def _end_if_none_executed(self, batch: Sequence[Write], sent: _Sent, answer: BatchAnswer) -> None:
        """Raise what ends the run if each write was refused for it; where some were executed, all are reported."""
        faults = [
            own.fault
            for write in batch
            if (own := answer.commands.get(sent.own[write.order_id])) is not None and own.fault is not None
        ]
        ends = {Verdict.AUTH, Verdict.EXPIRED, Verdict.BLOCKED, Verdict.CLOSED}
        if len(faults) == len(batch) and all(verdict(fault) in ends for fault in faults):
            raise terminal(faults[0], host=self._session.host.name, link=self._session.link)


def _effect(write: Write, answer: CommandAnswer | None) -> tuple[Effect, Fault]:
    """Given a write and its answer, return what became of it; `NO_SUCH_BINDING` is MOVED until it is read again."""
    if answer is None:
        return Effect.UNKNOWN, Fault("", "the answer says nothing of this write")
    fault = answer.fault
    if fault is None:
        if _confirms(write, answer.result):
            return Effect.DONE, Fault("", "")
        return Effect.UNKNOWN, Fault("", "the answer does not confirm the write")
    known = _BY_CODE.get((fault.code, write.after is None))
    if fault.code == "0" and fault.text.startswith("Call to a member function"):
        # PHP's own words on boxes of mid-2024 and older for an order that is not there (bitrix24-rest.md 0.3).
        known = Effect.ORDER_MISSING
    return known or _BY_VERDICT.get(verdict(fault), Effect.REFUSED), fault


def _confirms(write: Write, result: Any) -> bool:
    """Given a write and the result, return whether it says that exactly this was done.

    `add` may answer 200 with `dealOrder: []`: the row was not found right after (bitrix24-rest.md 3.3.11).
    """
    if write.after is None:
        return result is True
    echo = result.get("dealOrder") if isinstance(result, dict) else None
    if not isinstance(echo, dict):
        return False
    told = tuple(whole(echo.get(name)) for name in ("orderId", "ownerTypeId", "ownerId"))
    return told == (write.order_id, *write.after)


def _is_gone(result: WriteResult) -> bool:
    """Whether the triple to delete was not there: unbound, which is what was wanted, or bound elsewhere."""
    return result.effect is Effect.MOVED


def _seen(write: Write, result: WriteResult, there: Mapping[int, Owner] | None) -> WriteResult:
    """Given a result in doubt and what a later reading found, return the result that can be stood for."""
    if there is None:
        return result._replace(effect=Effect.UNKNOWN)
    now = there.get(write.order_id)
    if _is_gone(result):
        effect = Effect.ALREADY if now is None else Effect.MOVED
        return result._replace(effect=effect, found=now, found_known=True)
    if now == write.after:  # whoever put it there
        return result._replace(effect=Effect.DONE)
    # What broke, said so, and left no trace is over. Otherwise it may have been written and replaced since.
    return result._replace(effect=Effect.REFUSED) if result.code and now == write.before else result


def _all(batch: Sequence[Write], effect: Effect, text: str) -> WriteAnswer:
    return WriteAnswer([WriteResult(write.order_id, effect, text=text) for write in batch], None)


def _owners(answer: CommandAnswer | None, order_ids: Sequence[int]) -> dict[int, Owner] | None:
    try:
        return owners_of(answer, order_ids)
    except UnusablePage:
        return None
