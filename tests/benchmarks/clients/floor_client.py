"""A throwaway reader: disjoint windows of 50 order ids, all at once. It proves nothing: what a reading costs at least."""

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

import httpx

URL, _JOB, OUT, ROWS = sys.argv[1], sys.argv[2], Path(sys.argv[3]), 100_000
LIST = "crm.orderentity.list?order%5BorderId%5D=asc&filter%5B%3EorderId%5D={0}&filter%5B%3C%3DorderId%5D={1}&start=-1"


async def batch(client: httpx.AsyncClient, first: int) -> list[tuple[int, int, int]]:
    cmd = {f"w{low}": LIST.format(low, low + 50) for low in range(first, first + 2_500, 50)}
    body = json.dumps({"halt": 0, "cmd": cmd}, separators=(",", ":")).encode()
    answer = await client.post(URL + "batch", content=body, headers={"Content-Type": "application/json"})
    result = json.loads(answer.content)["result"]["result"]
    return [(row["orderId"], row["ownerTypeId"], row["ownerId"]) for key in cmd for row in result[key]["orderEntity"]]


async def main() -> None:
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=45)) as client:
        began = time.perf_counter()
        batches = await asyncio.gather(*(batch(client, first) for first in range(0, ROWS, 2_500)))
        orders = [row[0] for rows in batches for row in rows]
        wall = time.perf_counter() - began
    OUT.write_text(json.dumps(orders))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"wall": wall, "cpu": usage.ru_utime + usage.ru_stime}))


asyncio.run(main())
