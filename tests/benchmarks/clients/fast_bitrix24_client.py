"""fast_bitrix24, unmodified: `list` or `N` adds; with `--slow` as its documentation advises after server errors."""

import contextlib
import json
import resource
import sys
import time
from pathlib import Path

from fast_bitrix24 import Bitrix

*OPTIONS, URL, JOB, OUT = sys.argv[1:]
client = Bitrix(URL, verbose=False)
RUNS = [(1, 10**6)] * JOB.startswith("both") + [(1_000_000, 1)]
began = time.perf_counter()
remark = ""
orders = []
try:
    if JOB == "list":
        orders = [row["orderId"] for row in client.get_all("crm.orderentity.list")]
    else:
        for first, owner in RUNS:
            number = int(JOB.removeprefix("both"))
            items = [
                {"fields": {"orderId": order, "ownerId": owner, "ownerTypeId": 2}}
                for order in range(first, first + number)
            ]
            with client.slow() if "--slow" in OPTIONS else contextlib.nullcontext():
                client.call("crm.orderentity.add", items)
except Exception as error:  # noqa: BLE001 - whatever this client raises is the observation
    remark = type(error).__name__
wall = time.perf_counter() - began
Path(OUT).write_text(json.dumps(orders))
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "remark": remark}))
