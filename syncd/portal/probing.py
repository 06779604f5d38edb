"""Finding out what the credentials may do, by calls without any effect (bitrix24-rest.md 13.43)."""

from __future__ import annotations

from typing import Final

from syncd.core.ports import Rights
from syncd.portal.codes import OWNER_ID_EMPTY, Verdict, verdict
from syncd.portal.commands import get_fields, list_newest, probe_write
from syncd.portal.envelope import CommandAnswer, number
from syncd.portal.pages import Page, UnusablePage, decode_page
from syncd.portal.session import Session

_FIELDS: Final = {"orderId", "ownerId", "ownerTypeId"}
_DENIED: Final = {Verdict.AUTH, Verdict.EXPIRED, Verdict.BLOCKED, Verdict.CLOSED}


async def probe(session: Session) -> tuple[Rights, list[int]]:
    """Return the rights on bindings (owners aside), and the order ids that were seen on the way.

    Raises:
        AuthError, PortalBlocked, UnavailableError: The portal does not let these credentials in at all.
    """
    sent = {"fields": get_fields(), "newest": list_newest(), "add": probe_write()}
    answer = await session.read(sent)
    now, answers = session.clock.now(), answer.commands
    details: list[str] = []
    details += _fields_problem(answers.get("fields"))
    read, orders = True, []
    try:
        orders = _page(answers.get("newest")).order_ids
    except UnusablePage as problem:
        read = False
        details.append(f"bindings cannot be read: {problem}")
    write = _may_write(answers.get("add"), details)
    finished = number(answer.time.get("finish"))
    ahead = finished - now if finished else None
    return Rights(read=read, write=write, sees_owners=None, detail=tuple(details), clock_ahead=ahead), orders


def _may_write(answer: CommandAnswer | None, details: list[str]) -> bool:
    """Given the answer to an `add` of nothing, return whether the right was there; rights are checked before ids."""
    if answer is None or answer.fault is None:
        details.append("the write right is unknown: the portal did not refuse an add of order 0")
        return False
    fault = answer.fault
    said = str(fault)
    if verdict(fault) in _DENIED:
        details.append(f"bindings cannot be written: {said}")
        return False
    if verdict(fault) is not Verdict.REFUSED:
        details.append(f"the write right is unknown: {said}")
        return False
    if fault.code != OWNER_ID_EMPTY:
        # Old boxes: PHP's own words for an order that is not there, but past the check of the right.
        details.append(f"the portal answers the write probe in an unusual way: {said}")
    return True


def _fields_problem(answer: CommandAnswer | None) -> list[str]:
    fields = answer.result.get("orderEntity") if answer is not None and isinstance(answer.result, dict) else None
    if isinstance(fields, dict) and fields.keys() >= _FIELDS:
        return []
    said = answer.fault if answer is not None and answer.fault is not None else "an answer of another shape"
    return [f"crm.orderentity.getFields: {said}"]


def _page(answer: CommandAnswer | None) -> Page:
    if answer is None:
        raise UnusablePage("no answer to the command")
    if answer.fault is not None:
        raise UnusablePage(str(answer.fault))
    return decode_page(answer.result)
