"""The planner's properties, as sync-rules.md names and numbers them (13, normalised equality, belongs to the table)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.core.diff import in_doubt, resolvable, resolve
from syncd.core.guards import GuardLimits, evaluate
from syncd.core.model import (
    Action,
    Change,
    Counts,
    Direction,
    Hold,
    HoldKind,
    OnConflict,
    Policy,
    Reason,
    Side,
    SideCounts,
)
from syncd.core.plan import digest, is_revert
from syncd.core.policy import NoAction, decide
from syncd.core.records import LastDay, Written
from tests.property.mirror import mirrored_change, mirrored_hold, mirrored_order, mirrored_policy
from tests.property.worlds import (
    IN_SCOPE,
    Order,
    Planned,
    World,
    agreed_owners,
    carried_out,
    cuts,
    plan_of,
    policies,
    two_way,
    worlds,
)

# ------------------------------------------------------------------------------------------ 1, 2, 3


@given(values=st.dictionaries(st.integers(1, 40), agreed_owners), policy=policies, cut=cuts)
def test_1_stability_where_all_three_say_the_same_nothing_is_planned(values: Any, policy: Policy, cut: Any) -> None:
    world = {number: Order(owner, owner, owner, owner) for number, owner in values.items()}

    planned = plan_of(world, policy, cut)

    bound = sum(owner is not None for owner in values.values())
    assert planned == Planned(
        counts=Counts(
            in_step=bound,
            agreed=bound,
            crm_rows=bound,
            table_rows=bound,
            crm_in_scope=bound,
            table_in_scope=bound,
        )
    )


@given(world=worlds(), policy=policies, cut=cuts)
def test_2_idempotence_a_plan_that_was_applied_leaves_nothing_to_plan_but_holds(
    world: Any, policy: Policy, cut: Any
) -> None:
    first = plan_of(world, policy, cut)
    after = carried_out(world, first)

    second = plan_of(after, policy, cut)

    assert (second.changes, second.agreements, second.observed, second.released) == ([], [], [], [])
    assert [hold for hold, _stored in second.holds] == [hold for hold, _stored in first.holds]
    assert plan_of(carried_out(after, second), policy, cut) == second


@given(world=worlds(), policy=policies, cut=cuts, other_cut=cuts)
def test_3_locality_the_cut_into_segments_changes_nothing(world: Any, policy: Policy, cut: Any, other_cut: Any) -> None:
    assert plan_of(world, policy, cut) == plan_of(world, policy, other_cut)


@given(world=worlds(), policy=policies, cut=cuts)
def test_3_locality_what_is_planned_for_an_order_is_what_is_planned_for_it_alone(
    world: Any, policy: Policy, cut: Any
) -> None:
    planned = plan_of(world, policy, cut)

    for number, order in world.items():
        assert planned.of(number) == plan_of({number: order}, policy).of(number)


@given(world=worlds(holds=False), other=worlds(holds=False), policy=policies)
def test_3_locality_numbers_add_up_over_orders(world: World, other: World, policy: Policy) -> None:
    unbounded = replace(policy, scope=replace(policy.scope, last_order=None))
    apart = {number + 100: order for number, order in other.items()}
    one, two, both = (plan_of(part, unbounded).counts for part in (world, apart, world | apart))

    for name in ("in_step", "agreed", "crm_rows", "table_rows"):
        assert getattr(both, name) == getattr(one, name) + getattr(two, name)


@given(world=worlds(), policy=policies, cut=cuts)
def test_3_locality_the_plan_is_what_deciding_order_by_order_gives(world: World, policy: Policy, cut: Any) -> None:
    planned = plan_of(world, policy, cut)

    changes, agreed, held, released, in_step = [], [], [], [], 0
    for number, order in world.items():
        outcome = _decided(number, order, policy)
        if outcome and isinstance(outcome[0], Hold):
            held.append(outcome[0])
            continue
        if order.hold is not None:
            released.append(number)
        for one in outcome:
            if one is NoAction.IN_STEP:
                in_step += 1
            elif isinstance(one, Change) and one.action is Action.AGREE:
                agreed.append(one)
                in_step += one.agreed_after is not None
            elif isinstance(one, Change):
                changes.append(one)

    assert planned.changes == changes
    assert [change for change, _update in planned.agreements] == agreed
    assert [hold for hold, _stored in planned.holds] == held
    assert planned.released == released
    in_scope: dict[str, Any] = {
        f"{side.value}_in_scope": sum(
            policy.scope.holds_order(number) and owner is not None and policy.scope.holds_owner(owner)
            for number, order in world.items()
            for owner in [order.facts.crm if side is Side.CRM else order.facts.table]
        )
        for side in Side
    }
    assert planned.counts == Counts(
        in_step=in_step,
        agreed=sum(order.agreed is not None for order in world.values()),
        crm_rows=sum(order.crm is not None for order in world.values()),
        table_rows=sum(order.table is not None or order.unreadable is not None for order in world.values()),
        **in_scope,
    )


def _decided(number: int, order: Order, policy: Policy) -> list[Change | Hold | NoAction]:
    """Decide one order the slow way: an open hold of these very facts first, then the table (sync-rules.md, "Decisions")."""
    stored = order.hold
    if stored is not None and stored.hold.is_current(order.facts):
        carried = stored.decision in {"crm", "table"} and not resolvable(stored.hold, Side(stored.decision), policy)
        if carried:
            changes = list(resolve(stored.hold, order.facts, Side(stored.decision), policy))
            if changes:
                return [*changes]
        elif stored.sticky and stored.decision != "retry":
            return [stored.hold]
    elif stored is not None and in_doubt(stored.hold, order.facts, policy):
        return [replace(stored.hold, facts=order.facts)]
    return [decide(number, order.facts, policy)]


@given(world=worlds(), policy=policies, cut=cuts)
def test_3_locality_each_order_that_was_listed_anew_is_recorded_once(world: World, policy: Policy, cut: Any) -> None:
    planned = plan_of(world, policy, cut)

    updates = [*planned.observed, *(update for _change, update in planned.agreements)]
    assert len(updates) == len({update.order_id for update in updates})
    recorded = {update.order_id: update.crm for update in updates}
    for number, order in world.items():
        known = order.crm if policy.scope.holds_order(number) else order.listed
        assert recorded.get(number, order.listed) == known


# ------------------------------------------------------------------------------------------ 4 symmetry


@given(world=worlds(), policy=policies, cut=cuts)
def test_4_symmetry_swapped_sides_under_a_mirrored_policy_give_the_mirrored_plan(
    world: Any, policy: Policy, cut: Any
) -> None:
    # Unreadable rows and rows that `where` does not select are the table's own: such orders have no mirror image.
    readable = {
        number: replace(order, unreadable=None, hold=None if _is_out_of_scope(order) else order.hold)
        for number, order in world.items()
    }

    planned = plan_of(readable, policy, cut)
    swapped = plan_of(
        {number: mirrored_order(order) for number, order in readable.items()}, mirrored_policy(policy), cut
    )

    def in_order(changes: list[Change]) -> list[Change]:
        return sorted(changes, key=lambda change: (change.order_id, str(change.side)))

    assert in_order(swapped.changes) == in_order([mirrored_change(change) for change in planned.changes])
    assert [one for one, _update in swapped.agreements] == [mirrored_change(one) for one, _update in planned.agreements]
    assert [_without_words(one) for one, _stored in swapped.holds] == [
        _without_words(mirrored_hold(one)) for one, _stored in planned.holds
    ]
    assert swapped.released == planned.released
    assert (swapped.counts.in_step, swapped.counts.agreed) == (planned.counts.in_step, planned.counts.agreed)
    assert (swapped.counts.crm_rows, swapped.counts.table_rows) == (planned.counts.table_rows, planned.counts.crm_rows)


def _is_out_of_scope(order: Order) -> bool:
    return order.hold is not None and order.hold.hold.kind is HoldKind.OUT_OF_SCOPE


def _without_words(hold: Hold) -> Hold:
    return replace(hold, detail="")


# ----------------------------------------------------------------------------------- 5, 6, 7, 8, 9, 10


@given(world=worlds(), policy=policies, cut=cuts)
def test_5_no_invention_every_planned_value_is_one_the_order_has_or_a_hold_showed(
    world: Any, policy: Policy, cut: Any
) -> None:
    planned = plan_of(world, policy, cut)

    for change in [*planned.changes, *(change for change, _update in planned.agreements)]:
        order = world[change.order_id]
        known = {order.crm, order.table, order.agreed}
        if change.reason in {Reason.RESOLVED_CRM, Reason.RESOLVED_TABLE}:
            assert order.hold is not None
            known |= {order.hold.hold.facts.crm, order.hold.hold.facts.table}
        assert change.after in known
        assert change.agreed_after == change.after
        assert change.before == {Side.CRM: order.crm, Side.TABLE: order.table, None: order.agreed}[change.side]
        assert change.facts == order.facts


@given(world=worlds(holds=False), policy=two_way, cut=cuts)
def test_6_no_back_out_an_order_changed_on_one_side_only_is_not_written_there(
    world: Any, policy: Policy, cut: Any
) -> None:
    for change in plan_of(world, policy, cut).changes:
        order = world[change.order_id]
        if order.table == order.agreed:
            assert change.side is Side.TABLE
        if order.crm == order.agreed:
            assert change.side is Side.CRM


@given(world=worlds(holds=False), policy=policies, cut=cuts)
def test_7_maximality_exactly_the_orders_that_may_move_are_planned(world: World, policy: Policy, cut: Any) -> None:
    planned = plan_of(world, policy, cut)

    assert {change.order_id: change.side for change in planned.changes} == {
        number: side for number, order in world.items() if (side := _to_write(number, order, policy)) is not None
    }
    assert len(planned.changes) == len({change.order_id for change in planned.changes})


def _to_write(number: int, order: Order, policy: Policy) -> Side | None:
    """Given an order that nobody holds, return the side that is to be written, if any, in words of sync-rules.md."""
    scope = policy.scope
    sides = [owner for owner in (order.crm, order.table) if owner is not None]
    readable = order.unreadable is None and scope.holds_order(number) and all(map(scope.holds_owner, sides))
    if not readable or order.crm == order.table:
        return None
    target = {Direction.CRM_TO_TABLE: Side.TABLE, Direction.TABLE_TO_CRM: Side.CRM}.get(policy.direction)
    if target is not None and order.agreed is not None:
        return target
    changed = {side for side, owner in ((Side.CRM, order.crm), (Side.TABLE, order.table)) if owner != order.agreed}
    loser = {OnConflict.CRM: Side.TABLE, OnConflict.TABLE: Side.CRM}.get(policy.on_conflict)
    side = loser if len(changed) == 2 else changed.pop().other
    return side if target in (None, side) else None


@given(world=worlds(), policy=policies, cut=cuts)
def test_8_isolation_a_held_order_is_written_nowhere_and_its_agreed_state_rests(
    world: Any, policy: Policy, cut: Any
) -> None:
    planned = plan_of(world, policy, cut)

    touched = {change.order_id for change in planned.changes} | {one.order_id for one, _ in planned.agreements}
    assert not planned.held & touched
    assert not planned.held & set(planned.released)
    for update in planned.observed:
        assert update.agreed == world[update.order_id].agreed
    after = carried_out(world, planned)
    for number in planned.held:
        assert after[number].facts == world[number].facts


@given(world=worlds(), policy=policies, cut=cuts)
def test_8_isolation_every_open_hold_goes_on_or_is_released(world: World, policy: Policy, cut: Any) -> None:
    planned = plan_of(world, policy, cut)

    assert {number for number, order in world.items() if order.hold is not None} == set(planned.released) | {
        hold.order_id for hold, stored in planned.holds if stored is not None
    }


@given(world=worlds(holds=False), policy=policies, cut=cuts)
def test_9_equal_change_moves_the_agreed_state_and_writes_nothing(world: World, policy: Policy, cut: Any) -> None:
    # Whatever the sides said, they are edited to the same value, in scope or gone.
    chosen = [None, *IN_SCOPE]
    edited = {}
    for number, order in world.items():
        owner = chosen[number % len(chosen)]
        edited[number] = replace(order, crm=owner, table=owner, unreadable=None)
    planned = plan_of(edited, policy, cut)

    assert planned.changes == []
    assert planned.holds == []
    assert {change.order_id: update.agreed for change, update in planned.agreements} == {
        number: order.crm
        for number, order in edited.items()
        if order.crm != order.agreed and policy.scope.holds_order(number)
    }


@given(world=worlds(holds=False), policy=policies, cut=cuts)
def test_10_scope_nothing_outside_it_is_written_copied_or_taken_for_a_removal(
    world: Any, policy: Policy, cut: Any
) -> None:
    planned = plan_of(world, policy, cut)

    for change in [*planned.changes, *(change for change, _update in planned.agreements)]:
        order = world[change.order_id]
        assert policy.scope.holds_order(change.order_id)
        assert order.unreadable is None
        for owner in (order.crm, order.table, change.after):
            assert owner is None or policy.scope.holds_owner(owner)


@given(world=worlds(holds=False), policy=policies, cut=cuts)
def test_10_scope_an_order_that_left_it_is_held_where_it_was_known(world: World, policy: Policy, cut: Any) -> None:
    planned = plan_of(world, policy, cut)

    def inside(owner: Any) -> bool:
        return owner is not None and policy.scope.holds_owner(owner)

    expected = {
        number
        for number, order in world.items()
        if policy.scope.holds_order(number)
        and order.unreadable is None
        and any(owner is not None and not inside(owner) for owner in (order.crm, order.table))
        and (order.agreed is not None or inside(order.crm) or inside(order.table))
    }
    assert {hold.order_id for hold, _ in planned.holds if hold.kind is HoldKind.OUT_OF_SCOPE} == expected


# -------------------------------------------------------------------------------------- 11 guards

numbers = st.integers(0, 60)
side_counts = st.builds(SideCounts, numbers, numbers, numbers, numbers)
percentages = st.floats(0, 100, allow_nan=False)
limits = st.builds(
    GuardLimits,
    **{name: percentages if "percent" in name else numbers for name in GuardLimits.__dataclass_fields__},
)
plans = st.builds(
    Counts,
    in_step=numbers,
    crm=side_counts,
    table=side_counts,
    agreed=numbers,
    crm_rows=numbers,
    table_rows=numbers,
    crm_in_scope=numbers,
    table_in_scope=numbers,
)
by_side = st.dictionaries(st.sampled_from(Side), numbers)
days = st.builds(LastDay, st.none() | numbers, by_side, by_side)


@given(plan=plans, more=side_counts, side=st.sampled_from(Side), limits=limits, today=days)
def test_11_guards_a_plan_that_contains_a_refused_one_is_refused_as_well(
    plan: Any, more: Any, side: Any, limits: Any, today: Any
) -> None:
    done = plan.of(side)
    grown = SideCounts(*(getattr(done, name) + getattr(more, name) for name in SideCounts.__dataclass_fields__))
    larger = replace(plan, crm=grown) if side is Side.CRM else replace(plan, table=grown)

    refused = {(hit.name, hit.side) for hit in evaluate(plan, limits, today)}

    assert refused <= {(hit.name, hit.side) for hit in evaluate(larger, limits, today)}


@given(plan=plans, limits=limits, wider=limits, today=days)
def test_11_guards_a_wider_limit_never_refuses_more(plan: Any, limits: Any, wider: Any, today: Any) -> None:
    widest = GuardLimits(
        *(max(getattr(limits, name), getattr(wider, name)) for name in GuardLimits.__dataclass_fields__)
    )

    refused = {(hit.name, hit.side) for hit in evaluate(plan, widest, today)}

    assert refused <= {(hit.name, hit.side) for hit in evaluate(plan, limits, today)}


@given(plan=plans, limits=limits, today=days)
def test_11_guards_a_refused_number_is_beyond_its_limit(plan: Counts, limits: GuardLimits, today: Any) -> None:
    for hit in evaluate(plan, limits, today):
        assert hit.actual < hit.limit if hit.name == "empty_side" else hit.actual > hit.limit


@given(plan=plans, limits=limits, today=days, earlier=numbers)
def test_11_guards_more_removes_today_never_allow_more(plan: Any, limits: Any, today: Any, earlier: Any) -> None:
    moved, removed = ({side: done.get(side, 0) + earlier for side in Side} for done in (today.moved, today.removed))
    busier = today._replace(moved=moved, removed=removed)

    refused = {(hit.name, hit.side) for hit in evaluate(plan, limits, today)}

    assert refused <= {(hit.name, hit.side) for hit in evaluate(plan, limits, busier)}


# -------------------------------------------------------------------------- 33 day limits


some = st.integers(0, 10)
parts_of_a_day = st.lists(st.tuples(st.sampled_from(Side), st.builds(SideCounts, move=some, remove=some)), max_size=8)
day_limits = st.builds(
    GuardLimits,
    **{
        name: (st.floats(0, 20) if "percent" in name else st.integers(0, 40)) if "_per_day" in name else st.just(10**6)
        for name in GuardLimits.__dataclass_fields__
    },
)
"""Only the limits of a day refuse anything, so that most days are some passes that write, and then one that may not."""


@given(parts=parts_of_a_day, agreed=st.integers(0, 400), limits=day_limits)
def test_33_day_limits_no_sequence_of_passes_writes_what_one_plan_of_it_all_would_be_refused_for_by_day(
    parts: Any, agreed: int, limits: GuardLimits
) -> None:
    rows: dict[str, Any] = {"agreed": agreed, "crm_rows": agreed, "table_rows": agreed}
    moved, removed, written = Counter[Side](), Counter[Side](), Counts(**rows)
    for side, part in parts:
        plan = replace(Counts(**rows), **{side.value: part})
        if evaluate(plan, limits, LastDay(agreed, dict(moved), dict(removed))):
            continue
        moved[side] += part.move
        removed[side] += part.remove
        written.of(side).move += part.move
        written.of(side).remove += part.remove

    refused = {hit.name for hit in evaluate(written, limits, LastDay(agreed, {}, {}))}

    assert not {name for name in refused if name.endswith("_per_day")}


# -------------------------------------------------------------------------- 34 a restore is seen


@given(world=worlds(), policy=policies, cut=cuts, side=st.sampled_from(Side))
def test_34_a_restore_is_seen_what_puts_back_what_syncd_replaced_is_a_revert(
    world: Any, policy: Any, cut: Any, side: Any
) -> None:
    planned = plan_of(world, policy, cut)
    for change in planned.changes:
        if change.side is None:
            continue
        written = [Written(change.order_id, change.side, change.before, change.after, 0.0)]
        restored = replace(change, side=change.side.other, before=change.after, after=change.before)

        assert is_revert(restored, written)
        assert not is_revert(replace(restored, side=change.side), written)
        assert not is_revert(restored, [])


# ---------------------------------------------------------------------------- 12 order independence


# Many worlds have one change or none; filtering those out would sometimes end in a failed health check.
@settings(max_examples=300)
@given(world=worlds(), policy=policies, cut=cuts, data=st.data())
def test_12_order_independence_any_permutation_of_the_changes_ends_alike(
    world: Any, policy: Policy, cut: Any, data: st.DataObject
) -> None:
    planned = plan_of(world, policy, cut)
    shuffled = data.draw(st.permutations(planned.changes))

    assert carried_out(world, planned, shuffled) == carried_out(world, planned)
    assert digest(shuffled) == digest(planned.changes)
