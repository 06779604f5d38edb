"""Conditional writes made of references (portal.md 6.6) as conformance vectors: of all releases of the sandbox.

The forms and the probe's seven questions are written out here once, as the document has them, and not taken from the
code that sends them; that it sends these is a test of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

import pytest

from syncd.core.model import Owner, Row
from syncd.core.ports import Write
from syncd.portal import commands
from syncd.sandbox import Fault, FaultRule, References, SandboxPortal, Version
from tests.unit.sandbox import sandbox_calls

LIST, ADD = "crm.orderentity.list", "crm.orderentity.add"
DEAL, OTHER = (2, 10), (2, 11)
MOVE = {
    "l5125": f"{LIST}?filter[=orderId]=5125&filter[=ownerTypeId]=2&filter[=ownerId]=10&select[0]=orderId&start=-1",
    "o5125": f"{ADD}?fields[orderId]=0$result[l5125][orderEntity][0][orderId]&fields[ownerTypeId]=31&fields[ownerId]=77",
}
BIND = {
    "l5125": f"{LIST}?filter[=orderId]=5125&start=0",
    "w5125": f"{LIST}?filter[=orderId]=7&filter[=ownerTypeId]=2&filter[>orderId]=0$result[l5125][orderEntity][0][orderId]"
    "&filter[<orderId]=0.09e1$total[l5125]&select[0]=ownerTypeId&start=-1",
    "o5125": f"{ADD}?fields[orderId]=0.000000005125e1$result[w5125][orderEntity][0][ownerTypeId]"
    "&fields[ownerTypeId]=31&fields[ownerId]=77",
}
PAIR = {
    "l5125": f"{LIST}?order[orderId]=desc&filter[@orderId][]=12&filter[@orderId][]=5125&start=-1",
    "o5125": f"{ADD}?fields[orderId]=0.{'0' * 108}5125e1$result[l5125][orderEntity][0][orderId]"
    "&fields[ownerTypeId]=31&fields[ownerId]=77",
}
KNOWN = f"{LIST}?filter[=orderId]=7"
PROBE = {
    "p": f"{LIST}?filter[=orderId]=2147483647&start=0",
    "q": f"{KNOWN}&start=0",
    "a": f"{LIST}?filter[=orderId]=0.000000000007e1$result[q][orderEntity][0][ownerTypeId]&start=-1",
    "b": f"{LIST}?filter[=orderId]=0.000000000007e1$result[p][orderEntity][0][ownerTypeId]&start=-1",
    "c": f"{KNOWN}&filter[<orderId]=0.09e1$total[p]&start=-1",
    "d": f"{KNOWN}&filter[<orderId]=0.09e1$total[nosuch]&start=-1",
    "e": f"{LIST}?filter[=orderId]=0$result[q][orderEntity][0][orderId]&start=-1",
    "f": f"{KNOWN}&filter[>orderId]=0$result[q][orderEntity][0][orderId]&start=-1",
    "g": f"{KNOWN}&filter[>orderId]=0$result[p][orderEntity][0][orderId]&start=-1",
}
PAIRED = {
    "h": f"{LIST}?order[orderId]=desc&filter[@orderId][]=12&filter[@orderId][]=13&start=-1",
    "i": f"{LIST}?filter[=orderId]=0.{'0' * 111}12e1$result[h][orderEntity][0][orderId]&start=-1",
}
ANSWERS = {"a": [7], "b": [], "c": [7], "d": [], "e": [7], "f": [], "g": [7]}


def batch(portal: SandboxPortal, cmd: dict[str, str]) -> Any:
    """Send commands, percent-encoded: parse_str would end a key at its first plain `=`."""
    return sandbox_calls.batch(portal, {key: one if "%" in one else encoded(one) for key, one in cmd.items()})


def encoded(command: str) -> str:
    name, _, query = command.partition("?")
    pairs = []
    for pair in query.split("&"):
        key, bracket, value = pair.partition("]=")
        pairs.append(f"{quote(key + ']', safe='')}={quote(value, safe='')}" if bracket else pair)
    return f"{name}?{'&'.join(pairs)}"


@pytest.fixture(params=list(Version))
def portal(request: pytest.FixtureRequest) -> SandboxPortal:
    return SandboxPortal({7: (2, 3), 9: DEAL, 5125: DEAL}, orders=range(1, 10_000), version=request.param)


def refused(portal: SandboxPortal, answer: Any) -> bool:
    """Whether the write was refused as one of order 0 is, and nothing was written."""
    error = answer["result_error"]["o5125"]
    old = (error["error"], error["error_description"]) == (0, "Call to a member function getEntityBinding() on null")
    clean = str(error["error"]) == "201640400003"
    return (old if portal.version is Version.OLD else clean) and not rest_writes(portal)


def rest_writes(portal: SandboxPortal) -> list[int]:
    return [written.order_id for written in portal.stats.writes if written.request]


def fail(key: str) -> Callable[[SandboxPortal], None]:
    return lambda portal: portal.faults.add(FaultRule(Fault.ERROR, method=LIST, key=key))


def forget(key: str) -> Callable[[SandboxPortal], None]:
    return lambda portal: portal.faults.add(FaultRule(Fault.LOSE_KEY, method=LIST, key=key))


# ---------------------------------------------------------------------------- move


def test_a_move_of_an_order_that_still_has_the_expected_owner_is_made(portal: SandboxPortal) -> None:
    answer = batch(portal, MOVE)

    assert answer["result"]["o5125"] == {"dealOrder": {"orderId": 5125, "ownerId": 77, "ownerTypeId": 31}}
    assert portal.bindings == {7: (2, 3), 9: DEAL, 5125: (31, 77)}


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda portal: portal.bind(5125, *OTHER),
        lambda portal: portal.bind(5125, 31, 10),
        lambda portal: portal.unbind(5125),
        lambda portal: portal.delete_order(5125),
        fail("l5125"),
        forget("l5125"),
    ],
    ids=["bound elsewhere", "bound to another type", "unbound", "deleted", "the list fails", "the list is forgotten"],
)
def test_a_move_whose_condition_does_not_hold_or_cannot_be_asked_is_refused(
    portal: SandboxPortal, meanwhile: Callable[[SandboxPortal], None]
) -> None:
    meanwhile(portal)

    assert refused(portal, batch(portal, MOVE))


# ---------------------------------------------------------------------------- bind


def test_a_bind_of_an_unbound_order_is_made(portal: SandboxPortal) -> None:
    portal.unbind(5125)

    answer = batch(portal, BIND)

    assert answer["result"]["o5125"] == {"dealOrder": {"orderId": 5125, "ownerId": 77, "ownerTypeId": 31}}
    assert portal.bindings == {7: (2, 3), 9: DEAL, 5125: (31, 77)}


def unbound_and(*then: Callable[[SandboxPortal], None]) -> Callable[[SandboxPortal], None]:
    def act(portal: SandboxPortal) -> None:
        portal.unbind(5125)
        for one in then:
            one(portal)

    return act


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda _portal: None,
        unbound_and(fail("l5125")),
        unbound_and(forget("l5125")),
        unbound_and(fail("w5125")),
        unbound_and(forget("w5125")),
        unbound_and(lambda portal: portal.unbind(7)),
        unbound_and(lambda portal: portal.bind(7, 31, 3)),
    ],
    ids=[
        "bound", "the list fails", "the list is forgotten", "the witness's list fails", "the witness's list is forgotten",
        "the witness is gone", "the witness has another type",
    ],
)  # fmt: skip
def test_a_bind_whose_condition_does_not_hold_or_cannot_be_asked_is_refused(
    portal: SandboxPortal, meanwhile: Callable[[SandboxPortal], None]
) -> None:
    meanwhile(portal)

    assert refused(portal, batch(portal, BIND))


@pytest.mark.parametrize("kind", [2, 31, 128, 1036])
@pytest.mark.parametrize("order", [1, 7, 50, 99_999, 2_147_483_647])
def test_a_bind_writes_exactly_its_order_with_a_witness_of_any_type(
    portal: SandboxPortal, kind: int, order: int
) -> None:
    portal.add_order(order)
    portal.unbind(order)
    portal.bind(1, kind, 3)
    if order == 1:
        portal.unbind(1)
    witness = Row(1, kind, 3)
    answer = batch(portal, commands.bind_if_unbound(Write(order, None, Owner(2, 4)), witness))

    assert rest_writes(portal) == ([] if order == 1 else [order])
    assert (f"o{order}" in answer["result"]) is (order != 1)


@pytest.mark.parametrize("digits", range(1, 11))
def test_what_does_not_resolve_is_order_zero_however_long_the_id(portal: SandboxPortal, digits: int) -> None:
    for order in (int("9" * digits), int("1" + "0" * (digits - 1)), int("123456789012"[:digits])):
        scaled = commands.bind_if_unbound(Write(order, None, Owner(2, 4)), Row(1, 2, 3))[f"o{order}"]
        alone = batch(portal, {"o5125": scaled})

        assert refused(portal, alone)


# --------------------------------------------------------------------------- pair


@pytest.fixture
def paired(portal: SandboxPortal) -> SandboxPortal:
    """The portal, with the pair's witness, and what an old box takes an IN list for: order 1."""
    portal.bind(12, 31, 4)
    portal.bind(1, *DEAL)
    return portal


def test_a_bind_of_an_unbound_order_is_made_by_a_pair_where_in_lists_work(paired: SandboxPortal) -> None:
    paired.unbind(5125)

    answer = batch(paired, PAIR)

    if paired.version is Version.OLD:
        assert refused(paired, answer)
    else:
        assert answer["result"]["o5125"] == {"dealOrder": {"orderId": 5125, "ownerId": 77, "ownerTypeId": 31}}
        assert paired.bindings == {1: DEAL, 7: (2, 3), 9: DEAL, 12: (31, 4), 5125: (31, 77)}


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda _portal: None,
        lambda portal: portal.unbind(12),
        lambda portal: portal.bind(5125, 31, 4),
        unbound_and(fail("l5125")),
        unbound_and(forget("l5125")),
        unbound_and(lambda portal: portal.unbind(12)),
        unbound_and(lambda portal: setattr(portal, "references", References.WHOLE_VALUES)),
        unbound_and(lambda portal: setattr(portal, "references", References.NO_EXPONENTS)),
    ],
    ids=[
        "bound", "bound, and the witness is gone", "bound to the witness's owner", "the list fails",
        "the list is forgotten", "the witness is gone", "texts are not resolved", "exponents are not read",
    ],
)  # fmt: skip
def test_a_pair_whose_condition_does_not_hold_or_cannot_be_asked_is_refused(
    paired: SandboxPortal, meanwhile: Callable[[SandboxPortal], None]
) -> None:
    meanwhile(paired)

    assert refused(paired, batch(paired, PAIR))


@pytest.mark.parametrize("bound", [True, False], ids=["bound", "unbound"])
@pytest.mark.parametrize("witness", [10, 12, 99, 100, 537, 999])
@pytest.mark.parametrize("order", [100, 499, 500, 937, 999, 1000, 9999, 10_000, 99_999, 2_147_483_647, 123_456_789_012])
def test_a_pair_writes_exactly_its_order_or_none(portal: SandboxPortal, witness: int, order: int, bound: bool) -> None:
    row = Row(witness, 2, 3)
    if not commands.can_pair(row, order):
        assert order <= witness + 400
        return
    for one in (1, witness, order):
        portal.add_order(one)
        portal.bind(one, 2, 3)
    if not bound:
        portal.unbind(order)
    made = commands.bind_if_first(Write(order, None, Owner(2, 4)), row)
    answer = batch(portal, made)

    written = not bound and portal.version is not Version.OLD
    assert rest_writes(portal) == ([order] if written else [])
    assert (f"o{order}" in answer["result"]) is written
    assert all(len(one) < 2_500 for one in made.values())


@pytest.mark.parametrize("bound", [{}, {1: DEAL}], ids=["nothing", "order 1"])
@pytest.mark.parametrize("order", [499, 5125, 2_147_483_647])
def test_an_old_box_that_takes_the_pair_for_order_1_is_asked_to_write_order_zero(
    order: int, bound: dict[int, tuple[int, int]]
) -> None:
    """Why a witness has two digits: of order 5 as one, order 1 as an exponent would leave the first digits of an id."""
    portal = SandboxPortal(bound, orders=range(1, 10_000), version=Version.OLD)
    portal.add_order(order)
    for witness in range(10, 30):
        batch(portal, commands.bind_if_first(Write(order, None, Owner(2, 4)), Row(witness, 2, 3)))

    assert rest_writes(portal) == []


# --------------------------------------------------------------------------- probe


def test_the_seven_questions_of_the_probe_are_answered_as_conditions_need_it(portal: SandboxPortal) -> None:
    answer = batch(portal, PROBE)["result"]

    assert {key: [row["orderId"] for row in answer[key]["orderEntity"]] for key in ANSWERS} == ANSWERS
    assert not rest_writes(portal)


@pytest.mark.parametrize("references", [References.WHOLE_VALUES, References.NO_EXPONENTS])
def test_a_portal_that_is_unlike_them_answers_the_probe_otherwise(
    portal: SandboxPortal, references: References
) -> None:
    portal.references = references

    answer = batch(portal, PROBE)["result"]

    assert {key: [row["orderId"] for row in answer[key]["orderEntity"]] for key in ANSWERS} != ANSWERS


def test_the_two_questions_about_pairs_are_answered_as_pairs_need_it_but_by_old_boxes(paired: SandboxPortal) -> None:
    paired.bind(13, *DEAL)

    answer = batch(paired, PAIRED)["result"]

    rows = [[row["orderId"] for row in answer[key]["orderEntity"]] for key in PAIRED]
    assert (rows == [[13, 12], [12]]) is (paired.version is not Version.OLD)
    assert not rest_writes(paired)


# ------------------------------------------------------------------- what is sent


def test_what_is_sent_is_what_stands_here() -> None:
    move = commands.move_if_still(Write(5125, Owner(*DEAL), Owner(31, 77)))
    bind = commands.bind_if_unbound(Write(5125, None, Owner(31, 77)), Row(7, 2, 3))
    pair = commands.bind_if_first(Write(5125, None, Owner(31, 77)), Row(12, 31, 4))
    probe = commands.probe_conditions(Row(7, 2, 3), 2147483647)
    paired = commands.probe_pairs(Row(12, 31, 4), Row(13, *DEAL))

    assert {key: unquote(one) for key, one in move.items()} == MOVE
    assert {key: unquote(one) for key, one in bind.items()} == BIND
    assert {key: unquote(one) for key, one in pair.items()} == PAIR
    assert {key: unquote(one) for key, one in probe.items() if key != "r"} == PROBE
    assert {key: unquote(one) for key, one in paired.items()} == PAIRED


def test_what_a_query_string_means_something_by_is_percent_encoded() -> None:
    sent = {
        **commands.move_if_still(Write(5125, Owner(*DEAL), Owner(31, 77))),
        **commands.bind_if_unbound(Write(6, None, Owner(31, 77)), Row(5, 2, 3)),
        **commands.bind_if_first(Write(4096, None, Owner(31, 77)), Row(12, 31, 4)),
        **commands.probe_conditions(Row(7, 2, 3), 2147483647),
        **commands.probe_pairs(Row(12, 31, 4), Row(13, *DEAL)),
    }
    for command in sent.values():
        name, _, query = command.partition("?")
        assert name in {LIST, ADD}
        for pair in query.split("&"):
            key, cut, value = pair.partition("=")
            assert cut
            assert not set(key + value) & set("$[]<>=")


@pytest.mark.parametrize(
    ("witness", "order"),
    [
        (Row(9, 2, 3), 8),
        (Row(900_000_000, 2, 3), 900_000_001),
        (Row(1, 2, 3), 10**11),
        (Row(1, 10_000, 3), 8),
    ],
    ids=["behind the order", "beyond the bound", "an id as long as the exponent", "a type of five digits"],
)
def test_a_witness_that_cannot_bear_witness_is_refused(witness: Row, order: int) -> None:
    assert not commands.can_witness(witness, order)
    with pytest.raises(ValueError, match="cannot bear witness"):
        commands.bind_if_unbound(Write(order, None, Owner(2, 4)), witness)


@pytest.mark.parametrize(
    ("witness", "order"),
    [(Row(9, 2, 3), 5000), (Row(1000, 2, 3), 50_000), (Row(10, 2, 3), 99), (Row(150, 2, 3), 549)],
    ids=["of one digit", "of four digits", "an order of as many digits", "an order too near"],
)
def test_an_order_that_makes_no_pair_with_a_witness_is_refused(witness: Row, order: int) -> None:
    assert not commands.can_pair(witness, order)
    with pytest.raises(ValueError, match="makes no pair"):
        commands.bind_if_first(Write(order, None, Owner(2, 4)), witness)


def test_an_id_as_long_as_the_exponent_would_not_be_zero_when_it_does_not_resolve() -> None:
    """Why a digit more is asked for than "E - n must not be negative": PHP reads 0.512500000000e1 as 5."""
    from syncd.sandbox.php import to_int

    assert to_int("0.512500000000e1$result[w]") == 5
    assert to_int("0.051250000000e1$result[w]") == 0
