"""Drives fast_bitrix24, unmodified, against a webhook URL; prints what it saw as JSON."""

import asyncio
import json
import sys

from fast_bitrix24 import BitrixAsync

WEBHOOK = sys.argv[1]


async def main() -> None:
    client = BitrixAsync(WEBHOOK, verbose=False)
    listed = await client.get_all("crm.orderentity.list")
    filtered = await client.get_all("crm.orderentity.list", {"filter": {"<=orderId": 3}})
    added = await client.call(
        "crm.orderentity.add",
        [{"fields": {"orderId": order, "ownerId": 7000 + order, "ownerTypeId": 2}} for order in range(1, 121)],
    )
    removed = await client.call(
        "crm.orderentity.deleteByFilter",
        [{"fields": {"orderId": order, "ownerId": 7000 + order, "ownerTypeId": 2}} for order in range(1, 61)],
    )
    try:
        await client.call("crm.orderentity.add", {"fields": {"orderId": 10**9, "ownerId": 1, "ownerTypeId": 2}})
        refused = ""
    except Exception as error:  # noqa: BLE001  # whatever this client raises is the observation
        refused = str(error)
    print(
        json.dumps(
            {"listed": listed, "filtered": filtered, "added": len(added), "removed": len(removed), "refused": refused}
        )
    )


asyncio.run(main())
