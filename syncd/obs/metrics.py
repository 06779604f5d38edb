"""Metrics by the conventions of Prometheus: prefix `syncd_`, base units, `_total` for counters, no order ids as labels.

`docs/reference/metrics.md` lists them. The daemon serves them at `/metrics`; a one-shot command writes them to a file
for the node exporter's textfile collector (`write_textfile`).
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    write_to_textfile,
)
from prometheus_client.metrics import MetricWrapperBase

from syncd import __version__
from syncd.core.model import CONFLICTS, Action, Hold, Outcome, Side
from syncd.core.ports import Usage
from syncd.core.records import RunRow, Tally
from syncd.errors import IncompleteListing, SyncdError

_MOMENTS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
_ANSWERS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)


class Reported(Protocol):
    """The parts of a run's report that metrics need (`syncd.engine.report.Report`)."""

    row: RunRow
    tally: Tally
    holds: list[Hold]
    error: SyncdError | None


class _OfLinks:
    """The metrics with a label `link`.

    Args:
        registry: Their registry.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.made: list[MetricWrapperBase] = []
        self._registry = registry

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        made = Gauge(f"syncd_{name}", text, labels, registry=self._registry)
        self.made.append(made)
        return made

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        made = Counter(f"syncd_{name}", text, labels, registry=self._registry)
        self.made.append(made)
        return made

    def histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        made = Histogram(f"syncd_{name}", text, labels, buckets=buckets, registry=self._registry)
        self.made.append(made)
        return made


class Metrics:
    """All metrics of one process, in their own registry.

    Args:
        process: Add those of the process itself (memory, CPU, open files), which make no sense in a file.
    """

    def __init__(self, *, process: bool = True) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the series of each counter
        self.registry = registry = CollectorRegistry()
        if process:
            ProcessCollector(registry=registry)
        of_links = self._of_links = _OfLinks(registry)
        gauge, counter, histogram = of_links.gauge, of_links.counter, of_links.histogram
        build = Info("syncd_build", "This syncd.", registry=registry)
        build.info({"version": __version__, "python": platform.python_version()})

        self.attempted = gauge("run_attempt_timestamp_seconds", "When this process last tried to start a pass.", "link")
        self.started = gauge("run_started_timestamp_seconds", "When the last pass began.", "link")
        self.succeeded = gauge(
            "run_success_timestamp_seconds", "When a pass last ended with everything in step or held.", "link"
        )
        self.duration = histogram(
            "run_duration_seconds",
            "Duration of the phases of passes: observe (until the plan is stored) and apply.",
            _SECONDS,
            "link",
            "phase",
        )
        self.runs = counter("runs", "Passes by outcome.", "link", "outcome")
        self.bindings = gauge("bindings", "Bindings in scope at the last pass.", "link", "side")
        self.in_step = gauge(
            "in_step_bindings",
            "Orders that were equal on both sides at the last pass; agreed ones if passes cover parts of the link.",
            "link",
        )
        self.drift = gauge("drift_bindings", "Changes the last pass planned.", "link", "side", "action")
        self.changes = counter("changes", "Changes by outcome.", "link", "side", "action", "outcome")
        self.conflicts = gauge("conflicts", "Open holds because both sides changed.", "link")
        self.holds = gauge("holds", "Open holds.", "link")
        self.oldest_hold = gauge(
            "oldest_hold_timestamp_seconds", "When the oldest open hold began; 0 if there is none.", "link"
        )
        self.quarantined = gauge("quarantined_keys", "Orders whose writes failed and will be retried.", "link")
        self.intents = gauge("intents_open", "Changes that were sent and whose outcome is not known yet.", "link")
        self.refusals = counter("guard_refusals", "Plans refused and stored.", "link", "guard")
        self.incomplete = counter("listing_incomplete", "Listings of the portal that were not proved complete.", "link")
        self.cas_misses = counter(
            "cas_misses",
            "Changes skipped because the value had changed meanwhile, or because the order waits.",
            "link",
            "side",
        )
        self.requests = counter("portal_requests", "Requests sent to the portal.", "link", "outcome")
        self.calls = counter("portal_calls", "Method calls sent to the portal, in batches.", "link")
        self.answers = histogram(
            "portal_request_duration_seconds", "How long the portal took to answer requests.", _ANSWERS, "link"
        )
        self.token_end = gauge(
            "portal_token_expiry_timestamp_seconds",
            "When the link's OAuth tokens can no longer be renewed: 180 days after the last renewal.",
            "link",
        )
        self.transactions = counter(
            "db_transactions", "Transactions of the state database and of mapping tables.", "store", "link", "outcome"
        )
        self.transaction_time = histogram(
            "db_transaction_duration_seconds",
            "Duration of these transactions, including waits for locks.",
            _MOMENTS,
            "store",
            "link",
        )
        self.listing = counter("portal_listing_seconds", "Time spent listing the portal.", "link")
        self.throttled = counter("portal_throttled_seconds", "Time spent waiting for the portal's limits.", "link")

        self.operating = gauge(
            "portal_operating_seconds",
            "Operating time of a method in the last ten minutes, as the portal counts it.",
            "link",
            "method",
        )
        self.conditional = gauge(
            "portal_conditional_writes", "1 if the portal's batches carry the conditions of writes, 0 if not.", "link"
        )
        self.lease_epoch = gauge("lease_epoch", "The fencing number of the link's lease.", "link")
        self.health = gauge("link_health", "1 for the link's health, 0 for the others.", "link", "health")
        self.leader = gauge("leader", "1 while this process holds the link's lease.", "link")
        self.next_run = gauge("scheduler_next_run_timestamp_seconds", "When the next pass is due.", "link")
        self.fresh = gauge(
            "covered_timestamp_seconds",
            "When the orders of a part (all, recent) were last compared; the earliest time of them.",
            "link",
            "part",
        )
        self.spacing = gauge("schedule_interval_seconds", "The time between the link's scheduled passes.", "link")
        self.skipped = counter("scheduler_skipped", "Scheduled passes skipped, by reason.", "link", "reason")
        self.trouble = counter(
            "scheduler_trouble", "Scheduled passes that APScheduler failed to trigger, by kind.", "link", "kind"
        )
        self.notifications = Counter(
            "syncd_notifications", "Notifications by way (channel) and outcome.", ["way", "outcome"], registry=registry
        )
        self.reload_ok = Gauge(
            "syncd_config_last_reload_successful",
            "1 if the last reading of the configuration succeeded.",
            registry=registry,
        )
        self.reloaded = Gauge(
            "syncd_config_last_reload_timestamp_seconds",
            "When the configuration was last read successfully.",
            registry=registry,
        )
        self.lag = Gauge("syncd_event_loop_lag_seconds", "The last measured lag of the event loop.", registry=registry)

    def observe(self, report: Reported, usage: Usage | None = None, phases: Mapping[str, float] | None = None) -> None:
        """Count the results of a run.

        Args:
            report: The run.
            usage: Its usage of the portal, if known more exactly than the run's own numbers.
            phases: Seconds by phase.
        """
        row, link = report.row, report.row.link
        self.started.labels(link).set(row.started_at)
        self.attempted.labels(link).set(row.started_at)
        self.runs.labels(link, row.state).inc()
        for phase, seconds in (phases or {}).items():
            self.duration.labels(link, phase).observe(seconds)
        for hit in row.guards if row.plan == row.id else ():
            self.refusals.labels(link, hit.name).inc()
        if isinstance(report.error, IncompleteListing):
            self.incomplete.labels(link).inc()
        if report.error is None and row.state in {"applied", "partial", "refused"} and row.covers is None:
            self.show_counts(row)
        if report.error is None and row.state in {"applied", "partial"}:
            self.succeeded.labels(link).set(row.finished_at or row.started_at)
        if report.error is None:
            self.show_holds(link, report.holds)
        self._observe_changes(link, report.tally)
        self._observe_usage(link, usage or Usage(requests=row.requests, calls=row.calls, listing_seconds=row.seconds))

    def request(self, link: str, seconds: float) -> None:
        """See `syncd.obs.clock.Meter`."""
        self.answers.labels(link).observe(seconds)

    def transaction(self, store: str, link: str, seconds: float, *, failed: bool) -> None:
        """See `syncd.obs.clock.Meter`."""
        self.transactions.labels(store, link, "failed" if failed else "done").inc()
        self.transaction_time.labels(store, link).observe(seconds)

    def labels(self, name: str) -> Sequence[str]:
        """Given a metric's name without suffix, return its labels."""
        made = (*self._of_links.made, self.notifications)
        return next((metric._labelnames for metric in made if metric._name == name), ())  # noqa: SLF001 - shown nowhere else

    def forget(self, link: str) -> None:
        """Remove the series of a link that is no longer configured."""
        for metric in self._of_links.made:
            metric.remove_by_labels({"link": link})

    def show_counts(self, row: RunRow) -> None:
        """Show the counts of a pass that read both sides."""
        counts = row.counts
        self.in_step.labels(row.link).set(counts.in_step)
        for side, rows in ((Side.CRM, counts.crm_rows), (Side.TABLE, counts.table_rows)):
            self.bindings.labels(row.link, side.value).set(rows)
            planned = counts.of(side)
            for action, number in (("add", planned.add), ("move", planned.move), ("remove", planned.remove)):
                self.drift.labels(row.link, side.value, action).set(number)

    def show_holds(self, link: str, holds: Sequence[Hold]) -> None:
        """Show the open holds of a link."""
        self.holds.labels(link).set(len(holds))
        self.conflicts.labels(link).set(sum(hold.kind in CONFLICTS for hold in holds))
        self.oldest_hold.labels(link).set(min((hold.since for hold in holds), default=0.0))

    def _observe_changes(self, link: str, tally: Mapping[tuple[Side, Action, Outcome], int]) -> None:
        done = {key: number for key, number in tally.items() if key[2] not in {Outcome.PLANNED, Outcome.WAITING}}
        for (side, action, outcome), number in done.items():
            self.changes.labels(link, side.value, action.value, outcome.value).inc(number)
            if outcome is Outcome.SKIPPED:
                self.cas_misses.labels(link, side.value).inc(number)

    def _observe_usage(self, link: str, usage: Usage) -> None:
        self.requests.labels(link, "answered").inc(max(0, usage.requests - usage.refused))
        self.requests.labels(link, "refused").inc(usage.refused)
        self.calls.labels(link).inc(usage.calls)
        self.listing.labels(link).inc(usage.listing_seconds)
        self.throttled.labels(link).inc(usage.throttled_seconds)


def reference() -> str:
    """Return docs/reference/metrics.md: every metric with its labels, from the metrics themselves."""
    lines = [
        "# Metrics",
        "",
        "Served at `/metrics` where `web.listen` is set, in Prometheus' text format. With `--metrics-textfile`,",
        "`syncd reconcile` writes those of its passes to a file. The names are stable. The only label that grows is",
        "`link`; order ids are never in labels. Several daemons on one state database each show their own values:",
        "take the newest, with `max by (link)`. `process_*` (memory, CPU, open files) are there too.",
        "",
        "`deploy/prometheus` holds alert rules with unit tests, `deploy/grafana` a dashboard.",
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    metrics = Metrics(process=False)
    for family in metrics.registry.collect():
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = ", ".join(f"`{label}`" for label in metrics.labels(family.name))
        lines.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(lines) + "\n"


def write_textfile(path: Path, reports: Iterable[Reported]) -> None:
    """Write the metrics of these runs to a file for the node exporter, replacing an earlier file in one step.

    Counters start at zero in each file: alert on gauges (`syncd_run_success_timestamp_seconds`).

    Raises:
        OSError: The file cannot be written.
    """
    metrics = Metrics(process=False)
    for report in reports:
        metrics.observe(report)
    write_to_textfile(str(path), metrics.registry)
