"""Titles: asked for once a day, for those who look, and never in anybody's way."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from syncd.config.model import Settings
from syncd.core.model import MaybeOwner, Owner
from syncd.errors import UnavailableError
from syncd.portal.client import BitrixPortal
from syncd.portal.factory import token_key
from syncd.state.store import SqlStore, open_store
from syncd.status.owners import AGAIN, KEPT, Titles
from tests.fakes.clock import SetClock
from tests.fakes.portal_client import OAUTH
from tests.unit.pages.shown_daemon import NOON, make_template, settings

pytestmark = pytest.mark.anyio
DEAL, OTHER = Owner(2, 77), Owner(2, 78)


class Portal(BitrixPortal):
    """Names whatever it is asked for, and remembers that."""

    def __init__(self) -> None:
        self.asked: list[set[Owner]] = []
        self.types: dict[int, str] = {2: "Deal"}
        self.titles_by_owner = {DEAL: "Desks"}
        self.broken: Exception | None = None
        self.being_asked = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()

    @asynccontextmanager
    async def open(self, _link: str) -> AsyncIterator[Portal]:
        yield self

    async def titles(self, owners: Collection[Owner]) -> dict[Owner, str]:
        self.asked.append(set(owners))
        self.being_asked.set()
        await self.answers.wait()
        if self.broken is not None:
            raise self.broken
        return {owner: self.titles_by_owner.get(owner, "") for owner in owners}

    async def owner_types(self) -> dict[int, str]:
        return self.types


class ReaderOfTitles:
    def __init__(self, made: Settings, store: SqlStore, clock: SetClock) -> None:
        self.settings, self.store, self.clock, self.portal = made, store, clock, Portal()
        self.titles = self.restarted()

    def restarted(self) -> Titles:
        """What a process that was just started has."""
        return Titles(lambda: self.settings, self.store, self.clock, self.portal.open)

    async def shown(self, *owners: MaybeOwner) -> dict[Owner, str]:
        return dict((await self.titles.labels("shop", owners)).names.titles)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("state"))


@pytest.fixture
async def world(tmp_path: Path, template: Path) -> AsyncIterator[ReaderOfTitles]:
    made = settings(tmp_path, {"shop": {}})
    url = made.state.url.get_secret_value()
    shutil.copy(template, tmp_path / "state.db")
    clock = SetClock(NOON)
    store = open_store(url, clock=clock)
    await store.link("shop", "ends")
    opened = ReaderOfTitles(made, store, clock)
    yield opened
    await opened.titles.aclose()
    await store.aclose()


async def test_given_owners_then_the_portal_is_asked_once_a_day_also_for_those_without_a_title(
    world: ReaderOfTitles,
) -> None:
    assert await world.shown(DEAL, OTHER, None) == {DEAL: "Desks"}
    world.titles = world.restarted()
    world.clock.time += KEPT - 1
    assert await world.shown(DEAL, OTHER) == {DEAL: "Desks"}
    assert world.portal.asked == [{DEAL, OTHER}]
    world.clock.time += 2
    world.portal.titles_by_owner[DEAL] = "More desks"
    assert await world.shown(DEAL) == {DEAL: "More desks"}


async def test_given_what_is_kept_then_it_is_known_without_asking_the_portal_until_it_is_a_day_old(
    world: ReaderOfTitles,
) -> None:
    assert (await world.titles.kept("shop")).names.titles == {}
    await world.shown(DEAL, OTHER)
    world.portal.asked.clear()
    assert (await world.titles.kept("shop")).names.titles == {DEAL: "Desks"}
    world.clock.time += KEPT + 1
    assert (await world.titles.kept("shop")).names.titles == {}
    assert world.portal.asked == []


async def test_given_names_of_types_then_they_come_along(world: ReaderOfTitles) -> None:
    world.portal.types = {2: "Сделка"}
    labels = await world.titles.labels("shop", [DEAL])
    assert (labels.names.types, labels.origin) == ({2: "Сделка"}, "https://shop.bitrix24.com")


async def test_given_nothing_to_name_or_titles_off_then_nobody_is_asked(world: ReaderOfTitles, tmp_path: Path) -> None:
    assert await world.shown(None) == {}
    world.settings = settings(tmp_path, {"shop": {"titles": False}})
    assert await world.shown(DEAL) == {}
    assert (await world.titles.kept("shop")).names.titles == {}
    assert world.portal.asked == []


async def test_given_a_portal_that_fails_then_it_is_left_alone_for_a_minute(world: ReaderOfTitles) -> None:
    world.portal.broken = UnavailableError("The portal is away.")
    assert [await world.shown(DEAL), await world.shown(DEAL)] == [{}, {}]
    assert len(world.portal.asked) == 1
    world.clock.time += AGAIN + 1
    world.portal.broken = None
    assert await world.shown(DEAL) == {DEAL: "Desks"}


async def test_given_a_bug_in_naming_then_the_numbers_are_shown(world: ReaderOfTitles) -> None:
    world.portal.broken = ZeroDivisionError("oops")
    assert await world.shown(DEAL) == {}


async def test_given_somebody_who_does_not_wait_then_names_are_there_for_the_next_look(world: ReaderOfTitles) -> None:
    world.portal.answers.clear()
    assert (await world.titles.labels_at_hand("shop", [DEAL])).names.titles == {}
    await world.portal.being_asked.wait()
    assert (await world.titles.labels_at_hand("shop", [DEAL])).names.titles == {}
    assert world.portal.asked == [{DEAL}]
    world.portal.answers.set()
    assert await world.shown(DEAL) == {DEAL: "Desks"}


async def test_given_an_end_while_the_portal_is_asked_then_it_is_not_waited_for(world: ReaderOfTitles) -> None:
    world.portal.answers.clear()
    await world.titles.labels_at_hand("shop", [DEAL])
    await world.portal.being_asked.wait()
    await world.titles.aclose()
    assert (world.portal.asked, world.portal.answers.is_set()) == ([{DEAL}], False)
    assert (await world.titles.kept("shop")).names.titles == {}


async def test_given_a_token_that_is_about_to_end_then_its_renewal_is_left_to_passes(
    world: ReaderOfTitles, tmp_path: Path
) -> None:
    world.settings = settings(tmp_path, {"shop": {"portal": {"oauth": OAUTH.model_dump()}}})
    key = token_key(world.settings.links["shop"].portal)
    await world.store.swap_token(key, None, {"expires_at": NOON + 60})
    assert await world.shown(DEAL) == {}
    await world.store.swap_token(key, None, {"expires_at": NOON + 3600})
    assert await world.shown(DEAL) == {DEAL: "Desks"}
