"""The state database: what was agreed, what was planned, what was done, and who may do it now.

`open_store` gives the `Store` of `syncd.core.store` over SQLite, PostgreSQL, MariaDB or MySQL; `syncd.state.migrate`
makes and upgrades its schema, `syncd.state.db_check` checks it.
"""

from syncd.state.store import SqlStore, open_store

__all__ = ["SqlStore", "open_store"]
