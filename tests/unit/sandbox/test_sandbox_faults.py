"""Faults that the sandbox plays: dropped connections, cut bodies, statuses, delays."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from syncd.sandbox import Fault, FaultRule, Faults, SandboxPortal
from tests.fakes.clock import SetClock
from tests.unit.sandbox.sandbox_calls import (
    add,
    add_command,
    ask,
    batch,
    listed,
    reply_of,
    request_of,
    side_by_side,
)

LIST = "crm.orderentity.list?start=-1&order[orderId]=asc"
FIELDS = {"fields": {"orderId": 1, "ownerId": 9, "ownerTypeId": 2}}


def portal_with(*rules: FaultRule, rows: int = 120) -> tuple[SandboxPortal, SetClock]:
    clock = SetClock()
    return SandboxPortal(((order, 2, 7) for order in range(1, rows + 1)), faults=Faults(rules), clock=clock), clock


def rule(action: Fault, **more: Any) -> FaultRule:
    return FaultRule(action, **more)


def send_add(portal: SandboxPortal) -> Any:
    return portal.handle(request_of("crm.orderentity.add", FIELDS))


@pytest.mark.parametrize(("when", "written"), [("before", 0), ("after", 1)])
def test_a_connection_is_dropped_before_or_after_the_effect(when: str, written: int) -> None:
    portal, _ = portal_with(rule(Fault.DROP, when=when))
    assert send_add(portal).dropped
    assert len(portal.stats.writes) == written
    assert not send_add(portal).dropped


def test_a_body_is_cut_after_the_effect() -> None:
    portal, _ = portal_with(rule(Fault.TRUNCATE))
    response = send_add(portal)
    assert (response.status, response.cut_at) == (200, len(response.body) // 2)
    assert len(portal.stats.writes) == 1


@pytest.mark.parametrize(("when", "written"), [("before", 0), ("after", 1)])
@pytest.mark.parametrize(("body", "kind"), [("json", "application/json"), ("html", "text/html")])
def test_a_status_comes_as_json_or_html_before_or_after_the_effect(
    when: str, written: int, body: str, kind: str
) -> None:
    portal, _ = portal_with(rule(Fault.STATUS, status=502, body=body, code='A"B', when=when))
    response = send_add(portal)
    assert response.status == 502
    assert dict(response.headers)["Content-Type"].startswith(kind)
    assert len(portal.stats.writes) == written
    if body == "json":
        assert json.loads(response.body)["error"] == 'A"B'


def test_a_page_comes_with_status_200() -> None:
    portal, _ = portal_with(rule(Fault.HTML))
    response = send_add(portal)
    assert (response.status, dict(response.headers)["Content-Type"]) == (200, "text/html; charset=utf-8")


def test_a_right_body_comes_under_a_wrong_type_or_much_too_large() -> None:
    portal, _ = portal_with(rule(Fault.CONTENT_TYPE, content_type="text/plain"), rule(Fault.OVERSIZE, size=10_000))
    response = portal.handle(request_of("profile"))
    assert dict(response.headers)["Content-Type"] == "text/plain"
    assert len(response.body) == 10_000
    assert reply_of(response).result["ID"] == "1"


def test_a_redirect_names_another_portal() -> None:
    portal, _ = portal_with(rule(Fault.REDIRECT, location="https://new.example/rest/"))
    response = send_add(portal)
    assert (response.status, dict(response.headers)["Location"]) == (302, "https://new.example/rest/")
    assert not portal.stats.writes


def test_delays_come_before_or_after_the_effect() -> None:
    for when, written in (("before", 0), ("after", 1)):
        portal, clock = portal_with(rule(Fault.DELAY, seconds=5, when=when))
        steps = portal.exchange(request_of("crm.orderentity.add", FIELDS))
        assert next(steps).seconds == 5
        assert len(portal.stats.writes) == written
        portal, clock = portal_with(rule(Fault.DELAY, seconds=5, when=when))
        ((seconds, _),) = side_by_side(portal, clock, [request_of("crm.orderentity.add", FIELDS)])
        assert (seconds, len(portal.stats.writes)) == (5, 1)


def test_a_zombie_writes_after_its_connection_is_gone() -> None:
    portal, clock = portal_with(rule(Fault.ZOMBIE, seconds=30))
    assert send_add(portal).dropped
    clock.advance(29)
    assert portal.bindings[1] == (2, 7)
    portal.bind(1, 2, 50)
    clock.advance(1)
    assert portal.bindings[1] == (2, 9)
    assert portal.stats.writes[-1].before == (2, 50)
    assert (portal.stats.requests, portal.stats.writes[-1].request) == (1, 1)


@pytest.mark.anyio
async def test_an_answer_is_held_until_another_has_overtaken_it() -> None:
    portal, _ = portal_with(rule(Fault.OVERTAKEN, seconds=3600, request=1))
    portal.clock = SlowClock()
    order: list[str] = []

    async def call(name: str) -> None:
        await portal.respond("GET", portal.webhook_path + name)
        order.append(name)

    first = asyncio.create_task(call("profile"))
    await asyncio.sleep(0)
    await call("scope")
    await first
    assert order == ["scope", "profile"]


class SlowClock(SetClock):
    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


@pytest.mark.anyio
async def test_an_answer_that_nothing_overtakes_comes_when_its_patience_ends() -> None:
    portal, clock = portal_with(rule(Fault.OVERTAKEN, seconds=7))
    before = clock.time
    assert (await portal.respond("GET", portal.webhook_path + "profile")).status == 200
    assert clock.time - before == 7


def test_a_list_loses_rows_at_its_end_or_in_its_middle_or_all() -> None:
    everything = list(range(1, 51))
    for action, rows, left in (
        (Fault.SHORT, 3, everything[:47]),
        (Fault.GAP, 2, everything[:24] + everything[26:]),
        (Fault.EMPTY, 1, []),
    ):
        portal, _ = portal_with(rule(action, rows=rows))
        reply = listed(portal, order={"orderId": "asc"})
        assert (reply.orders, reply.body["total"]) == (left, 120)
        assert listed(portal, order={"orderId": "asc"}).orders == everything


def test_a_page_is_repeated_or_out_of_order() -> None:
    chain = {"a": LIST, "b": LIST + "&filter[>orderId]=50"}
    portal, _ = portal_with(rule(Fault.REPEAT, key="b"))
    result = batch(portal, chain)["result"]
    assert result["b"] == result["a"]
    portal, _ = portal_with(rule(Fault.SHUFFLE, key="b"))
    assert [row["orderId"] for row in batch(portal, chain)["result"]["b"]["orderEntity"]] == list(range(100, 50, -1))


def test_a_total_disagrees() -> None:
    portal, _ = portal_with(rule(Fault.TOTAL, by=-2))
    assert listed(portal).body["total"] == 118


def test_page_faults_wait_for_a_list() -> None:
    portal, _ = portal_with(rule(Fault.EMPTY))
    add(portal, **FIELDS["fields"])
    assert portal.faults.fired == 0
    assert listed(portal).orders == []


def test_a_batch_forgets_a_key_though_it_was_executed() -> None:
    portal, _ = portal_with(rule(Fault.LOSE_KEY, method="crm.orderentity.add", skip=1))
    result = batch(portal, {"a": add_command(1), "b": add_command(2), "c": add_command(3)})
    assert list(result["result"]) == list(result["result_time"]) == ["a", "c"]
    assert result["result_error"] == []
    assert len(portal.stats.writes) == 3


def test_a_command_of_a_batch_fails_with_a_given_code() -> None:
    portal, _ = portal_with(
        rule(Fault.ERROR, method="crm.orderentity.ADD", key="b", code=200040300020, text="Access Denied")
    )
    result = batch(portal, {"a": add_command(1), "b": add_command(2), "c": LIST})
    assert result["result_error"] == {"b": {"error": "200040300020", "error_description": "Access Denied"}}
    assert [write.order_id for write in portal.stats.writes] == [1]


def test_a_call_may_fail_after_its_effect() -> None:
    portal, _ = portal_with(rule(Fault.ERROR, when="after", code="ERROR_CORE", text="", status=500))
    assert add(portal, **FIELDS["fields"]).error == (500, "ERROR_CORE", "")
    assert len(portal.stats.writes) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_whole_batch_is_refused(when: str) -> None:
    refusal = rule(Fault.ERROR, code="OVERLOAD_LIMIT", status=401, method="batch", when=when, times=None)
    portal, clock = portal_with(refusal)
    ((seconds, response),) = side_by_side(portal, clock, [request_of("batch", {"cmd": [add_command(1)]})])
    assert (seconds, reply_of(response).error[:2]) == (0, (401, "OVERLOAD_LIMIT"))
    assert len(portal.stats.writes) == (when == "after")
    assert ask(portal, "profile").status == 200


def test_calls_and_batches_may_be_slow() -> None:
    portal, clock = portal_with(
        rule(Fault.SLOW, method="crm.orderentity.list", seconds=3), rule(Fault.SLOW, method="batch", seconds=4)
    )
    ((seconds, response),) = side_by_side(portal, clock, [request_of("batch", {"cmd": [LIST, LIST]})])
    assert (seconds, response.status) == (7, 200)
    assert portal.stats.method_seconds["crm.orderentity.list"] == 3


def hits(rule: FaultRule, count: int = 8) -> list[int]:
    portal, _ = portal_with(rule)
    return [number for number in range(1, count + 1) if portal.handle(request_of("profile")).dropped]


def test_rules_choose_by_count_and_number() -> None:
    assert hits(rule(Fault.DROP)) == [1]
    assert hits(rule(Fault.DROP, times=2, skip=3)) == [4, 5]
    assert hits(rule(Fault.DROP, times=None)) == list(range(1, 9))
    assert hits(rule(Fault.DROP, request=6)) == [6]
    assert hits(rule(Fault.DROP, method="crm.*")) == []


def test_chance_is_seeded() -> None:
    by_chance = rule(Fault.DROP, times=None, probability=0.5)
    assert hits(by_chance, 40) == hits(by_chance, 40)
    assert 5 < len(hits(by_chance, 40)) < 35


def test_a_rule_may_name_the_call_of_its_method() -> None:
    portal, _ = portal_with(rule(Fault.EMPTY, call=2))
    assert [bool(listed(portal).orders) for _ in range(3)] == [True, False, True]


def test_a_request_matches_by_the_commands_of_its_batch() -> None:
    portal, _ = portal_with(rule(Fault.DROP, method="crm.orderentity.add", times=None))
    assert not portal.handle(request_of("batch", {"cmd": [LIST]})).dropped
    assert portal.handle(request_of("batch", {"cmd": [LIST, add_command(1)]})).dropped
    assert not portal.handle(request_of("x", path="/elsewhere")).dropped


def test_rules_can_be_added_and_cleared_while_the_portal_runs() -> None:
    portal, _ = portal_with()
    portal.faults.add(rule(Fault.DROP, times=None))
    assert portal.handle(request_of("profile")).dropped
    portal.faults.clear()
    assert not portal.handle(request_of("profile")).dropped


@pytest.mark.parametrize("action", list(Fault))
def test_a_rule_survives_json(action: Fault) -> None:
    full = rule(action, method="crm.*", key="a", times=None, when="after", seconds=0.5, status=503, code=0)
    assert FaultRule.from_json(json.loads(json.dumps(full.to_json()))) == full
    assert rule(action).to_json() == {"action": action.value}


def test_rules_are_loaded_one_or_many() -> None:
    assert Faults.load('{"action": "drop"}')
    assert Faults.load('[{"action": "drop"}, {"action": "short", "rows": 5}]')
    assert not Faults.load("[]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "Expecting"),
        ("5", "not a fault rule: it: "),
        ("{}", "not a fault rule: action: Field required"),
        ('{"action": "explode"}', "action: .*'drop'"),
        ('{"action": "drop", "colour": 1, "times": "x"}', "times: .* valid integer; colour: Unexpected"),
        ('{"action": "drop", "when": "never"}', "when: .*'before' or 'after'"),
        ('{"action": "status", "body": "xml"}', "body: .*'json' or 'html'"),
        ('{"action": "delay", "seconds": true}', "seconds: .* valid number"),
    ],
)
def test_a_wrong_rule_is_refused_with_a_sentence(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Faults.load(text)


def test_the_reference_names_every_action_and_every_key_of_a_rule() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/sandbox.md").read_text(encoding="utf-8")
    script = re.search(r"```json\n(.*?)```", page, re.DOTALL)

    assert script is not None
    assert len(Faults.load(script[1])._rules) == 2
    assert {name for name in [*Fault, *(field.name for field in fields(FaultRule))] if f"`{name}`" not in page} == set()
