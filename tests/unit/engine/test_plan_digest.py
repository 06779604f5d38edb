"""The digest of a plan that is too large for memory is that of any other plan."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.core.model import Action, Change, Facts, Owner, Reason, Side
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
