"""A throwaway reader: disjoint windows of 50 order ids, all at once. It proves nothing: what a reading costs at least.

It asks for the largest order id first, as anybody must who does not know the portal; with `--known`, it knows.
"""

import asyncio
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import httpx

*OPTIONS, URL, _JOB, out = sys.argv[1:]
OUT, ROWS = Path(out), 100_000
NEWEST = "crm.orderentity.list?order%5BorderId%5D=desc&start=-1"
LIST = "crm.orderentity.list?order%5BorderId%5D=asc&filter%5B%3EorderId%5D={0}&filter%5B%3C%3DorderId%5D={1}&start=-1"


async def last_order(client: httpx.AsyncClient) -> int:
    newest = (await send(client, {"newest": NEWEST}))["newest"]["orderEntity"]
    return int(newest[0]["orderId"])


async def batch(client: httpx.AsyncClient, first: int, last: int) -> list[tuple[int, int, int]]:
    cmd = {f"w{low}": LIST.format(low, low + 50) for low in range(first, min(first + 2_500, last), 50)}
    result = await send(client, cmd)
    return [(row["orderId"], row["ownerTypeId"], row["ownerId"]) for key in cmd for row in result[key]["orderEntity"]]


async def send(client: httpx.AsyncClient, cmd: dict[str, str]) -> Any:
    body = json.dumps({"halt": 0, "cmd": cmd}, separators=(",", ":")).encode()
    answer = await client.post(URL + "batch", content=body, headers={"Content-Type": "application/json"})
    return json.loads(answer.content)["result"]["result"]


async def main() -> None:
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=45)) as client:
        began = time.perf_counter()
        last = ROWS if "--known" in OPTIONS else await last_order(client)
        batches = await asyncio.gather(*(batch(client, first, last) for first in range(0, last, 2_500)))
        orders = [row[0] for rows in batches for row in rows]
        wall = time.perf_counter() - began
    OUT.write_text(json.dumps(orders))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"wall": wall, "cpu": usage.ru_utime + usage.ru_stime}))


asyncio.run(main())
