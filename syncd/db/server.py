"""What databases behind a network share: engines with pools, locks of a session, and errors at connecting."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.pool import NullPool

from syncd.db.backend import Backend, Limits, Opening
from syncd.errors import ConfigError, SyncdError


class Server(Backend):
    """What the servers share."""

    session_id: ClassVar[str]
    """SQL for the number of the session at work."""
    take_lock: ClassVar[str]
    """SQL that takes the session's lock `:key` without waiting, and returns whether the session has it."""
    drop_lock: ClassVar[str]
    """SQL that releases it."""

    @abstractmethod
    def lock_key(self, subject: str) -> int | str:
        """Given what a lock is for, return the lock's key as this kind of server takes it."""

    @abstractmethod
    def wait_for_lock(self, connection: sa.Connection, subject: str) -> None:
        """Wait for a lock that ends with this transaction, or with its connection, which is not pooled.

        Args:
            connection: In a transaction.
            subject: What the lock is for.
        """

    @abstractmethod
    def session_arguments(self, limits: Limits | None) -> dict[str, Any]:
        """Return the driver's arguments for sessions of the state database, with these time limits or none."""

    @abstractmethod
    def set_up_sessions(self, engine: sa.Engine, limits: Limits | None, *, transactions: bool) -> None:
        """Set up the sessions of a state's engine.

        Args:
            engine: Of this kind of server.
            limits: How long its statements may take.
            transactions: Whether they run ordinary transactions; if not, one session holds locks for a long time.
        """

    @abstractmethod
    def table_arguments(self, limits: Limits) -> dict[str, Any]:
        """Return the driver's arguments for sessions of a mapping table, with these time limits."""

    def state_engine(
        self, url: sa.URL, key: str, limits: Limits | None, *, transactions: int, opening: Opening = nullcontext
    ) -> sa.Engine:
        """See `Backend`."""
        del opening
        options: dict[str, Any] = {"poolclass": NullPool}
        if transactions:
            options = {
                "pool_pre_ping": True, "pool_size": transactions, "max_overflow": transactions, "pool_timeout": 30
            }  # fmt: skip
        engine = self._engine(url, key, self.session_arguments(limits), options)
        self.set_up_sessions(engine, limits, transactions=bool(transactions))
        return engine

    def table_engine(self, url: sa.URL, key: str, limits: Limits, *, opening: Opening = nullcontext) -> sa.Engine:
        """Each connection is tested before it is used, since the server may have been restarted."""
        del opening
        return self._engine(url, key, self.table_arguments(limits), {"pool_size": 2, "pool_pre_ping": True})

    def _engine(self, url: sa.URL, key: str, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> sa.Engine:
        """Make an engine. An option of the URL wins over the driver's argument of the same name."""
        try:
            texts, values = self.usable_options(url, key)
            defaults = {name: value for name, value in arguments.items() if name not in texts}
            engine = sa.create_engine(
                url.set(drivername=self.driver, query=dict(texts)),
                hide_parameters=True,
                isolation_level="READ COMMITTED",
                connect_args={**defaults, **values},
                **self.engine_options,
                **options,
            )
        except (exc.NoSuchModuleError, ModuleNotFoundError):
            raise self.missing_driver(key) from None
        self._guard(engine, key)
        return engine

    def connect(self, driver: Any, args: Sequence[Any], arguments: Mapping[str, Any]) -> Any:
        """Given the driver and what it is called with, return a connection, within the time limit for connecting."""
        return driver.connect(*args, **arguments)

    def missing_driver(self, key: str) -> ConfigError:
        """Return the error of a driver that is not installed."""
        return ConfigError(
            f"{key}: the driver {self.module}, which a {self.kind} database needs, is not installed.",
            hint=f"Install it with: pip install {self.packages}",
        )

    def _guard(self, engine: sa.Engine, key: str) -> None:
        """Let no error of connecting out but the driver's own and syncd's."""

        @event.listens_for(engine, "do_connect")
        def connect(_dialect: object, _record: object, args: Sequence[Any], arguments: Mapping[str, Any]) -> Any:
            driver: Any = engine.dialect.dbapi
            problem: SyncdError
            try:
                return self.connect(driver, args, arguments)
            except driver.Error as error:
                self.find_refusal_code(error, arguments)
                raise
            except RuntimeError as error:
                problem = self._not_prepared(key, error)
            except (OSError, ValueError, TypeError, LookupError, AttributeError, NotImplementedError) as error:
                # What a driver makes of an option that it takes and cannot use. Its words may hold the value.
                words = f"{key}: the driver {self.module} cannot connect with the options of this URL"
                problem = ConfigError(f"{words} ({type(error).__name__}).", hint="Check the options after its `?`.")
            raise problem

    def _not_prepared(self, key: str, error: RuntimeError) -> SyncdError:
        if "cryptography" in str(error):
            return ConfigError(
                f"{key}: this server's way to sign in needs the package cryptography, which is not installed.",
                hint=f"Install it with: pip install {self.packages}",
            )
        return ConfigError(f"{key}: the driver {self.module} cannot connect ({type(error).__name__}).")
