"""All links on one screen, and the story of one order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import pytest

from syncd.cli.render.orders import history
from syncd.cli.render.status import at_work, check, due, status
from syncd.cli.screen import Block, Line, Screen, TextTable, plain
from syncd.config.model import LinkSettings
from syncd.core.model import Action, Change, Counts, Facts, Hold, HoldKind, Outcome, Owner, Reason, Side, SideCounts
from syncd.core.records import (
    BindingRow,
    Decision,
    LeaseRow,
    LinkRow,
    Pause,
    PortalNames,
    Reached,
    RunRow,
    StoredChange,
    StoredHold,
)
from syncd.engine.formatting import OrderHistory, explain
from syncd.status.health import Health, LinkHealth, tone_of_outcome
from syncd.status.links import LinkStatus, links_json
from syncd.status.owners import Labels
from tests.terminals import Terminal

NOW = 1_800_000_000.0


def link(
    name: str = "shop",
    health: Health = Health.IN_STEP,
    *,
    condition: Health | None = None,
    detail: str = "",
    parked: str = "",
    paused: bool = False,
    holds: int = 0,
    lease: LeaseRow | None = None,
    schedule: str | None = "5m",
    next_run: float | None = NOW + 240,
    overdue: float | None = None,
    budget: Mapping[str, tuple[float, float, float]] | None = None,
    never: bool = False,
    state: str = "applied",
) -> LinkStatus:
    settings = LinkSettings.model_validate(
        {
            "schedule": schedule,
            "portal": {"webhook": "https://x.bitrix24.com/rest/1/code/"},
            "table": {
                "url": "sqlite:////t.db",
                "name": "b",
                "columns": {"order_id": "o", "owner_type_id": 2, "owner_id": "d"},
            },
        }
    )
    row = LinkRow(1, name, 1, "f", paused, parked, 0.0, pause=Pause("anna@ops", NOW - 60) if paused else Pause())
    counts = Counts(crm=SideCounts(remove=3))
    run = RunRow(7, name, 1, "pass", state, started_at=NOW - 60, finished_at=NOW - 59, counts=counts, error=detail)
    last = None if never else run
    found = LinkHealth(condition or health, NOW - 59, 7, detail)
    some = [Hold(order, HoldKind.EDIT_EDIT, Facts(None, None, None), "…", NOW) for order in range(1, holds + 1)]
    return LinkStatus(
        name, settings, None if never else row, last, last, last, last, found, health, paused, 0, some, 1234,
        next_run, overdue, lease, interrupted=False, budget=budget or {}, conditional=None,
    )  # fmt: skip


def shown(links: Sequence[LinkStatus], width: int = 120) -> list[str]:
    return list(plain(status(links, NOW, width), width=width))


@pytest.mark.parametrize(
    ("given", "when"),
    [
        (link(schedule=None), "on command"),
        (link(), "in 4 min"),
        (link(next_run=NOW - 5), "due"),
        (link(health=Health.LATE, next_run=NOW - 7200, overdue=NOW - 7200), "overdue by 2 h"),
        (link(paused=True, next_run=None), "when resumed"),
        (link(never=True, next_run=None), "5m"),
    ],
)
def test_given_a_schedule_then_the_next_pass_is_told_as_far_as_it_is_known(given: LinkStatus, when: str) -> None:
    assert due(given, NOW) == when


def test_given_a_lease_then_its_holder_and_how_far_it_has_got() -> None:
    lease = LeaseRow("shop", "host:1", 3, NOW - 5, NOW + 25)
    assert at_work(link(lease=lease)) == "host:1"
    reached = lease._replace(reached=Reached("apply", 45, 1000))
    assert at_work(link(lease=reached)) == "host:1: writing 45 of 1,000"
    assert at_work(link()) == "-"


def test_given_twenty_links_then_they_fit_one_screen_of_24_lines_and_80_columns() -> None:
    lines = shown([link(f"shop-{number:02}") for number in range(20)], width=80)

    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("width", "heads"),
    [
        (120, ["link", "health", "agreed", "held", "last run", "next", "at work"]),
        (80, ["link", "health", "held", "next", "at work"]),
        (60, ["link", "health", "held"]),
        (54, ["link", "health"]),
    ],
)
def test_given_a_narrow_screen_and_a_long_name_then_the_name_and_the_health_are_the_last_to_go(
    width: int, heads: list[str]
) -> None:
    lease = LeaseRow("x", "a-host-with-a-long-name:12345", 3, NOW - 5, NOW + 25)
    links = [link("a-link-with-a-name-of-some-length", lease=lease if width == 120 else None, next_run=NOW + 8000)]
    links = [replace(links[0], name="a-link-with-a-name-of-forty-characters-x")] if width < 120 else links

    lines = shown(links, width)

    assert lines[0].split("  ")[0].strip() == "link"
    assert [
        head for head in ("link", "health", "agreed", "held", "last run", "next", "at work") if head in lines[0]
    ] == heads
    assert max(map(len, lines)) <= width
    assert links[0].name in lines[1]
    assert "in step" in lines[1]


def test_given_links_that_need_somebody_then_each_is_named_with_the_command_to_begin_with() -> None:
    links = [
        link("a", Health.FAILING, detail="It is down"),
        link("b", Health.HELD, holds=1),
        link("c", Health.PAUSED, condition=Health.IN_STEP, paused=True),
        link("d", Health.PARKED, parked="auth: no right"),
        link("e", Health.LATE, condition=Health.IN_STEP, overdue=NOW - 7200),
        link("f", Health.REFUSED, state="refused", detail="too much"),
    ]

    text = "\n".join(shown(links))

    for line in (
        "a  It is down.", "syncd show 7", "b  1 order is held", "syncd holds b", "c  Scheduled passes were paused",
        "by anna@ops", "syncd resume c", "d  No right.", "syncd check d", "one is overdue by 2 h", "syncd reconcile e",
        "f  Run 7 wrote nothing: Too much.", "syncd apply 7",
    ):  # fmt: skip
        assert line in text, line


def test_given_a_parked_link_then_when_it_is_checked_next() -> None:
    text = "\n".join(shown([link("b", Health.PARKED, parked="auth: The portal refuses the webhook.")]))

    assert "The portal refuses the webhook." in text
    assert "the next check is in 4 min" in text


def test_given_removes_that_wait_then_how_many_and_since_when_and_nobody_is_needed() -> None:
    lines = shown([replace(link("a"), waiting=3, waiting_since=NOW - 60), link("b")])

    assert lines[-2:] == [
        "Waiting for a second look:",
        "  a  3 removes wait until a later pass finds the same orders absent; the first 1 min ago",
    ]


def test_given_links_for_a_monitoring_system_then_one_line_each_with_what_is_wrong() -> None:
    links = [link("a"), link("b", Health.FAILING, detail="It is down"), link("c", Health.HELD, holds=2)]
    links.append(link("d", Health.WORKING, condition=Health.FAILING, detail="It is down"))

    assert list(plain(check(links, NOW))) == [
        "a: in step; last pass 1 min ago",
        "b: failing; It is down.",
        "c: held; 2 orders are held: changed on both sides (2).",
        "d: working; failing before; It is down.",
    ]
    assert [line.tone for line in check(links, NOW) if isinstance(line, Line)] == ["", "bad", "warn", "bad"]


def test_given_an_operating_budget_in_use_then_it_is_shown_and_one_that_is_over_is_not() -> None:
    spent = {"crm.orderentity.add": (240.0, NOW + 90, NOW), "crm.orderentity.list": (400.0, NOW - 1, NOW)}

    text = "\n".join(shown([link(budget=spent)]))

    assert "x.bitrix24.com  crm.orderentity.add  240 s of 480 s  resets in 1 min 30 s" in text
    assert "crm.orderentity.list" not in text


# ------------------------------------------------------------------------------------------- history


def change(
    outcome: Outcome, *, run: int = 3, at: float = NOW - 60, action: Action = Action.ADD, error: str = ""
) -> StoredChange:
    side = None if action is Action.AGREE else Side.CRM
    facts = Facts(None, Owner(2, 5), None)
    made = Change(9, side, action, None, Owner(2, 5), Reason.TABLE_CHANGED, facts, agreed_after=Owner(2, 5))
    return StoredChange(run, run, made, outcome, error, at)


def story(
    *changes: StoredChange,
    holds: tuple[tuple[StoredHold, float | None], ...] = (),
    binding: BindingRow | None = None,
) -> OrderHistory:
    return OrderHistory("shop", 9, changes, holds, binding)


BOUND = BindingRow(9, 2, 5, 2, 5)


def test_given_a_write_then_it_says_since_when_and_why_it_is_so() -> None:
    told = story(change(Outcome.APPLIED), binding=BOUND)

    assert list(explain(told, NOW)) == [
        "It has been bound to deal 5 on both sides since run 3, 1 min ago: changed in the table."
    ]


def test_given_a_failed_attempt_after_it_then_the_last_success_is_the_reason() -> None:
    told = story(change(Outcome.APPLIED), change(Outcome.FAILED, run=4, error="500"), binding=BOUND)

    assert "since run 3" in " ".join(explain(told, NOW))
    assert "failed: 500" in "\n".join(plain(history(told, NOW)))


def test_given_an_agreement_then_both_sides_said_so_already() -> None:
    told = story(change(Outcome.APPLIED, action=Action.AGREE), binding=BOUND)

    assert "both sides said so already" in " ".join(explain(told, NOW))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (Facts(None, None, Owner(2, 5)), "It has been unbound on both sides since run 3"),
        (Facts(Owner(31, 7), None, Owner(2, 5)), "This link let it go in run 3"),
        (Facts(None, Owner(31, 7), Owner(2, 5)), "This link let it go in run 3"),
    ],
)
def test_given_an_end_then_it_says_whether_the_order_is_unbound_or_was_let_go(facts: Facts, said: str) -> None:
    ended = Change(9, None, Action.AGREE, Owner(2, 5), None, Reason.RESOLVED_CRM, facts)
    told = story(StoredChange(3, 3, ended, Outcome.APPLIED, "", NOW - 60))

    assert said in " ".join(explain(told, NOW))
    assert ("let go" in "\n".join(plain(history(told, NOW)))) == ("let it go" in said)


def test_given_a_crm_that_moved_on_then_it_says_that_the_next_pass_looks() -> None:
    told = story(change(Outcome.APPLIED), binding=BOUND._replace(crm_id=6))

    assert "The CRM has since been seen with deal 6" in " ".join(explain(told, NOW))


def test_given_an_open_hold_then_it_is_the_reason() -> None:
    hold = Hold(9, HoldKind.EDIT_EDIT, Facts(Owner(2, 1), Owner(2, 2), None), "Both changed it.", since=NOW - 120)
    told = story(change(Outcome.APPLIED), holds=((StoredHold(hold, sticky=False, run=5), None),), binding=BOUND)

    assert list(explain(told, NOW)) == [
        "Held for 2 min (edit-edit): Both changed it.",
        "Now: CRM deal 1, table deal 2, nothing agreed.",
    ]


def test_given_a_released_hold_then_it_is_told_with_what_released_it() -> None:
    hold = Hold(9, HoldKind.EDIT_EDIT, Facts(None, None, None), "…", since=NOW - 120)
    decided = StoredHold(hold, sticky=False, decision="crm", run=5)

    text = "\n".join(plain(history(story(holds=((decided, NOW - 60),)), NOW)))

    assert "held: edit-edit" in text
    assert "decided: keep what the CRM says" in text


@pytest.mark.parametrize(
    ("outcome", "tone"), [(one, "dim" if one is Outcome.PLANNED else tone_of_outcome(one)) for one in Outcome]
)
def test_given_a_write_then_its_outcome_is_toned_as_on_the_page(outcome: Outcome, tone: str) -> None:
    (table,) = [block for block in history(story(change(outcome)), NOW) if isinstance(block, TextTable)]

    assert table.tones == [tone]


def test_given_nothing_then_it_says_that_nothing_is_known() -> None:
    assert "syncd does not know this order" in "\n".join(plain(history(story(), NOW)))


def on_terminal(blocks: Iterable[Block], environ: Mapping[str, str]) -> list[str]:
    """What a terminal shows of blocks, without its colours."""
    stream = Terminal()
    Screen(stream, environ).show(blocks)
    return re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue()).splitlines()


LONG = "a-link-with-a-name-of-forty-characters-x"


@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}], ids=["colours", "plain"])
@pytest.mark.parametrize("width", [60, 80])
def test_given_a_terminal_of_few_columns_then_status_has_the_whole_name_and_the_health(
    width: int, environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    links = [replace(link("x", Health.FAILING, detail="The portal is away."), name=LONG)]
    lines = on_terminal(status(links, NOW, width), environ)

    assert max(map(len, lines)) <= width
    assert lines[1].split()[:2] == [LONG, "failing"]


@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}], ids=["colours", "plain"])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_given_a_terminal_of_few_columns_then_history_has_the_name_when_and_what_on_whole_lines(
    width: int, environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    facts = Facts(Owner(2, 1), Owner(2, 2), None)
    hold = StoredHold(Hold(9, HoldKind.EDIT_EDIT, facts, "Both changed it.", since=NOW - 120), sticky=False, run=5)
    told = story(change(Outcome.FAILED, error="a long sentence of the portal " * 4), holds=((hold, None),))
    by = Decision("x", "resolve", "crm", "anna.the.operator@a-host-with-a-long-name", NOW - 90, order_id=9)
    labels = Labels("https://x.example", PortalNames({Owner(2, 1): "Desks and chairs for the Elm Bakery"}))
    lines = on_terminal(history(told._replace(link=LONG, decisions=[by]), NOW, labels, width), environ)

    assert max(len(line.rstrip()) for line in lines) <= width
    assert lines[0].rstrip() == f"Order 9 of link {LONG}"
    assert any(re.search(r"2027-01-15 \d\d:\d\d:\d\d \w+ +run 5 +held: edit-edit", line) for line in lines)
    assert any(re.search(r"2027-01-15 \d\d:\d\d:\d\d \w+ +run 3 +add in the CRM", line) for line in lines)
    assert "decided by anna.the.operator@a-host-with-a-long-name" in " ".join(" ".join(lines).split())


def test_given_a_time_then_a_terminal_has_it_in_local_time_with_its_zone(time_zone: Callable[[str], None]) -> None:
    time_zone("America/New_York")
    told = "\n".join(plain(history(story(change(Outcome.APPLIED), binding=BOUND), NOW)))
    paused = shown([link("shop", Health.PAUSED, paused=True)])
    assert "2027-01-15 02:59:00 EST  run 3" in told
    assert "paused by anna@ops on 2027-01-15 02:59:00 EST" in " ".join(paused)
    stored = Line("Worked on since 2027-01-15T07:59:00+00:00; until 2027-01-15T08:00:00+00:00.")
    assert list(plain([stored])) == ["Worked on since 2027-01-15 02:59:00 EST; until 2027-01-15 03:00:00 EST."]
    assert links_json([link("shop", paused=True)])[0]["pause"]["at"] == "2027-01-15T07:59:00+00:00"
