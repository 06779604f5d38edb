"""The state database: what was agreed, what was planned, what was done, and who may do it now.

`store.open_store` gives the `Store` of `syncd.core.store` over SQLite, PostgreSQL, MariaDB or MySQL; `migrate` makes,
upgrades and checks its schema.
"""
