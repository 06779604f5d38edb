"""b24pysdk, unmodified, over TLS (REQUESTS_CA_BUNDLE): `list` or `N` adds."""

import json
import resource
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from b24pysdk import BitrixWebhook, Client

URL, JOB, OUT = sys.argv[1], sys.argv[2], Path(sys.argv[3])
parts = urlsplit(URL)
token = parts.path.removeprefix("/rest/").strip("/")
client = Client(BitrixWebhook(domain=parts.netloc, webhook_token=token))
entity = client.crm.orderentity
RUNS = [(1, 10**6)] * JOB.startswith("both") + [(1_000_000, 1)]
began = time.perf_counter()
remark = ""
orders = []
try:
    if JOB == "list":
        orders = [row["orderId"] for row in entity.list().as_list().result]
    else:
        number = int(JOB.removeprefix("both"))
        calls = [
            entity.add(fields={"orderId": order, "ownerId": owner, "ownerTypeId": 2})
            for first, owner in RUNS
            for order in range(first, first + number)
        ]
        # By default it gives up after 10 s, which is less than a batch of 50 adds takes.
        client.call_batches(calls, timeout=60).call()
except Exception as error:  # noqa: BLE001 - whatever this client raises is the observation
    remark = type(error).__name__
wall = time.perf_counter() - began
OUT.write_text(json.dumps(orders))
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "remark": remark}))
