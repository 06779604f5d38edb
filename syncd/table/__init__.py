"""The mapping table of the order system: one snapshot read, reads by id, and conditional writes, over SQLAlchemy Core.

`open_table` makes the adapter for `syncd.core.ports.Table`; `propose` looks through a database for `syncd init`.
"""

from __future__ import annotations

from syncd.table.opening import Proposal, open_table, propose_columns
from syncd.table.sql import SqlTable

__all__ = ["Proposal", "SqlTable", "open_table", "propose_columns"]
