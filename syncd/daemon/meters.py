"""Turns the events of runners into metrics, notifications and heartbeats."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence

import structlog
from prometheus_client import CollectorRegistry

from syncd.config.model import Settings
from syncd.core.ports import Clock
from syncd.core.store import Store
from syncd.daemon.alerts import Alerts
from syncd.daemon.channels import Beat, Heartbeats
from syncd.daemon.runner_context import PassResult
from syncd.errors import SyncdError
from syncd.obs.metrics import Metrics
from syncd.portal.factory import token_end, token_key
from syncd.status.fire_times import FireTimes
from syncd.status.health import Health
from syncd.status.links import LinkStatus

log = structlog.get_logger("syncd.daemon")


class MetricsObserver:
    """The observer of all runners (`syncd.daemon.runner_context.Observer`).

    Args:
        metrics: Where numbers go.
        alerts: Notifies people.
        store: For numbers no report holds.
        clock: Time.
        heartbeats: Calls the links' heartbeat addresses.
    """

    def __init__(
        self, metrics: Metrics, alerts: Alerts, store: Store, clock: Clock, heartbeats: Heartbeats | None = None
    ) -> None:
        self._metrics = metrics
        self._alerts = alerts
        self._store = store
        self._clock = clock
        self._heartbeats = heartbeats

    def begun(self, link: str) -> None:
        """See `Observer`."""
        if self._heartbeats is not None:
            self._heartbeats.beat(link, Beat.START)

    def skipped(self, link: str, why: str) -> None:
        """See `Observer`."""
        self._metrics.skipped.labels(link, why).inc()

    def passed_elsewhere(self, link: str) -> None:
        """See `Observer`."""
        self._alerts.forget(link)

    async def ended(self, result: PassResult) -> None:
        """See `Observer`. A failure here must not stop the runner."""
        metrics, link = self._metrics, result.link
        metrics.attempted.labels(link).set(self._clock.now())
        if result.report is None:
            metrics.runs.labels(link, "failed").inc()
        else:
            metrics.observe(result.report, result.progress.usage, result.progress.phases)
        self.show_health(link, result.after.health)
        self._alerts.ended(result)
        run = result.report.row if result.report is not None else None
        if self._heartbeats is not None and (run is None or run.covers is None or run.serves_schedule):
            self._heartbeats.ended(result)
        try:
            row = await self._store.find_link(link)
            if row is not None:
                metrics.quarantined.labels(link).set(len(await self._store.attempts(row.id)))
                metrics.intents.labels(link).set(len(await self._store.open_intents(row.id)))
        except SyncdError as error:
            log.warning("metrics incomplete", error=error.message)

    def show_health(self, link: str, health: Health) -> None:
        """Show which of all healths the link has."""
        for one in Health:
            self._metrics.health.labels(link, one.value).set(one is health)

    async def refresh(
        self, statuses: Callable[[], Awaitable[Sequence[LinkStatus]]], at_work: Collection[str], settings: Settings
    ) -> CollectorRegistry:
        """Bring up to date what no pass reports, right before the metrics are read.

        Args:
            statuses: Returns how each link is; where it cannot, the numbers shown last stay.
            at_work: The links this process works on.
            settings: The configuration.
        """
        for link in settings.links:
            self._metrics.leader.labels(link).set(link in at_work)
        try:
            for status in await statuses():
                await self._show(status, settings)
        except SyncdError as error:
            log.warning("metrics incomplete", error=error.message)
        return self._metrics.registry

    async def _show(self, status: LinkStatus, settings: Settings) -> None:
        metrics, link = self._metrics, status.name
        self.show_health(link, status.health)
        metrics.show_holds(link, status.holds)
        if status.last_read is not None and status.last_read.covers is None:
            metrics.show_counts(status.last_read)
        if status.in_step is not None:
            metrics.in_step.labels(link).set(status.in_step)
        if status.all_fresh_at:
            metrics.fresh.labels(link, "all").set(status.all_fresh_at)
        if status.recent_fresh_at:
            metrics.fresh.labels(link, "recent").set(status.recent_fresh_at)
        if status.next_run is not None:
            metrics.next_run.labels(link).set(status.next_run)
        else:
            metrics.next_run.remove_by_labels({"link": link})
        schedule, now = status.settings.schedule, self._clock.now()
        spacing = FireTimes(link, schedule, settings.daemon.timezone).spacing(now) if schedule is not None else None
        if spacing is not None:
            metrics.spacing.labels(link).set(spacing)
        if status.lease is not None:
            metrics.lease_epoch.labels(link).set(status.lease.fence)
        for method, (used, _reset, _read) in status.budget.items():
            metrics.operating.labels(link, method).set(used)
        if status.conditional is not None:
            metrics.conditional.labels(link).set(status.conditional)
        portal = status.settings.portal
        kept = await self._store.token(token_key(portal)) if portal.oauth is not None else None
        end = token_end(portal, kept)
        if end is not None:
            metrics.token_end.labels(link).set(end)

    def forget(self, link: str) -> None:
        """Drop a link that is no longer configured."""
        self._metrics.forget(link)
        self._alerts.forget(link)
