"""A portal that was renamed keeps its agreed state; another one never gets it."""

from __future__ import annotations

import pytest

from syncd.core.model import HoldKind, Unreadable
from syncd.core.records import LinkRow
from syncd.engine import reconcile as engine
from syncd.engine import state_check
from syncd.engine.report import Report
from syncd.errors import UsageError
from tests.fakes.portal import Surprise
from tests.simulation.world import World
from tests.unit.engine.given import both, deal, in_step, rebase, written

pytestmark = pytest.mark.anyio


async def renamed(orders: int = 30, *, member: str = "", changed: tuple[str, ...] = ("portal",)) -> World:
    """A link in step, whose configuration names the portal by another address now."""
    bound = {order: 10 + order for order in range(1, orders + 1)}
    world = await in_step(bound, options={"portal_address": "old.example"})
    if member:
        world.portal.member = member
        await world.reconcile()
    readdress(world, changed)
    return world


def readdress(world: World, changed: tuple[str, ...] = ("portal",)) -> None:
    """Give the portal another address in the configuration."""
    world.options |= {
        "portal_address": "new.example",
        "fingerprint": "elsewhere",
        "changed_ends": lambda stored: changed if stored != "elsewhere" else (),
    }


async def row(world: World) -> LinkRow:
    found = await world.store.find_link("shop")
    assert found is not None
    return found


async def rename(world: World) -> Report:
    return await engine.rename(world.link())


async def test_given_a_pass_then_the_portal_that_its_agreed_state_is_about_is_known() -> None:
    world = await in_step({5: 10}, options={"portal_address": "old.example"})
    assert ((await row(world)).portal, (await row(world)).member_id) == ("old.example", "")

    world.portal.member = "0123"
    await world.reconcile()

    assert ((await row(world)).portal, (await row(world)).member_id) == ("old.example", "0123")


async def test_given_the_old_address_redirects_to_the_new_one_then_the_agreed_state_goes_on_by_itself() -> None:
    world = await renamed()
    world.portal.redirected = {"old.example"}
    world.edit_table(5, None)

    report = await world.reconcile()

    assert report.exit_code == 0
    assert both(world, 5) == (None, None)  # a removal: nothing of the kind on a first sync
    now = await row(world)
    assert (now.generation, now.fingerprint, now.portal) == (1, "elsewhere", "new.example")


async def test_given_the_same_member_id_then_the_agreed_state_goes_on_by_itself() -> None:
    world = await renamed(member="0123")

    assert (await world.reconcile()).exit_code == 0
    assert ((await row(world)).portal, (await row(world)).member_id) == ("new.example", "0123")


async def test_given_another_member_id_then_a_redirect_proves_nothing() -> None:
    world = await renamed(member="0123")
    world.portal.redirected = {"old.example"}
    world.portal.member = "4567"

    assert (await world.reconcile()).exit_code == 4
    assert (await row(world)).portal == "old.example"


async def test_given_a_webhook_after_an_application_then_what_is_known_of_the_portal_stays_known() -> None:
    world = await in_step({5: 10}, options={"portal_address": "old.example"})
    world.portal.member = "0123"
    await world.reconcile()
    world.portal.member = ""
    assert (await world.reconcile()).exit_code == 0
    assert ((await row(world)).portal, (await row(world)).member_id) == ("old.example", "0123")

    readdress(world)
    world.portal.redirected = {"old.example"}

    assert (await world.reconcile()).exit_code == 0
    assert ((await row(world)).portal, (await row(world)).member_id) == ("new.example", "0123")


async def test_given_another_portal_at_the_same_address_then_nothing_is_read_or_written() -> None:
    world = await in_step({5: 10}, options={"portal_address": "old.example"})
    world.portal.member = "0123"
    await world.reconcile()
    world.portal.member = "4567"
    world.edit_table(5, (2, 20))
    before = written(world)

    report = await world.reconcile()

    assert (report.row.state, report.exit_code) == ("refused", 4)
    assert "different: portal" in report.row.error
    assert written(world) == before
    await rebase(world)
    assert (await world.reconcile()).exit_code == 3
    assert (await row(world)).member_id == "4567"


async def test_given_nothing_that_proves_it_then_the_refusal_names_the_command_that_compares() -> None:
    world = await renamed()

    report = await world.reconcile()

    assert report.exit_code == 4
    assert report.row.error == (
        "The configuration of this link points elsewhere than its agreed state was made for (different: portal); "
        "nothing was read or written. If it is the same portal at a new address: `syncd rebase shop --same-portal`."
    )


async def test_given_more_than_the_portal_changed_then_a_redirect_is_not_even_asked_for() -> None:
    world = await renamed(changed=("portal", "table"))
    world.portal.redirected = {"old.example"}

    report = await world.reconcile()

    assert report.exit_code == 4
    assert "same-portal" not in report.row.error


# ---------------------------------------------------------------- rebase --same-portal


async def test_given_the_agreed_bindings_are_there_when_a_person_says_it_is_the_same_then_the_state_goes_on() -> None:
    world = await renamed()
    world.edit_crm(1, (2, 99))
    world.edit_crm(2, None)
    world.edit_crm(31, (2, 41))
    before = written(world)

    report = await rename(world)

    assert (report.row.kind, report.row.origin, report.row.state, report.exit_code) == (
        "rename",
        "command",
        "applied",
        0,
    )
    assert written(world) == before
    assert ((await row(world)).generation, (await row(world)).portal) == (1, "new.example")
    assert (await world.reconcile()).exit_code == 0
    assert both(world, 1) == (deal(99), deal(99))
    assert both(world, 2) == (None, None)


@pytest.mark.parametrize("orders", [1, 2, 3, 5, 19, 30, 200])
async def test_given_another_portals_bindings_when_a_person_says_it_is_the_same_then_nothing_changes(
    orders: int,
) -> None:
    world = await renamed(orders)
    for order in range(1, orders + 1):
        world.edit_crm(order, (2, 1000 + order))

    report = await rename(world)

    assert (report.row.state, report.exit_code) == ("refused", 4)
    assert f"of {orders} agreed bindings, 0 are missing on it, and {orders} name other owners" in report.row.error
    assert (await row(world)).portal == "old.example"
    assert (await world.reconcile()).exit_code == 4


@pytest.mark.parametrize(("gone", "code"), [(3, 0), (4, 4)])
async def test_given_bindings_that_are_gone_then_a_tenth_of_them_may_be(gone: int, code: int) -> None:
    world = await renamed(30)
    for order in range(1, gone + 1):
        world.edit_crm(order, None)

    assert (await rename(world)).exit_code == code


async def test_given_bindings_in_many_segments_then_each_agreed_one_is_compared_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await in_step(
        {order: 10 + order for order in range(1, 31) if order != 8}, options={"portal_address": "old.example"}
    )
    world.edit_crm(8, (2, 1))
    world.edit_table(8, (2, 2))
    assert (await world.reconcile()).exit_code == 3  # nothing is agreed on order 8
    readdress(world)
    for order in (3, 12, 30):
        world.edit_crm(order, None)
    for order in (5, 29):
        world.edit_crm(order, (2, 99))
    world.portal.odd[28] = Unreadable(HoldKind.INVALID_ROW, "its row names no owner")
    monkeypatch.setattr(state_check, "_SEGMENT", 4)
    world.portal.chunk = 3

    report = await rename(world)

    assert "of 29 agreed bindings, 3 are missing on it, and 3 name other owners" in report.row.error


async def test_given_an_empty_portal_when_a_person_says_it_is_the_same_then_nothing_changes() -> None:
    world = await renamed(2)
    world.edit_crm(1, None)
    world.edit_crm(2, None)

    assert (await rename(world)).exit_code == 4


async def test_given_the_portal_cannot_be_listed_then_nothing_changes() -> None:
    world = await renamed()
    world.portal.listings.append(Surprise.INCOMPLETE)

    assert (await rename(world)).exit_code == 69
    assert (await row(world)).portal == "old.example"


async def test_given_other_ends_changed_too_then_the_sentence_names_them() -> None:
    with pytest.raises(UsageError, match="portal, table changed") as caught:
        await rename(await renamed(changed=("portal", "table")))

    assert "syncd rebase shop" in caught.value.hint


async def test_given_nothing_changed_then_there_is_nothing_to_do() -> None:
    world = await renamed()
    world.options |= {"portal_address": "old.example", "fingerprint": "ends", "changed_ends": lambda _: ()}

    with pytest.raises(UsageError, match="here nothing changed") as caught:
        await rename(world)
    assert caught.value.hint == ""


async def test_given_nothing_agreed_then_a_plain_rebase_is_named() -> None:
    world = await in_step({}, options={"portal_address": "old.example"})
    world.options |= {"fingerprint": "elsewhere", "changed_ends": lambda _: ("portal",)}

    with pytest.raises(UsageError, match="no agreed bindings") as caught:
        await rename(world)

    assert "syncd rebase shop" in caught.value.hint
