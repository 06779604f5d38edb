"""What the metrics show after passes, refusals, failures and requests."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from syncd.config.model import Settings
from syncd.core.model import (
    Action,
    Change,
    Counts,
    Facts,
    HoldKind,
    Owner,
    Reason,
    Side,
    SideCounts,
)
from syncd.core.model import (
    Outcome as ChangeOutcome,
)
from syncd.core.order_ranges import Coverage, OrderRanges
from syncd.core.records import GuardHit, RunRow, StoredChange
from syncd.daemon.alerts import Alerts
from syncd.daemon.meters import MetricsObserver
from syncd.engine.report import Report
from syncd.errors import IncompleteListing, UnavailableError
from syncd.obs.metrics import Metrics, reference, write_textfile
from syncd.status.health import Health
from syncd.status.links import link_statuses
from tests.fakes.settings import LINK, settings
from tests.unit.daemon.virtual_daemon import NOON, Daemon, LoopClock, Outcome, hold

SHOP = settings()


def _report(**row: Any) -> Report:
    counts = Counts(in_step=940, crm=SideCounts(add=3), table=SideCounts(remove=1), crm_rows=944, table_rows=942)
    fields: dict[str, Any] = {
        "started_at": NOON,
        "finished_at": NOON + 5,
        "counts": counts,
        "requests": 4,
        "calls": 104,
    } | row
    return Report(RunRow(12, "shop", 1, "pass", fields.pop("state", "applied"), **fields))


def _change(number: int, side: Side | None, outcome: ChangeOutcome) -> StoredChange:
    action = Action.ADD if side else Action.AGREE
    change = Change(number, side, action, None, Owner(2, 5), Reason.CRM_CHANGED, Facts(None, None, None))
    return StoredChange(number, 12, change, outcome)


def _samples(metrics: Metrics) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(process=False)


def test_given_a_pass_then_its_numbers_are_shown(metrics: Metrics) -> None:
    changes = [
        _change(1, Side.CRM, ChangeOutcome.APPLIED),
        _change(2, Side.CRM, ChangeOutcome.APPLIED),
        _change(3, Side.TABLE, ChangeOutcome.SKIPPED),
        _change(4, None, ChangeOutcome.APPLIED),
    ]
    report = replace(_report(), changes=changes)
    report.holds = [hold(1, NOON - 90), hold(2, NOON, HoldKind.INVALID_ROW)]
    metrics.observe(report, phases={"observe": 4.0})
    shown = _samples(metrics)
    assert (
        shown
        | {
            "syncd_in_step_bindings{link=shop}": 940,
            "syncd_bindings{link=shop,side=crm}": 944,
            "syncd_bindings{link=shop,side=table}": 942,
            "syncd_drift_bindings{action=add,link=shop,side=crm}": 3,
            "syncd_drift_bindings{action=remove,link=shop,side=table}": 1,
            "syncd_changes_total{action=add,link=shop,outcome=applied,side=crm}": 2,
            "syncd_changes_total{action=add,link=shop,outcome=skipped,side=table}": 1,
            "syncd_cas_misses_total{link=shop,side=table}": 1,
            "syncd_holds{link=shop}": 2,
            "syncd_conflicts{link=shop}": 1,
            "syncd_oldest_hold_timestamp_seconds{link=shop}": NOON - 90,
            "syncd_run_success_timestamp_seconds{link=shop}": NOON + 5,
            "syncd_runs_total{link=shop,outcome=applied}": 1,
            "syncd_portal_requests_total{link=shop,outcome=answered}": 4,
            "syncd_portal_calls_total{link=shop}": 104,
            "syncd_run_duration_seconds_sum{link=shop,phase=observe}": 4,
        }
        == shown
    )


def test_given_a_refused_plan_then_each_guard_is_counted_and_it_is_no_success(metrics: Metrics) -> None:
    metrics.observe(_report(state="refused", guards=[GuardHit("max_removes", Side.TABLE, 100, 4000)]))
    shown = _samples(metrics)
    assert shown["syncd_guard_refusals_total{guard=max_removes,link=shop}"] == 1
    assert "syncd_run_success_timestamp_seconds{link=shop}" not in shown


def test_given_a_look_that_finds_a_plan_still_refused_then_it_is_no_refusal_of_its_own(metrics: Metrics) -> None:
    metrics.observe(_report(state="refused", guards=[GuardHit("max_removes", Side.TABLE, 100, 4000)], source=7))
    shown = _samples(metrics)
    assert "syncd_guard_refusals_total{guard=max_removes,link=shop}" not in shown
    assert shown["syncd_runs_total{link=shop,outcome=refused}"] == 1


def test_given_requests_and_transactions_then_their_times_and_outcomes_are_shown(metrics: Metrics) -> None:
    metrics.request("shop", 0.7)
    metrics.transaction("table", "shop", 0.02, failed=False)
    metrics.transaction("state", "", 3.0, failed=True)
    shown = _samples(metrics)
    assert (
        shown
        | {
            "syncd_portal_request_duration_seconds_bucket{le=0.5,link=shop}": 0,
            "syncd_portal_request_duration_seconds_bucket{le=1.0,link=shop}": 1,
            "syncd_db_transactions_total{link=shop,outcome=done,store=table}": 1,
            "syncd_db_transactions_total{link=,outcome=failed,store=state}": 1,
            "syncd_db_transaction_duration_seconds_sum{link=,store=state}": 3.0,
            "syncd_db_transaction_duration_seconds_bucket{le=0.025,link=shop,store=table}": 1,
        }
        == shown
    )


@pytest.mark.parametrize(
    ("error", "state", "incomplete"),
    [(IncompleteListing("short"), "incomplete", 1), (UnavailableError("down"), "failed", None)],
)
def test_given_a_failed_pass_then_the_last_success_and_counts_stay(
    metrics: Metrics, error: IncompleteListing | UnavailableError, state: str, incomplete: int | None
) -> None:
    metrics.observe(_report())
    failed = _report(state=state, started_at=NOON + 300, counts=Counts())
    failed.error = error
    metrics.observe(failed)
    shown = _samples(metrics)
    assert shown["syncd_run_success_timestamp_seconds{link=shop}"] == NOON + 5
    assert shown["syncd_run_started_timestamp_seconds{link=shop}"] == NOON + 300
    assert shown["syncd_in_step_bindings{link=shop}"] == 940
    assert shown.get("syncd_listing_incomplete_total{link=shop}") == incomplete


def test_given_a_link_forgotten_then_nothing_of_it_is_shown(metrics: Metrics) -> None:
    metrics.observe(_report(), phases={"observe": 1})
    metrics.request("shop", 1)
    metrics.transaction("table", "shop", 1, failed=False)
    metrics.forget("shop")
    assert not [name for name in _samples(metrics) if "shop" in name]


def test_given_every_metric_then_it_keeps_the_conventions(metrics: Metrics) -> None:
    for family in metrics.registry.collect():
        assert family.name.startswith("syncd_")
        assert family.documentation.endswith(".")
        assert "order" not in {label for sample in family.samples for label in sample.labels}


def test_given_reports_of_a_command_then_a_textfile_holds_them_whole(tmp_path: Path) -> None:
    path = tmp_path / "syncd.prom"
    write_textfile(path, [_report()])
    write_textfile(path, [_report(started_at=NOON + 60)])
    families = {family.name for family in text_string_to_metric_families(path.read_text())}
    assert {"syncd_run_success_timestamp_seconds", "syncd_holds", "syncd_build_info"} <= families
    assert "process_cpu_seconds" not in families
    assert [file.name for file in tmp_path.iterdir()] == ["syncd.prom"]


def test_given_the_reference_page_then_it_is_fresh() -> None:
    page = Path(__file__).parents[3] / "docs/reference/metrics.md"
    assert page.read_text() == reference()


class TestMeters:
    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def meters(self, metrics: Metrics, daemon: Daemon, clock: LoopClock) -> MetricsObserver:
        made = MetricsObserver(metrics, Alerts(clock, lambda _way, _outcome: None), daemon.store, clock)
        daemon.watcher.ended = made.ended  # type: ignore[method-assign]
        daemon.watcher.skipped = made.skipped  # type: ignore[method-assign]
        return made

    async def test_given_a_daemons_passes_then_health_and_skips_are_shown(
        self, meters: MetricsObserver, metrics: Metrics, daemon: Daemon, clock: LoopClock
    ) -> None:
        daemon.passes.always["shop"] = Outcome("refused", guards=("max_removes",))
        daemon.add()
        await clock.sleep(3600)
        shown = _samples(metrics)
        assert shown["syncd_link_health{health=refused,link=shop}"] == 1
        assert shown["syncd_link_health{health=in-step,link=shop}"] == 0
        assert shown["syncd_scheduler_skipped_total{link=shop,reason=parked}"] >= 8
        assert shown["syncd_quarantined_keys{link=shop}"] == 0
        assert shown["syncd_intents_open{link=shop}"] == 0

    async def test_given_a_pass_that_could_not_begin_then_the_attempt_is_shown(
        self, meters: MetricsObserver, metrics: Metrics, daemon: Daemon, clock: LoopClock
    ) -> None:
        daemon.passes.always["shop"] = Outcome(before_run=UnavailableError("down"))
        daemon.add("shop", "1d")
        await clock.sleep(10)
        shown = _samples(metrics)
        assert shown["syncd_runs_total{link=shop,outcome=failed}"] == 1
        assert shown["syncd_run_attempt_timestamp_seconds{link=shop}"] == pytest.approx(NOON, abs=1)

    async def test_given_the_metrics_are_read_then_what_no_pass_tells_is_brought_up_to_date(
        self, meters: MetricsObserver, metrics: Metrics, daemon: Daemon, clock: LoopClock
    ) -> None:
        daemon.passes.always["shop"] = Outcome(seconds=60)
        daemon.add()
        await clock.sleep(10)
        await meters.refresh(lambda: link_statuses(SHOP, daemon.store, clock.now()), {"shop"}, SHOP)
        shown = _samples(metrics)
        assert shown["syncd_leader{link=shop}"] == 1
        assert shown["syncd_lease_epoch{link=shop}"] == 1
        assert NOON < shown["syncd_scheduler_next_run_timestamp_seconds{link=shop}"] <= NOON + 300
        assert shown["syncd_link_health{health=working,link=shop}"] == 1
        assert shown["syncd_schedule_interval_seconds{link=shop}"] == 300

    async def test_given_parts_that_were_covered_then_it_is_shown_since_when_each_was_compared(
        self, meters: MetricsObserver, metrics: Metrics, daemon: Daemon
    ) -> None:
        refresh = partial(meters.refresh, lambda: link_statuses(SHOP, daemon.store, NOON), (), SHOP)
        lease = await daemon.store.acquire(await daemon.store.link("shop", "ends"), "host:1", 60, NOON)
        await refresh()
        assert not [name for name in _samples(metrics) if "covered" in name]
        slices = Coverage.whole(NOON - 900).cut([10]).covered(OrderRanges.parse("1-10"), NOON - 300).slices
        await daemon.store.set_coverage(lease, Coverage(slices, 5, NOON - 12))
        await refresh()
        shown = {name: value for name, value in _samples(metrics).items() if "covered" in name}
        assert shown == {
            "syncd_covered_timestamp_seconds{link=shop,part=all}": NOON - 900,
            "syncd_covered_timestamp_seconds{link=shop,part=recent}": NOON - 12,
        }

    @pytest.mark.parametrize("conditional", [True, False])
    async def test_given_a_run_that_found_out_about_conditions_then_it_is_shown_whether_writes_carry_them(
        self, meters: MetricsObserver, metrics: Metrics, daemon: Daemon, conditional: bool
    ) -> None:
        refresh = partial(meters.refresh, lambda: link_statuses(SHOP, daemon.store, NOON), (), SHOP)
        await refresh()
        assert not [name for name in _samples(metrics) if "conditional" in name]
        lease = await daemon.store.acquire(await daemon.store.link("shop", "ends"), "host:1", 60, NOON)
        run = await daemon.store.start_run(lease, "pass", "schedule", NOON)
        ended = RunRow(run, "shop", lease.link_id, "pass", "applied", started_at=NOON, finished_at=NOON)
        ended.conditional = conditional
        await daemon.store.finish_run(lease, ended)
        await refresh()
        shown = {name: value for name, value in _samples(metrics).items() if "conditional" in name}
        assert shown == {"syncd_portal_conditional_writes{link=shop}": conditional}

    async def test_given_an_application_then_it_is_shown_until_when_its_tokens_can_be_renewed(
        self, meters: MetricsObserver, metrics: Metrics, daemon: Daemon
    ) -> None:
        oauth = {"portal": "https://example.bitrix24.com", "client_id": "local.1", "client_secret": "topsecretsecret"}
        settings = Settings.model_validate(
            {
                "links": {
                    "shop": LINK,
                    "app": LINK | {"portal": {"oauth": oauth}, "table": LINK["table"] | {"name": "others"}},
                }
            }
        )
        refresh = partial(meters.refresh, lambda: link_statuses(settings, daemon.store, NOON), (), settings)
        await refresh()
        assert not [name for name in _samples(metrics) if "token_expiry" in name]
        token = {"refresh_token": "r", "expires_at": NOON + 3600}
        await daemon.store.swap_token("example.bitrix24.com/local.1", None, token)
        await refresh()
        shown = {name: value for name, value in _samples(metrics).items() if "token_expiry" in name}
        assert shown == {"syncd_portal_token_expiry_timestamp_seconds{link=app}": NOON + 180 * 86400}

    async def test_given_a_link_removed_then_its_metrics_go(self, meters: MetricsObserver, metrics: Metrics) -> None:
        meters.show_health("shop", Health.IN_STEP)
        meters.forget("shop")
        assert not [name for name in _samples(metrics) if "shop" in name]
