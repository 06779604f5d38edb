"""Turns what runners tell into metrics and notifications."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from prometheus_client import CollectorRegistry

from syncd.config.model import Settings
from syncd.core.ports import Clock
from syncd.core.store import Store
from syncd.daemon.alerts import Alerts
from syncd.daemon.desk import Ending
from syncd.daemon.health import Health
from syncd.daemon.slots import Slots
from syncd.daemon.status import Live
from syncd.errors import SyncdError
from syncd.obs.metrics import Metrics
from syncd.portal.opening import budget_key, token_end, token_key

log = structlog.get_logger("syncd.daemon")


class Meters:
    """The observer of all runners (`syncd.daemon.desk.Observer`).

    Args:
        metrics: Where numbers go.
        alerts: Who tells people.
        store: For numbers no report holds.
        clock: Time.
    """

    def __init__(self, metrics: Metrics, alerts: Alerts, store: Store, clock: Clock) -> None:
        self._metrics = metrics
        self._alerts = alerts
        self._store = store
        self._clock = clock

    def skipped(self, link: str, why: str) -> None:
        """See `Observer`."""
        self._metrics.skipped.labels(link, why).inc()

    def overtaken(self, link: str) -> None:
        """See `Observer`."""
        self._alerts.forget(link)

    async def ended(self, ending: Ending) -> None:
        """See `Observer`. Whatever goes wrong here must not keep the runner."""
        metrics, link = self._metrics, ending.link
        metrics.attempted.labels(link).set(self._clock.now())
        if ending.report is None:
            metrics.runs.labels(link, "failed").inc()
        else:
            metrics.observe(ending.report, ending.pulse.usage, ending.pulse.phases)
        self.show_health(link, ending.after.health)
        self._alerts.ended(ending)
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

    async def refresh(self, lives: Mapping[str, Live], settings: Settings) -> CollectorRegistry:
        """Bring up to date what no pass tells, right before the metrics are read."""
        metrics, now = self._metrics, self._clock.now()
        for link, live in lives.items():
            self.show_health(link, live.condition.health)
            metrics.leader.labels(link).set(live.working is not None)
            if live.next_run is not None:
                metrics.next_run.labels(link).set(live.next_run)
            schedule = settings.links[link].schedule if link in settings.links else None
            spacing = Slots(link, schedule, settings.daemon.timezone).spacing(now) if schedule is not None else None
            if spacing is not None:
                metrics.spacing.labels(link).set(spacing)
        try:
            await self._refresh_from_store(lives, settings)
        except SyncdError as error:
            log.warning("metrics incomplete", error=error.message)
        return metrics.registry

    async def _refresh_from_store(self, lives: Mapping[str, Live], settings: Settings) -> None:
        for lease in await self._store.leases():
            if lease.link in lives:
                self._metrics.lease_epoch.labels(lease.link).set(lease.fence)
        for link in lives.keys() & settings.links.keys():
            portal = settings.links[link].portal
            for method, (used, _reset, _read) in (await self._store.budget(budget_key(portal))).items():
                self._metrics.operating.labels(link, method).set(used)
            kept = await self._store.token(token_key(portal)) if portal.oauth is not None else None
            end = token_end(portal, kept)
            if end is not None:
                self._metrics.token_end.labels(link).set(end)

    def forget(self, link: str) -> None:
        """The link is no longer looked after."""
        self._metrics.forget(link)
        self._alerts.forget(link)
