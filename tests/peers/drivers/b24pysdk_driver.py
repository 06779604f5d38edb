"""Drives b24pysdk, unmodified, over TLS (REQUESTS_CA_BUNDLE names the certificate); prints what it saw as JSON."""

import json
import sys
from collections.abc import Callable

from b24pysdk import BitrixWebhook, Client
from b24pysdk.errors import BitrixAPIError

DOMAIN, TOKEN = sys.argv[1], sys.argv[2]


def fields(order: int, owner: int) -> dict[str, int]:
    return {"orderId": order, "ownerId": owner, "ownerTypeId": 2}


def refusal_of(call: Callable[[], object]) -> str:
    try:
        call()
    except BitrixAPIError as error:
        # Its own `error.error` cannot take the numbers that portals before October 2025 send as codes.
        return str(error.json_response["error"])
    return ""


def main() -> None:
    client = Client(BitrixWebhook(domain=DOMAIN, webhook_token=TOKEN))
    entity = client.crm.orderentity
    # Release 1.3.2 asks for `crm.orderentity.fields` here, an action the portal's controller does not have.
    no_such_action = refusal_of(lambda: entity.get_fields().result)
    listed = list(entity.list(order={"orderId": "asc"}).as_list().result)
    added = client.call_batches([entity.add(fields=fields(order, 7000 + order)) for order in range(1, 121)])
    added_results = list(added.result.result)
    mixed = client.call_batches({"good": entity.list(start=-1), "bad": entity.add(fields=fields(10**9, 1))}).result
    removed = entity.delete_by_filter(fields=fields(1, 7001)).result
    refused = refusal_of(lambda: entity.delete_by_filter(fields=fields(1, 7001)).result)
    print(
        json.dumps(
            {
                "no_such_action": no_such_action,
                "listed": listed,
                "added": len(added_results),
                "failed": {key: error["error"] for key, error in mixed.result_error.items()},
                "removed": removed,
                "refused": refused,
            },
            default=str,
        )
    )


main()
