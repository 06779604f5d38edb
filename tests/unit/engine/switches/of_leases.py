"""The lease a run works under, the stop it listens for, and the ends it protects."""

from __future__ import annotations

from syncd.core.records import Lease, LinkRow, StoredChange
from syncd.engine.link import HeldLease, Link
from tests.simulation.switch import Name, Silent, rule, specification
from tests.unit.engine import test_engine_endings as on_endings
from tests.unit.engine import test_engine_rebase as on_rebase
from tests.unit.engine.switches.of_decisions import nothing

APPLY, LINK = "syncd.engine.apply", "syncd.engine.link"


async def as_it_was_taken(lease: HeldLease) -> Lease:
    return lease.current


async def no_intents(*_args: object) -> list[StoredChange]:
    return []


async def protects_something(_link: Link, _row: LinkRow) -> bool:
    return False


SWITCHES = [
    # ---------------------------------------------------------------------------- lease
    rule(
        "Nothing more is sent once the stop is asked for.",
        Silent(f"{LINK}:HeldLease.prove"),
        specification(
            on_endings.test_given_the_stop_in_mid_run_then_the_batch_in_flight_is_recorded_and_nothing_more_is_sent
        ),
    ),
    rule(
        "The lease is proved before each batch.",
        Name(f"{LINK}:HeldLease.prove", as_it_was_taken),
        specification(on_endings.test_given_a_long_run_then_its_lease_is_renewed_on_the_way),
    ),
    rule(
        "A lease is prolonged on the way.",
        Name(f"{LINK}:HeldLease.renew", nothing),
        specification(on_endings.test_given_a_long_run_then_its_lease_is_renewed_on_the_way),
    ),
    rule(
        "How far a run has got is kept with its lease.",
        Name(f"{LINK}:TELL_EVERY", 10**9),
        specification(
            on_endings.test_given_a_long_listing_then_how_far_it_has_got_is_kept_with_the_lease_within_seconds
        ),
    ),
    rule(
        "A lease is kept alive while the portal is listed.",
        Name(f"{LINK}:HeldLease.keep", nothing),
        specification(on_endings.test_given_a_listing_that_takes_longer_than_a_lease_then_the_lease_is_kept_alive),
    ),
    rule(
        "A lease is kept alive while a write is under way.",
        Name(f"{LINK}:HeldLease.keep", nothing),
        specification(on_endings.test_given_a_write_that_takes_longer_than_a_lease_then_the_lease_is_kept_alive),
        specification(
            on_endings.test_given_a_lease_lost_during_a_write_then_the_write_is_given_up_and_left_to_recovery
        ),
    ),
    rule(
        "The lease is given back at the end.",
        Name("tests.fakes.store:MemoryStore.release", nothing),
        "conflict-is-held",
    ),
    # ----------------------------------------------------------------------------- ends
    rule(
        "Ends that protect nothing yet are followed.",
        Name(f"{LINK}:_untouched", protects_something),
        "a-mended-address-needs-no-rebase-before-anything-is-agreed",
    ),
    rule(
        "A run that came to its end makes ends worth protecting.",
        Name("tests.fakes.store:MemoryStore.completed", nothing),
        specification(on_rebase.test_given_a_first_pass_that_found_both_sides_empty_then_other_ends_are_refused),
    ),
    rule(
        "So does anything agreed.",
        Name("tests.fakes.store:MemoryStore.agreed_count", nothing),
        specification(on_rebase.test_given_a_first_pass_that_died_with_something_agreed_then_other_ends_are_refused),
    ),
    rule(
        "So does a write in flight.",
        Name("tests.fakes.store:MemoryStore.open_intents", no_intents),
        "other-ends-after-a-write-in-flight-are-refused",
    ),
]
