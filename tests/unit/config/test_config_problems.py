"""What is wrong with a configuration, in sentences: all of it at once, each with its key, none with a secret."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from syncd.config.keys import dotted
from syncd.config.load import load, validation_messages
from syncd.config.model import Settings
from syncd.config.render import tables
from syncd.config.sources import Values
from syncd.errors import ConfigError
from tests.unit.config.conftest import Configuration


class TestUnknownKeys:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("[stat]\nx = 1", "stat: unknown key; did you mean state?"),
            ("[web]\nlissen = 1", "web.lissen: unknown key; did you mean listen?"),
            ("[links.shop.gards]\nx = 1", "links.shop.gards: unknown key; did you mean guards?"),
            ("[state]\nowner_types = 1", "state.owner_types: unknown key; it belongs in [links.NAME]"),
            ("[web]\ncolour = 1", "web.colour: unknown key"),
        ],
    )
    def test_an_unknown_key_is_an_error_with_a_guess(
        self, configuration: Configuration, text: str, problem: str
    ) -> None:
        assert configuration.more(text).problems() == [problem]

    def test_a_key_in_the_wrong_table_of_a_link_is_sent_to_the_right_one(self, configuration: Configuration) -> None:
        assert configuration.link("max_removes = 5").problems() == [
            "links.shop.max_removes: unknown key; it belongs in [links.shop.guards]"
        ]

    def test_a_key_several_tables_know_is_sent_to_the_links_own_first(self, configuration: Configuration) -> None:
        assert configuration.link('webhook_file = "x"').problems() == [
            "links.shop.webhook_file: unknown key; it belongs in [links.shop.portal] or [notify]"
        ]


class TestLinks:
    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ('direction = "twoway"', "direction: must be two-way, crm-to-table or table-to-crm; did you mean two-way?"),
            ('on_conflict = "x"', "on_conflict: must be hold, crm or table"),
            ("on_conflict = 1", "on_conflict: must be hold, crm or table"),
            ('first_sync = "yes"', "first_sync: must be ask or auto"),
            ("schedule = 300", 'schedule: needs a unit: write "30s", "5m", "1h30m" or "1d", in quotes'),
            ("schedule = []", "schedule: must be a string, such as '5m'"),
            (
                'schedule = "99 * * * *"',
                "schedule: the minute field must be * or numbers from 0 to 59, written like 5, 1-5, 1,3 or */2",
            ),
            ("owner_types = []", "owner_types: must have at least 1 item"),
            ("owner_types = [0]", "owner_types.0: must be at least 1"),
            ("owner_types = [true]", "owner_types.0: must be a number, not true or false"),
            ("owner_types = 2", "owner_types: must be a list"),
            ("owner_types = [2.5]", "owner_types.0: must be a whole number"),
            ("orders = [5, 1]", "orders: must begin with the smaller id"),
            ("slices = 0", "slices: must be at least 1"),
            ('schedule = "5m"\nrecent = { every = "4s" }', "recent.every: must be at least 5s"),
            ("recent = { orders = 100 }", "recent: needs a schedule, which covers all other orders"),
            ("orders = [0, 1]", "orders.0: must be at least 1"),
            ("orders = [1]", "orders.1: is required"),
            ("orders = [1, 2, 3]", "orders: must have at most 2 items"),
            ("verify_owners = 'perhaps'", "verify_owners: must be true or false"),
            ("plan_ttl = '5'", "plan_ttl: must be a duration with units, such as 30s, 5m, 1h30m or 1d"),
            ("guards = 5", "guards: must be a table"),
        ],
    )
    def test_a_value_that_does_not_fit_is_an_error(self, configuration: Configuration, line: str, problem: str) -> None:
        assert configuration.link(line).problems() == [f"links.shop.{problem}"]

    def test_the_ends_are_required(self, configuration: Configuration) -> None:
        configuration.text = "[links.shop]\n"
        assert configuration.problems() == ["links.shop.portal: is required", "links.shop.table: is required"]

    def test_a_name_of_other_letters_is_refused(self, configuration: Configuration) -> None:
        assert configuration.replace("links.shop", 'links."my shop"').problems() == [
            "links.my shop: a link's name is made of letters, digits, _ and -"
        ]

    def test_the_constant_type_must_be_in_scope(self, configuration: Configuration) -> None:
        assert configuration.link("owner_types = [31]").problems() == [
            "links.shop.table: columns.owner_type_id is 2, which is not among the link's owner_types"
        ]

    def test_two_links_of_the_same_portal_and_table_are_refused_however_they_log_in(
        self, configuration: Configuration
    ) -> None:
        other = configuration.text.replace("links.shop", "links.other").replace("filecode", "othercode")
        configuration.more(other.replace("syncd:filepassword@db.example.com", "u@DB.example.com:5432"))
        assert configuration.problems() == [
            "links: shop and other connect the same portal and the same table; a table has one link"
        ]

    def test_two_links_of_one_portal_with_tables_of_their_own_are_fine(self, configuration: Configuration) -> None:
        other = configuration.text.replace("links.shop", "links.other").replace("order_bindings", "invoice_bindings")
        assert len(configuration.more(other).load().settings.links) == 2


class TestPortal:
    WEBHOOK = 'webhook = "https://example.bitrix24.com/rest/1/filecode/"'
    OAUTH = '\n[links.shop.portal.oauth]\nportal = "example.bitrix24.com"\nclient_id = "x"\n'

    def test_some_way_in_is_required(self, configuration: Configuration) -> None:
        assert configuration.without(self.WEBHOOK).problems() == [
            "links.shop.portal: needs a webhook (or webhook_file), or the table oauth"
        ]

    def test_two_ways_in_are_refused(self, configuration: Configuration) -> None:
        configuration.more(self.OAUTH + 'client_secret = "hush"')
        assert configuration.problems() == [
            "links.shop.portal.oauth: is given together with a webhook; keep one of them"
        ]

    def test_an_application_needs_its_secret(self, configuration: Configuration) -> None:
        configuration.without(self.WEBHOOK).more(self.OAUTH)
        assert configuration.problems() == ["links.shop.portal.oauth: needs client_secret or client_secret_file"]

    def test_its_secret_and_a_file_for_it_are_refused(self, configuration: Configuration) -> None:
        configuration.without(self.WEBHOOK).more(self.OAUTH + 'client_secret = "hush"\nclient_secret_file = "x"')
        assert configuration.problems() == [
            "links.shop.portal.oauth.client_secret_file: is given together with client_secret; keep one of them"
        ]

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ("rate_share = 0", "rate_share: must be greater than 0"),
            ("rate_share = 1.5", "rate_share: must be at most 1"),
            ("writers = 0", "writers: must be at least 1"),
            ("writers = 11", "writers: must be at most 10"),
            ("max_request_seconds = 0", "max_request_seconds: must be greater than 0"),
            ("max_request_seconds = nan", "max_request_seconds: must be at most 3600"),
            ('plan = "pro"', "plan: must be standard, enterprise or box"),
        ],
    )
    def test_a_value_that_does_not_fit_is_an_error(self, configuration: Configuration, line: str, problem: str) -> None:
        assert configuration.portal(line).problems() == [f"links.shop.portal.{problem}"]


class TestTable:
    COLUMNS = 'columns = { order_id = "order_id", owner_type_id = 2, owner_id = "deal_id" }'

    @pytest.mark.parametrize(
        ("columns", "problem"),
        [
            ('{ order_id = "a", owner_id = "b" }', "owner_type_id is missing"),
            (
                '{ order_id = "a", owner_type_id = 2, owner = "b" }',
                "owner_id is missing; owner is not a column syncd knows",
            ),
            (
                '{ order_id = 1, owner_type_id = 2, owner_id = "" }',
                "order_id must be the name of a column; owner_id must be",
            ),
            (
                '{ order_id = "a", owner_type_id = 0, owner_id = "b" }',
                "owner_type_id must be the name of a column or a positive whole number",
            ),
            (
                '{ order_id = "a", owner_type_id = true, owner_id = "b" }',
                "owner_type_id must be the name of a column or",
            ),
            ('{ order_id = "a", owner_type_id = "b", owner_id = "b" }', "names the same column twice"),
            ('["a"]', "must name three columns: order_id, owner_type_id, owner_id"),
            (
                '{ owner_type_id = 2, owner_id = "b" }',
                "order_id is missing (or one of order_number, order_xml_id, order_1c_id)",
            ),
            (
                '{ order_id = "a", order_number = "n", owner_type_id = 2, owner_id = "b" }',
                "names order_id and order_number; a row has one key, so name one of them",
            ),
            (
                '{ order_xml_id = { column = "x", width = 9 }, owner_type_id = 2, owner_id = "b" }',
                "order_xml_id must be the name of a column; { column, width } is for order_id only",
            ),
            ('{ order_number = "b", owner_type_id = 2, owner_id = "b" }', "names the same column twice"),
        ],
    )
    def test_exactly_the_three_columns_are_named(
        self, configuration: Configuration, columns: str, problem: str
    ) -> None:
        (found,) = configuration.replace(self.COLUMNS, f"columns = {columns}").problems()
        assert found.startswith(f"links.shop.table.columns: {problem}")

    @pytest.mark.parametrize(
        ("lines", "problem"),
        [
            ('deleted = "deal_id"', "deleted: names the same column as columns.owner_id"),
            ('deleted = "d"\ntouched = "d"', "touched: names the same column as deleted"),
            ('touched = "t"\nextra = { t = 1 }', "extra: names the same column as touched"),
            ('watch = ""', "watch: must not be empty"),
            ('extra = { "" = 1 }', "extra: has a key that is not a name"),
            ("extra = { a = [1] }", "extra.a: must be a single value, not a list or a table"),
            ('where = "  "', "where: must not be empty"),
        ],
    )
    def test_the_other_columns_are_others(self, configuration: Configuration, lines: str, problem: str) -> None:
        assert configuration.table(lines).problems() == [f"links.shop.table.{problem}"]

    def test_a_table_of_the_shops_own_keys_is_not_watched(self, configuration: Configuration) -> None:
        keyed = 'columns = { order_number = "a", owner_type_id = 2, owner_id = "b" }'
        (found,) = configuration.table('watch = "w"').replace(self.COLUMNS, keyed).problems()
        assert found.startswith("links.shop.table.watch: works with order ids only, and the table holds order_number")

    @pytest.mark.parametrize("name", ["", "a.b.c", "a.", " a"])
    def test_a_table_has_a_name_and_at_most_a_schema(self, configuration: Configuration, name: str) -> None:
        configuration.replace('"crm.order_bindings"', f'"{name}"')
        assert configuration.problems() == ["links.shop.table.name: must be the name of a table, or schema.table"]

    def test_the_database_is_required(self, configuration: Configuration) -> None:
        configuration.without('url = "postgresql://syncd:filepassword@db.example.com/shop"')
        assert configuration.problems() == [
            "links.shop.table: needs url or url_file, or the database in parts: host, database"
        ]


class TestTheProcess:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ('[state]\nurl = "oracle://h/d"', "state.url: must be a database of SQLite, PostgreSQL, MySQL or MariaDB"),
            ('[state]\nurl = "sqlite://"', "state.url: must outlive the process"),
            ('[state]\nurl = ""', "state.url: is not a SQLAlchemy URL"),
            ('[state]\nlease_ttl = "0s"', "state.lease_ttl: must be longer than 0 seconds"),
            ("[daemon]\nshutdown_timeout = 45", "daemon.shutdown_timeout: needs a unit"),
            ('[daemon]\ntimezone = "Mars/Olympus"', "daemon.timezone: must be the IANA name of a time zone"),
            ('[daemon]\ntimezone = "../etc/passwd"', "daemon.timezone: must be the IANA name of a time zone"),
            ('[daemon]\njitter = "x"', "daemon.jitter: must be a duration with units"),
            ('[web]\nlisten = "9464"', "web.listen: must be host:port"),
            ("[web]\nlisten = 9464", "web.listen: must be a string"),
            ('[log]\nlevel = "loud"', "log.level: must be debug, info, warning or error"),
            ('[log]\nformat = "xml"', "log.format: must be auto, console or json"),
            ('[notify]\nwebhook = "slack"', "notify.webhook: must be a web address"),
            ('[notify]\ncommand = "mail me"', "notify.command: must be a list"),
            ("[notify]\ncommand = []", "notify.command: must have at least 1 item"),
            ('[notify]\nholds_after = "soon"', "notify.holds_after: must be a duration with units"),
            ('state = "sqlite:///x"', "state: must be a table"),
        ],
    )
    def test_a_value_that_does_not_fit_is_an_error(self, configuration: Configuration, text: str, problem: str) -> None:
        configuration.text = text + "\n" + configuration.text
        (found,) = configuration.problems()
        assert found.startswith(problem)

    @pytest.mark.parametrize("name", ["max_removes", "max_removes_percent", "max_adds_percent", "max_removes_per_day"])
    def test_a_guard_is_never_below_nothing(self, configuration: Configuration, name: str) -> None:
        configuration.more(f"[links.shop.guards]\n{name} = -1")
        assert configuration.problems() == [f"links.shop.guards.{name}: must be at least 0"]

    def test_no_number_turns_a_guard_off(self, configuration: Configuration) -> None:
        configuration.more("[links.shop.guards]\nmax_adds_percent = inf")
        assert configuration.problems() == ["links.shop.guards.max_adds_percent: must be a finite number"]

    def test_a_percentage_of_what_exists_is_at_most_all(self, configuration: Configuration) -> None:
        configuration.more("[links.shop.guards]\nmax_moves_percent = 101")
        assert configuration.problems() == ["links.shop.guards.max_moves_percent: must be at most 100"]


class TestAllAtOnce:
    def test_problems_of_every_source_are_reported_together(self, configuration: Configuration) -> None:
        configuration.link('schedul = "5m"\ndirection = "x"').table('where = ""')
        configuration.variable("SYNCD_STAT__URL", "x").credential("log__level", "loud")
        found = configuration.problems()
        assert [problem.partition(":")[0] for problem in found] == [
            "stat",
            "log.level",
            "links.shop.direction",
            "links.shop.table.where",
            "links.shop.schedul",
        ]

    def test_the_message_counts_them_and_the_hint_says_where_the_keys_are_explained(
        self, configuration: Configuration
    ) -> None:
        configuration.link('direction = "x"\nfirst_sync = "x"').file.write_text(configuration.text)
        with pytest.raises(ConfigError, match=r"syncd\.toml has 2 problems\.") as raised:
            load(configuration.file, {})
        assert "syncd config example" in raised.value.hint


SECRET = "s3kr3tC0de"
TEXTUAL = [f"{table.heading}.{key.name}" for table in tables() for key in table.keys]


class TestSecrecy:
    """Whatever an operator pastes wherever: it does not come back in a message, a cause or a traceback."""

    @staticmethod
    def raised(configuration: Configuration) -> ConfigError:
        configuration.file.write_text(configuration.text)
        with pytest.raises(ConfigError) as raised:
            load(configuration.file, configuration.environ)
        return raised.value

    @staticmethod
    def everything_said(error: ConfigError) -> str:
        chain = [error, error.__cause__, error.__context__]
        said = "".join("".join(traceback.format_exception(one)) + repr(vars(one)) for one in chain if one)
        return said + "".join(error.problems) + error.hint

    @pytest.mark.parametrize("key", TEXTUAL)
    def test_a_secret_pasted_into_any_key_does_not_come_back(self, configuration: Configuration, key: Any) -> None:
        name = "SYNCD_" + key.replace(".", "__").upper()
        configuration.variable(name, f"https://{SECRET}@{SECRET}/ {SECRET}").variable("SYNCD_LOG__LEVEL", "loud")
        assert SECRET not in self.everything_said(self.raised(configuration))

    @pytest.mark.parametrize(
        "text",
        [
            f"url = '{SECRET}\n",
            f"url = {SECRET}\n",
            f'webhook = "https://x/rest/1/{SECRET}/" "\n',
            f'a = "\\{SECRET}"\n',
            f'[state]\nurl = "{SECRET}"\nurl = "{SECRET}"\n',
        ],
    )
    def test_broken_toml_does_not_come_back(self, configuration: Configuration, text: str) -> None:
        configuration.text = text
        assert SECRET not in self.everything_said(self.raised(configuration))

    def test_a_secret_in_a_file_that_is_no_text_does_not_come_back(self, configuration: Configuration) -> None:
        configuration.text = ""
        configuration.file.write_bytes(f'a = "{SECRET}\xff"'.encode("latin-1"))
        with pytest.raises(ConfigError) as raised:
            load(configuration.file, {})
        assert SECRET not in self.everything_said(raised.value)

    def test_settings_do_not_show_their_secrets(self, configuration: Configuration) -> None:
        configuration.replace("filecode", SECRET).replace("filepassword", SECRET)
        settings = configuration.load().settings
        assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()

    def test_even_pydantics_own_message_does_not(self) -> None:
        with pytest.raises(ValidationError) as raised:
            Settings.model_validate({"state": {"url": SECRET}, "web": {"listen": SECRET}})
        assert SECRET not in str(raised.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(path=st.sampled_from([tuple(key.split(".")) for key in TEXTUAL] + [("links",), ("links", "shop")]), value=JSON)
def test_any_value_anywhere_is_accepted_or_refused_with_its_key(path: Any, value: Any) -> None:
    tree: dict[str, Any] = {}
    table = tree
    for part in path[:-1]:
        table = table.setdefault(part, {})
    table[path[-1]] = value
    try:
        Settings.model_validate(tree)
    except ValidationError as error:
        found = validation_messages(error, Values())
        assert found
        assert all(problem.startswith(dotted(path[:1])) and ": " in problem for problem in found)
