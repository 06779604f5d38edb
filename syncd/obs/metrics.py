"""Metrics in Prometheus' conventions: prefix `syncd_`, base units, `_total` for counters, label `link`, never an order.

`docs/reference/metrics.md` lists them. The daemon serves them at `/metrics`; a one-shot command leaves them in a file
for the node exporter's textfile collector (`write_textfile`).
"""

from __future__ import annotations

import platform
from collections import Counter as Tally
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
from syncd.core.model import CONFLICTS, Hold, Outcome, Side
from syncd.core.ports import Usage
from syncd.core.records import RunRow, StoredChange
from syncd.errors import IncompleteListing, SyncdError

_MOMENTS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
_ANSWERS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)


class Reported(Protocol):
    """What a run came to, as far as metrics care (`syncd.engine.report.Report`)."""

    row: RunRow
    changes: list[StoredChange]
    holds: list[Hold]
    error: SyncdError | None


class _OfLinks:
    """Metrics that have a label `link`.

    Args:
        registry: Where they are kept.
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
    """All metrics of one process, in a registry of their own.

    Args:
        process: Add those of the process itself (memory, CPU, open files); a file that outlives it has no use for them.
    """

    def __init__(self, *, process: bool = True) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter: nobody reads it
        self.registry = registry = CollectorRegistry()
        if process:
            ProcessCollector(registry=registry)
        of_links = self._of_links = _OfLinks(registry)
        gauge, counter, histogram = of_links.gauge, of_links.counter, of_links.histogram
        build = Info("syncd_build", "This syncd.", registry=registry)
        build.info({"version": __version__, "python": platform.python_version()})

        self.attempted = gauge("run_attempt_timestamp_seconds", "When a pass was last tried, by this process.", "link")
        self.started = gauge("run_started_timestamp_seconds", "When the last pass began.", "link")
        self.succeeded = gauge(
            "run_success_timestamp_seconds", "When a pass last ended with everything in step or held.", "link"
        )
        self.duration = histogram(
            "run_duration_seconds",
            "How long the phases of passes took: observe (until the plan is stored) and apply.",
            _SECONDS,
            "link",
            "phase",
        )
        self.runs = counter("runs", "Passes by how they ended.", "link", "outcome")
        self.bindings = gauge("bindings", "Bindings in scope at the last pass.", "link", "side")
        self.in_step = gauge("in_step_bindings", "Orders that both sides shared at the last pass.", "link")
        self.drift = gauge("drift_bindings", "Changes the last pass planned.", "link", "side", "action")
        self.changes = counter("changes", "Changes by what became of them.", "link", "side", "action", "outcome")
        self.conflicts = gauge("conflicts", "Open holds because both sides changed.", "link")
        self.holds = gauge("holds", "Open holds.", "link")
        self.oldest_hold = gauge(
            "oldest_hold_timestamp_seconds", "Since when the oldest open hold is held; 0: none.", "link"
        )
        self.quarantined = gauge("quarantined_keys", "Orders whose writes failed and are tried again later.", "link")
        self.intents = gauge("intents_open", "Changes sent whose outcome is not known yet.", "link")
        self.refusals = counter("guard_refusals", "Plans refused and stored.", "link", "guard")
        self.incomplete = counter("listing_incomplete", "Listings of the portal not proved complete.", "link")
        self.cas_misses = counter(
            "cas_misses", "Changes skipped: another value stood there by then, or the order waits.", "link", "side"
        )
        self.requests = counter("portal_requests", "Requests sent to the portal.", "link", "outcome")
        self.calls = counter("portal_calls", "Method calls sent to the portal, in batches.", "link")
        self.answers = histogram(
            "portal_request_duration_seconds", "How long the portal took to answer requests.", _ANSWERS, "link"
        )
        self.token_end = gauge(
            "portal_token_expiry_timestamp_seconds",
            "When the link's OAuth tokens can be renewed no more: 180 days after they were renewed last.",
            "link",
        )
        self.transactions = counter(
            "db_transactions", "Transactions of the state database and of mapping tables.", "store", "link", "outcome"
        )
        self.transaction_time = histogram(
            "db_transaction_duration_seconds",
            "How long they took: readings and writings, waiting for locks included.",
            _MOMENTS,
            "store",
            "link",
        )
        self.listing = counter("portal_listing_seconds", "Time spent listing the portal.", "link")
        self.throttled = counter("portal_throttled_seconds", "Time spent waiting for the portal's limits.", "link")

        self.operating = gauge(
            "portal_operating_seconds", "Operating time of a method in the portal's ten minutes.", "link", "method"
        )
        self.lease_epoch = gauge("lease_epoch", "The fencing number of the link's lease.", "link")
        self.health = gauge("link_health", "1 for the health the link has.", "link", "health")
        self.leader = gauge("leader", "1 while this process holds the link's lease.", "link")
        self.next_run = gauge("scheduler_next_run_timestamp_seconds", "When the next pass is due.", "link")
        self.spacing = gauge("schedule_interval_seconds", "How far apart the link's scheduled passes are.", "link")
        self.skipped = counter("scheduler_skipped", "Slots passed over, by why.", "link", "reason")
        self.trouble = counter("scheduler_trouble", "Slots APScheduler could not ask for.", "link", "kind")
        self.notifications = Counter(
            "syncd_notifications", "Notifications by way and outcome.", ["way", "outcome"], registry=registry
        )
        self.reload_ok = Gauge(
            "syncd_config_last_reload_successful", "1 if the configuration was last read well.", registry=registry
        )
        self.reloaded = Gauge(
            "syncd_config_last_reload_timestamp_seconds", "When it was last read well.", registry=registry
        )
        self.lag = Gauge("syncd_event_loop_lag_seconds", "How late the event loop last was.", registry=registry)

    def observe(self, report: Reported, usage: Usage | None = None, phases: Mapping[str, float] | None = None) -> None:
        """Take in what a run came to.

        Args:
            report: The run.
            usage: What of the portal it used, where that is known better than the run's own numbers.
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
        if report.error is None and row.state in {"applied", "partial", "refused"}:
            self._observe_counts(row)
        if report.error is None and row.state in {"applied", "partial"}:
            self.succeeded.labels(link).set(row.finished_at or row.started_at)
        self._observe_holds(link, report.holds)
        self._observe_changes(link, report.changes)
        self._observe_usage(link, usage or Usage(requests=row.requests, calls=row.calls, listing_seconds=row.seconds))

    def request(self, link: str, seconds: float) -> None:
        """See `syncd.obs.measure.Measure`."""
        self.answers.labels(link).observe(seconds)

    def transaction(self, store: str, link: str, seconds: float, *, failed: bool) -> None:
        """See `syncd.obs.measure.Measure`."""
        self.transactions.labels(store, link, "failed" if failed else "done").inc()
        self.transaction_time.labels(store, link).observe(seconds)

    def labels(self, name: str) -> Sequence[str]:
        """Given a metric's name without suffix, return its labels."""
        made = (*self._of_links.made, self.notifications)
        return next((metric._labelnames for metric in made if metric._name == name), ())  # noqa: SLF001 - shown nowhere else

    def forget(self, link: str) -> None:
        """Drop what is shown of a link that is no longer configured."""
        for metric in self._of_links.made:
            metric.remove_by_labels({"link": link})

    def _observe_counts(self, row: RunRow) -> None:
        counts = row.counts
        self.in_step.labels(row.link).set(counts.in_step)
        for side, rows in ((Side.CRM, counts.crm_rows), (Side.TABLE, counts.table_rows)):
            self.bindings.labels(row.link, side.value).set(rows)
            planned = counts.of(side)
            for action, number in (("add", planned.add), ("move", planned.move), ("remove", planned.remove)):
                self.drift.labels(row.link, side.value, action).set(number)

    def _observe_holds(self, link: str, holds: Sequence[Hold]) -> None:
        self.holds.labels(link).set(len(holds))
        self.conflicts.labels(link).set(sum(hold.kind in CONFLICTS for hold in holds))
        self.oldest_hold.labels(link).set(min((hold.since for hold in holds), default=0.0))

    def _observe_changes(self, link: str, changes: Iterable[StoredChange]) -> None:
        done = Tally(
            (one.change.side.value, one.change.action.value, one.outcome)
            for one in changes
            if one.change.side is not None and one.outcome is not Outcome.PLANNED
        )
        for (side, action, outcome), number in done.items():
            self.changes.labels(link, side, action, outcome.value).inc(number)
            if outcome is Outcome.SKIPPED:
                self.cas_misses.labels(link, side).inc(number)

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
        "`syncd reconcile` leaves those of its passes in a file. The names are stable. The only label that grows is",
        "`link`; order ids are never in labels. Of several daemons on one state database each shows what it knows:",
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
    """Write what these runs came to as a file for the node exporter, replacing the one before in one step.

    Counters begin at zero with each file: alert on gauges (`syncd_run_success_timestamp_seconds`).

    Raises:
        OSError: The file cannot be written.
    """
    metrics = Metrics(process=False)
    for report in reports:
        metrics.observe(report)
    write_to_textfile(str(path), metrics.registry)
