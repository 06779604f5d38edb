"""`syncd run`: the life of the daemon, from reading the configuration to giving back the last lease."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress

import structlog

from syncd import __version__
from syncd.config.load import Loaded
from syncd.config.model import Settings
from syncd.core.pacing import pause
from syncd.core.ports import Clock
from syncd.daemon.alerts import Alerts, alert_rules
from syncd.daemon.channels import Heartbeats, channels
from syncd.daemon.hints import TableWatches
from syncd.daemon.lifecycle import Process, SecretFiles, Stop, Tasks, handled, needs_restart, read_again, watch_secrets
from syncd.daemon.meters import MetricsObserver
from syncd.daemon.runner_context import PassLimiter, RunnerContext, pass_runner
from syncd.daemon.schedule import LinkScheduler
from syncd.daemon.supervisor import Supervisor
from syncd.daemon.systemd import Liveness, Notifier, keep_alive, status_line
from syncd.daemon.triggers import RequestPoller, Trigger
from syncd.daemon.web import WebViews
from syncd.daemon.web_server import WebServer
from syncd.errors import ConfigError, StateUnavailable
from syncd.obs import logs
from syncd.obs.clock import SystemClock
from syncd.obs.metrics import Metrics
from syncd.status.owners import Titles
from syncd.wiring import AppContext, open_app_context

log = structlog.get_logger("syncd.daemon")

PASSES_AT_ONCE = 16
START_PATIENCE = 120.0
"""Seconds a starting daemon waits for a state database that is out of reach, where systemd waits with it."""
STATUS_EVERY = 1.0
DRAIN = 5.0
"""Seconds a stopping daemon gives to notifications that are still on their way."""


def run(loaded: Loaded) -> int:
    """Run the daemon until it is asked to stop.

    Args:
        loaded: The configuration; read again from the same sources on SIGHUP. Logs are set up as it says.

    Returns:
        The exit code: 0 after SIGTERM or SIGINT, 128 and the signal's number when a second one came.

    Raises:
        ConfigError, AuthError, UnavailableError: It cannot start.
    """
    return asyncio.run(Service(loaded, os.environ).serve())


class Service:
    """One daemon.

    Args:
        loaded: The configuration.
        environ: The environment, for what the service manager says in it.
        clock: Time; the system's when left out.
    """

    def __init__(self, loaded: Loaded, environ: Mapping[str, str], clock: Clock | None = None) -> None:
        self._loaded = loaded
        self._environ = environ
        self._secrets = SecretFiles(loaded, environ)
        self._clock = clock or SystemClock()
        self._notifier = Notifier(environ, os.getpid())
        self._metrics = Metrics()
        self._stop = Stop(self._cut_off)
        self._reload_wanted = asyncio.Event()
        self._supervisor: Supervisor | None = None
        self._tasks = Tasks(self._crashed)
        self._process = Process("", "starting", self._clock.now(), str(loaded.path), self._clock.now())

    async def serve(self) -> int:
        """Run; see `run`."""
        log.info("daemon starting", version=__version__, config=str(self._loaded.path))
        self._notifier.status("starting: opening the state database")
        with handled(self._stop, reload=self._reload_wanted.set, now=self._pass_now):
            async with AsyncExitStack() as stack:
                context = await self._open_state(stack)
                if context is not None:
                    titles = await stack.enter_async_context(context.titles())
                    await self._live(context, titles)
        log.info("daemon stopped", reason=self._stop.reason, exit_code=self._stop.exit_code)
        return self._stop.exit_code

    # ------------------------------------------------------------------- start

    async def _open_state(self, stack: AsyncExitStack) -> AppContext | None:
        """Open the state database; None if the stop was asked for before it could be reached."""
        began, attempt = self._clock.monotonic(), 0
        patience = START_PATIENCE if self._notifier.listening else 0.0
        while not self._stop.wanted.is_set():
            async with self._tasks.during("start", self._extend_start()):
                try:
                    return await stack.enter_async_context(
                        open_app_context(self._loaded.settings, clock=self._clock, meter=self._metrics)
                    )
                except StateUnavailable as error:
                    if self._clock.monotonic() - began >= patience:
                        raise
                    attempt += 1
                    self._notifier.status(f"starting: {error.message}")
                    log.warning("waiting for the state database", error=error.message)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause(attempt, first=1, most=10)):
                        await self._stop.wanted.wait()
        return None

    async def _extend_start(self) -> None:
        """Keep systemd patient: an upgrade of a large state database may take minutes."""
        while True:
            self._notifier.extend(30)
            await self._clock.sleep(10)

    # --------------------------------------------------------------------- run

    async def _live(self, context: AppContext, titles: Titles) -> None:
        settings, clock, store = self._loaded.settings, self._clock, context.store
        self._process = self._process.but(holder=context.holder)
        alerts = Alerts(clock, self._count_notification, labels=titles.labels)
        heartbeats = Heartbeats(lambda: context.settings.links)
        meters = MetricsObserver(self._metrics, alerts, store, clock, heartbeats)
        runner_context = RunnerContext(
            store,
            clock,
            context.holder,
            pass_runner(context),
            PassLimiter(PASSES_AT_ONCE),
            meters,
            prune=store.prune,
        )
        scheduler = LinkScheduler(clock, self._slot_came, self._count_trouble, self._recent_slot_came)
        supervisor = self._supervisor = Supervisor(runner_context, scheduler, self._crashed)
        watches = TableWatches(context.watched_table, clock, supervisor, self._tasks)
        poller = RequestPoller(store, clock, lambda: supervisor.runners, supervisor.ask, supervisor.state_back)
        liveness = Liveness(clock, scheduler, supervisor.passes, self._metrics.lag.set)
        views = WebViews(
            context=context,
            titles=titles,
            supervisor=supervisor,
            meters=meters,
            liveness=liveness,
            poller=poller,
            process=lambda: self._process,
        )
        web = _web_server(views, settings.web.address) if settings.web.address is not None else None
        try:
            if web is not None:
                if settings.web.is_open:
                    log.warning("web open to other hosts", listen=settings.web.listen, password=False)
                self._tasks.start("web", web.run())
                await web.started()
            scheduler.start()
            self._adopt(settings, alerts, meters, context, watches)
            self._tasks.start("requests", poller.run())
            self._tasks.start("liveness", liveness.run())
            self._tasks.start("watchdog", keep_alive(self._notifier, liveness, clock))
            self._tasks.start("alerts", alerts.run())
            self._tasks.start("due alerts", self._tell_due(alerts))
            self._process = self._process.but(phase="running")
            self._notifier.ready()
            log.info("daemon ready", links=len(supervisor.runners), web=settings.web.listen)
            self._tasks.start("status", self._keep_status(supervisor))
            self._tasks.start("reload", self._keep_reloading(alerts, meters, context, watches))
            credentials = watch_secrets(
                lambda: self._secrets, supervisor.any_turned_away, self._reload_wanted.set, self._clock
            )
            self._tasks.start("credentials", credentials)
            await self._stop.wanted.wait()
            await self._shut_down(supervisor, scheduler, alerts, heartbeats, web)
        finally:
            await self._tasks.end_all()
            await scheduler.stop()
            if web is not None:
                web.close()

    def _adopt(
        self, settings: Settings, alerts: Alerts, meters: MetricsObserver, context: AppContext, watches: TableWatches
    ) -> None:
        """Apply settings, at the start and at each reload."""
        assert self._supervisor is not None
        alerts.configure(channels(settings.notify), alert_rules(settings.notify))
        context.settings = settings
        changed = self._supervisor.configure(settings)
        watches.configure(settings.links)
        for name in changed.removed:
            meters.forget(name)
        self._metrics.reload_ok.set(1)
        self._metrics.reloaded.set(self._clock.now())
        self._process = self._process.but(config_at=self._clock.now(), config_error="")
        if changed.added or changed.removed or changed.changed:
            log.info("links configured", added=changed.added, removed=changed.removed, changed=changed.changed)

    async def _keep_reloading(
        self, alerts: Alerts, meters: MetricsObserver, context: AppContext, watches: TableWatches
    ) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            self._notifier.reloading()
            try:
                again = await asyncio.to_thread(read_again, self._loaded)
            except ConfigError as error:
                problems = list(error.problems) or [error.message]
                log.warning("reload failed, old configuration kept", problems=problems)
                self._metrics.reload_ok.set(0)
                self._process = self._process.but(config_error="; ".join(problems))
            else:
                restart = needs_restart(self._loaded.settings, again.settings)
                if restart:
                    log.warning("restart needed", keys=restart)
                self._process = self._process.but(restart=tuple(restart))
                logs.configure(again.settings.log.level.value, again.settings.log.format.value)
                self._adopt(again.settings, alerts, meters, context, watches)
                self._loaded, self._secrets = again, SecretFiles(again, self._environ)
                log.info("configuration reloaded")
            self._show_status()
            self._notifier.ready()

    async def _keep_status(self, supervisor: Supervisor) -> None:
        while True:
            self._show_status()
            await self._clock.sleep(STATUS_EVERY)
            for name, runner in supervisor.runners.items():
                self._metrics.leader.labels(name).set(runner.working is not None)

    def _show_status(self) -> None:
        if self._supervisor is not None:
            self._notifier.status(status_line(self._process, self._supervisor.states()))

    async def _tell_due(self, alerts: Alerts) -> None:
        while True:
            await self._clock.sleep(60)
            alerts.notify_due()

    # -------------------------------------------------------------------- stop

    async def _shut_down(
        self,
        supervisor: Supervisor,
        scheduler: LinkScheduler,
        alerts: Alerts,
        heartbeats: Heartbeats,
        web: WebServer | None,
    ) -> None:
        timeout = self._loaded.settings.daemon.shutdown_timeout_seconds
        log.info("daemon stopping", reason=self._stop.reason, at_work=[name for name, _ in supervisor.passes()])
        self._process = self._process.but(phase="stopping")
        self._notifier.stopping()
        self._show_status()
        await scheduler.stop()
        if not await supervisor.stop(self._stop.reason, timeout):
            log.warning("passes cut off", after=timeout, healing="their journals, by the next pass")
        try:
            async with asyncio.timeout(DRAIN):
                await asyncio.gather(alerts.drain(), heartbeats.drain())
        except TimeoutError:
            log.warning("notifications lost")
        if web is not None:
            web.stop()

    def _cut_off(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cut_off()

    # --------------------------------------------------------------- listeners

    def _crashed(self, error: BaseException) -> None:
        self._stop.ask(f"a crash ({type(error).__name__})", exit_code=1)

    def _slot_came(self, link: str) -> None:
        assert self._supervisor is not None
        self._supervisor.ask(link, Trigger.SCHEDULE)

    def _recent_slot_came(self, link: str) -> None:
        assert self._supervisor is not None
        self._supervisor.ask(link, Trigger.RECENT)

    def _pass_now(self) -> None:
        log.info("pass asked for", by=signal.SIGUSR1.name)
        if self._supervisor is not None:
            self._supervisor.ask_all(Trigger.SIGNAL)

    def _count_trouble(self, link: str, kind: str) -> None:
        self._metrics.trouble.labels(link, kind).inc()

    def _count_notification(self, way: str, outcome: str) -> None:
        self._metrics.notifications.labels(way, outcome).inc()


def _web_server(views: WebViews, address: tuple[str, int]) -> WebServer:
    """Return what serves the views and the status page, whose templates are loaded only here."""
    from syncd.daemon.pages import routes  # noqa: PLC0415

    return WebServer(views.application(routes(views)), address)
