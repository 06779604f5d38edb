"""A plan that is too large for memory is like any other: its digest, and its holds."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.core.model import Action, Change, Facts, HoldKind, Owner, Reason, Side
from syncd.core.plan import digest
from syncd.engine import plan_draft

CHANGES = st.builds(
    lambda order, side, owner: Change(
        order, side, Action.ADD, None, Owner(2, owner), Reason.CRM_CHANGED, Facts(None, None, None)
    ),
    st.integers(1, 2000),
    st.sampled_from(Side),
    st.integers(1, 20),
)


@given(changes=st.lists(CHANGES, max_size=40), size=st.integers(1, 9), block=st.integers(1, 4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_given_changes_in_runs_of_any_size_then_the_digest_is_the_same(
    changes: list[Change], size: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_draft, "SORTED", size)
    monkeypatch.setattr(plan_draft, "BLOCK", block)
    made = plan_draft.PlanDigest()
    for change in changes:
        made.add(change)

    assert made.hexdigest() == digest(changes)
    made.close()


def test_given_holds_made_in_several_parts_of_a_plan_then_each_of_them_stays_and_lasts_as_it_was_made() -> None:
    draft = plan_draft.PlanDraft()
    for order in (1, 2, 3):
        part = plan_draft.DraftPart()
        change = Change(order, Side.CRM, Action.ADD, None, Owner(2, 5), Reason.TABLE_CHANGED, Facts(None, None, None))
        part.hold(change, HoldKind.UNCERTAIN, "Because.", sticky=order < 3)
        draft.add(part)

    assert (set(draft.holds), draft.sticky) == ({1, 2, 3}, {1, 2})
    draft.close()
