"""The mapping table of the order system: one snapshot read, reads by id, and conditional writes, over SQLAlchemy Core.

`opening.open_table` makes the adapter for `syncd.core.ports.Table`; `opening.propose_columns` looks through a database
for `syncd init`.
"""
