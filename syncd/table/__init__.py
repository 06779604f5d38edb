"""The mapping table of the order system: one snapshot read, reads by id, and conditional writes, over SQLAlchemy Core.

`keyed.open_table` makes the adapter for `syncd.core.ports.Table`; `proposals.propose_columns` finds likely tables for
`syncd init`.
"""
