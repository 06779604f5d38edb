"""Owners are asked for before orders are bound to them; rights are probed without an effect."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from syncd.core.model import Owner
from syncd.errors import AuthError
from syncd.sandbox import Fault, FaultRule, SandboxPortal, Version
from tests.fakes.clock import FakeClock
from tests.fakes.portal_client import batch_answer, client

pytestmark = pytest.mark.anyio

ITEMS = "crm.item.list"
DEAL, OTHER, INVOICE = Owner(2, 10), Owner(2, 11), Owner(31, 3)


def sandbox(clock: FakeClock, *rules: FaultRule, **options: Any) -> SandboxPortal:
    portal = SandboxPortal({5: DEAL}, orders=range(1, 100), clock=clock, **options)
    for rule in rules:
        portal.faults.add(rule)
    return portal


async def test_given_many_owners_when_asked_then_fifty_fit_into_a_call_and_all_into_a_request(clock: FakeClock) -> None:
    there = {Owner(2, number) for number in range(1, 301)}
    portal = sandbox(clock, owners=there)
    async with client(portal, clock) as ours:
        assert await ours.missing_owners(there | {Owner(2, 999)}, ()) == {Owner(2, 999)}

    assert (portal.stats.requests, portal.stats.calls[ITEMS]) == (1, 7)


async def test_given_owners_seen_within_the_hour_when_asked_again_then_no_request_is_made(clock: FakeClock) -> None:
    portal = sandbox(clock, owners={DEAL})
    async with client(portal, clock) as ours:
        await ours.missing_owners({DEAL}, ())
        clock.advance(3500)
        await ours.missing_owners({DEAL}, ())
        assert portal.stats.requests == 1
        clock.advance(200)
        await ours.missing_owners({DEAL}, ())

    assert portal.stats.requests == 2


async def test_given_a_missing_owner_when_it_is_made_since_then_it_is_seen_at_once(clock: FakeClock) -> None:
    portal = sandbox(clock, owners={DEAL})
    async with client(portal, clock) as ours:
        assert await ours.missing_owners({OTHER}, {DEAL}) == {OTHER}
        portal.owners = {DEAL, OTHER}
        assert await ours.missing_owners({OTHER}, {DEAL}) == set()


async def test_given_types_the_credentials_do_not_see_when_asked_then_only_the_others_are_judged(
    clock: FakeClock,
) -> None:
    async with client(sandbox(clock, owners={DEAL}), clock) as ours:
        assert await ours.missing_owners({OTHER, Owner(31, 4)}, {DEAL, INVOICE}) == {OTHER}


UNVERIFIABLE = {
    "unknown method": FaultRule(Fault.ERROR, method=ITEMS, code="ERROR_METHOD_NOT_FOUND", times=None),
    "access denied": FaultRule(Fault.ERROR, method=ITEMS, code="ACCESS_DENIED", times=None),
    "scope missing": FaultRule(Fault.ERROR, method=ITEMS, code="insufficient_scope", text="", times=None),
    "unknown type": FaultRule(Fault.ERROR, method=ITEMS, code="NOT_FOUND", times=None),
    "forgotten key": FaultRule(Fault.LOSE_KEY, method=ITEMS, times=None),
}


@pytest.mark.parametrize("rule", UNVERIFIABLE.values(), ids=UNVERIFIABLE.keys())
async def test_given_owners_cannot_be_asked_for_when_asked_then_none_is_missing_and_it_is_warned_once(
    clock: FakeClock, rule: FaultRule
) -> None:
    portal = sandbox(clock, rule, owners={DEAL})
    async with client(portal, clock) as ours:
        with capture_logs() as logs:
            assert await ours.missing_owners({OTHER}, {DEAL}) == set()
            assert await ours.missing_owners({OTHER}, {DEAL}) == set()

    assert [entry["event"] for entry in logs] == ["owners not verified"]
    assert logs[0]["log_level"] == "warning"


@pytest.mark.parametrize(
    "items",
    [{"items": [{"id": 10}, {"id": 77}]}, {"items": [{"ID": 10}]}, {"items": [10]}, {"items": 5}, [], True],
)
async def test_given_items_of_another_shape_when_asked_then_none_is_called_missing(
    clock: FakeClock, items: Any
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return batch_answer(dict.fromkeys(json.loads(request.content)["cmd"], items))

    async with client(answer, clock) as ours:
        assert await ours.missing_owners({DEAL, OTHER}, ()) == set()


async def test_given_ids_as_strings_and_items_as_a_map_when_asked_then_they_are_understood(clock: FakeClock) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return batch_answer({key: {"items": {"1": {"id": "10"}}} for key in json.loads(request.content)["cmd"]})

    async with client(answer, clock) as ours:
        assert await ours.missing_owners({DEAL, OTHER}, ()) == {OTHER}


async def test_given_an_old_box_when_asked_for_owners_then_each_is_asked_for_by_equality(clock: FakeClock) -> None:
    portal = sandbox(clock, version=Version.OLD, owners={Owner(2, 1), DEAL})
    async with client(portal, clock) as ours:
        await ours.probe()

        assert await ours.missing_owners({Owner(2, 1), DEAL, OTHER}, ()) == {OTHER}


async def test_given_verification_is_off_when_asked_then_no_request_is_made(clock: FakeClock) -> None:
    portal = sandbox(clock, owners={DEAL})
    async with client(portal, clock, verify_owners=False) as ours:
        assert await ours.missing_owners({OTHER}, {DEAL}) == set()
        assert (await ours.probe([DEAL])).sees_owners is None

    assert portal.stats.calls[ITEMS] == 0


# --------------------------------------------------------------------- probe


@pytest.mark.parametrize("version", Version)
async def test_given_full_rights_when_probed_then_nothing_is_written_on_any_version(
    clock: FakeClock, version: Version
) -> None:
    portal = sandbox(clock, version=version)
    async with client(portal, clock) as ours:
        rights = await ours.probe([DEAL])

    assert (rights.read, rights.write, rights.sees_owners) == (True, True, True)
    assert bool(rights.detail) is (version is Version.OLD)
    assert portal.stats.writes == []
    assert portal.bindings == {5: DEAL}


@pytest.mark.parametrize(("right", "read", "write"), [("W", True, True), ("U", True, False), ("D", False, False)])
async def test_given_a_right_when_probed_then_reading_and_writing_are_judged_apart(
    clock: FakeClock, right: str, read: bool, write: bool
) -> None:
    async with client(sandbox(clock, sale_right=right), clock) as ours:
        rights = await ours.probe()

    assert (rights.read, rights.write) == (read, write)
    assert bool(rights.detail) is not (read and write)


async def test_given_a_wrong_webhook_when_probed_then_the_error_says_so(clock: FakeClock) -> None:
    async with client(sandbox(clock, code="another"), clock) as ours:
        with pytest.raises(AuthError):
            await ours.probe()


async def test_given_owners_that_cannot_be_seen_when_probed_then_the_rights_say_so(clock: FakeClock) -> None:
    portal = sandbox(clock)
    portal.owners_visible = False
    async with client(portal, clock) as ours:
        assert (await ours.probe([DEAL])).sees_owners is False


async def test_given_a_list_that_says_nothing_when_probed_then_the_read_right_is_not_claimed(clock: FakeClock) -> None:
    rule = FaultRule(Fault.LOSE_KEY, method="crm.orderentity.list")
    async with client(sandbox(clock, rule), clock) as ours:
        rights = await ours.probe()

    assert (rights.read, rights.write) == (None, True)


async def test_given_witnesses_of_other_types_when_asked_then_they_are_not_asked_for(clock: FakeClock) -> None:
    portal = sandbox(clock, owners={DEAL, INVOICE})
    async with client(portal, clock) as ours:
        assert await ours.missing_owners({OTHER}, {DEAL, INVOICE}) == {OTHER}

    assert portal.stats.calls[ITEMS] == 1


UNCLEAR = {
    "no answer": FaultRule(Fault.LOSE_KEY, method="crm.orderentity.add"),
    "something broke": FaultRule(Fault.ERROR, method="crm.orderentity.add", code="INTERNAL_SERVER_ERROR"),
}


@pytest.mark.parametrize("rule", UNCLEAR.values(), ids=UNCLEAR.keys())
async def test_given_a_write_probe_that_says_nothing_when_probed_then_the_right_is_not_claimed(
    clock: FakeClock, rule: FaultRule
) -> None:
    async with client(sandbox(clock, rule), clock) as ours:
        rights = await ours.probe()

    assert rights.write is None
    assert "unknown" in rights.detail[0]


async def test_given_fields_of_another_shape_when_probed_then_the_detail_says_so(clock: FakeClock) -> None:
    rule = FaultRule(Fault.ERROR, method="crm.orderentity.getfields", code="22002", text="no such action")
    async with client(sandbox(clock, rule), clock) as ours:
        rights = await ours.probe()

    assert rights.detail == ("crm.orderentity.getFields: 22002: no such action",)


# ---------------------------------------------------------------------- titles


async def test_given_owners_of_two_types_then_their_titles_come_in_one_request(clock: FakeClock) -> None:
    portal = sandbox(clock, owners={DEAL, INVOICE})
    portal.titles = {DEAL: "Desks\n\x1b[31m\u202efor  Elm", INVOICE: "x" * 300}
    async with client(portal, clock) as ours:
        found = await ours.titles({DEAL, OTHER, INVOICE})

    assert found == {DEAL: "Desks [31m for Elm", OTHER: "", INVOICE: "x" * 199 + "…"}
    assert portal.stats.requests == 1


async def test_given_a_type_that_is_refused_then_nothing_is_said_of_it(clock: FakeClock) -> None:
    refused = FaultRule(Fault.ERROR, method=ITEMS, code="ACCESS_DENIED")
    async with client(sandbox(clock, refused), clock) as ours:
        assert await ours.titles({DEAL}) == {}
        assert await ours.titles(()) == {}


async def test_given_a_portal_in_another_language_then_the_first_owner_type_has_its_name(clock: FakeClock) -> None:
    portal = sandbox(clock)
    portal.owner_type_names = {2: "Сделка", 31: "Счёт"}
    async with client(portal, clock) as ours:
        assert await ours.owner_types() == {2: "Сделка"}


@pytest.mark.parametrize("answer", [None, [], {}, [7], [{"id": "2"}], [{"id": 0, "name": "x"}], {"a": {"id": "x"}}])
async def test_given_an_odd_list_of_owner_types_then_what_cannot_be_used_is_left_out(
    clock: FakeClock, answer: Any
) -> None:
    async with client(lambda _request: batch_answer({"types": answer}), clock) as ours:
        assert await ours.owner_types() == {}
