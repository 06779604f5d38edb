"""A page of rows that renders its own JSON: the one thing the sandbox sends by the hundred thousand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from syncd.sandbox.names import CAMEL, COLUMNS, ORDER_ID, OWNER_ID
from syncd.sandbox.phpjson import Rendered

PageRow = tuple[int, int, int]
"""(order id, owner type id, owner id)."""


class Page(Rendered):
    """`{"orderEntity": [...]}` of a list call.

    Args:
        order_ids: The rows' order ids, in order.
        owners: (type, owner) of each; read at once, so that later writes do not show.
        columns: What was selected.
    """

    __slots__ = ("columns", "rows")

    def __init__(
        self, order_ids: Sequence[int], owners: Mapping[int, tuple[int, int]], columns: tuple[str, ...] = COLUMNS
    ) -> None:
        self.columns = columns
        self.rows: list[PageRow] = [(order_id, *owners[order_id]) for order_id in order_ids]

    def json(self) -> str:
        """Return the JSON text; an id of 0 is null (bitrix24-rest.md 3.5)."""
        if self.columns == COLUMNS and all(owner_id and order_id for order_id, _, owner_id in self.rows):
            rows = [
                f'{{"orderId":{order_id},"ownerId":{owner_id},"ownerTypeId":{owner_type_id}}}'
                for order_id, owner_type_id, owner_id in self.rows
            ]
        else:
            rows = [
                "{" + ",".join(f'"{name}":{"null" if value is None else value}' for name, value in row.items()) + "}"
                for row in self._dicts()
            ]
        return '{"orderEntity":[' + ",".join(rows) + "]}"

    def value(self) -> dict[str, list[dict[str, int | None]]]:
        """Return the page as plain values, for `$result` references."""
        return {"orderEntity": self._dicts()}

    def _dicts(self) -> list[dict[str, int | None]]:
        return [
            {
                CAMEL[column]: (order_id if column == ORDER_ID else owner_id if column == OWNER_ID else owner_type_id)
                or None
                for column in self.columns
            }
            for order_id, owner_type_id, owner_id in self.rows
        ]
