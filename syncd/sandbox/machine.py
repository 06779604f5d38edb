"""The portal's state with everything that decides how it answers: credentials, limits, times, faults."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping

from syncd.core.ports import Clock
from syncd.sandbox.answers import Version
from syncd.sandbox.bindings import OwnerPair
from syncd.sandbox.contents import Contents
from syncd.sandbox.damage import LastPage
from syncd.sandbox.exchange import Exchange
from syncd.sandbox.faults import Faults
from syncd.sandbox.limits import Latencies, LeakyBuckets, Limits, OperatingTime
from syncd.sandbox.oauth import Application, OAuth
from syncd.sandbox.php import MAX_INPUT_VARS

SCOPE = frozenset({"crm", "sale"})


class Machine(Contents):
    """A portal, but for the doors requests come in by.

    Args:
        bindings: order id → (owner type id, owner id), or triples (order id, owner type id, owner id).
        orders: Orders that exist besides the bound ones; a range or frozenset is not copied.
        code: The webhook's secret.
        user_id: The webhook's user.
        version: Which portal is played.
        sale_right: The user's right in the sale module: `W` reads and writes, any other reads, `D` does neither.
        scope: Of the webhook.
        latencies: How long the portal works; not at all by default.
        limits: The request and operating limits; None has none, as a box.
        faults: What goes wrong; rules can be added later.
        application: The OAuth application whose tokens are taken beside the webhook.
        owners: The owners that exist; None: all do but `missing_owners`.
        require_https: Refuse webhooks over plain http, as a real portal does.
        minus_one_is_everything: `start=-1` answers every row, as a sentence of the documentation has it.
        unstable_ties: Rows of equal owner id come in another order with every other query.
        auth_status: The HTTP status of failed authentication, 401 by source, 403 by documentation.
        max_input_vars: PHP's limit on form and query parameters.
        clock: Time and waiting; the machine's by default.
    """

    def __init__(
        self,
        bindings: Mapping[int, OwnerPair] | Iterable[tuple[int, int, int]] = (),
        *,
        orders: Iterable[int] | None = None,
        code: str = "sandboxsecret",
        user_id: int = 1,
        version: Version = Version.NEW,
        sale_right: str = "W",
        scope: frozenset[str] = SCOPE,
        latencies: Latencies | None = None,
        limits: Limits | None = None,
        faults: Faults | None = None,
        application: Application | None = None,
        owners: Collection[OwnerPair] | None = None,
        require_https: bool = False,
        minus_one_is_everything: bool = False,
        unstable_ties: bool = False,
        auth_status: int = 401,
        max_input_vars: int = MAX_INPUT_VARS,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            bindings,
            orders=orders,
            owners=owners,
            version=version,
            sale_right=sale_right,
            user_id=user_id,
            minus_one_is_everything=minus_one_is_everything,
            unstable_ties=unstable_ties,
            clock=clock,
        )
        self.code = code
        self.scope = scope
        self.latencies = latencies or Latencies()
        self.limits = limits or Limits.box()
        self.faults = faults if faults is not None else Faults()
        self.require_https = require_https
        self.auth_status = auth_status
        self.max_input_vars = max_input_vars
        self.user_active = True
        self.oauth = OAuth(application or Application(), user_id, self.clock)
        self.buckets = LeakyBuckets(self.limits)
        self.operating = OperatingTime(self.limits)
        self.last_page = LastPage([])
        self.late: list[tuple[float, Exchange]] = []
        self.waiting: list[asyncio.Event] = []
