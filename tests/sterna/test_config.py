import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterna.config import load, parse, read_secret
from sterna.errors import ConfigError

Positive = Annotated[float, msgspec.Meta(gt=0)]


class Role(Enum):
    GRID = "grid"
    LOAD = "load"


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class SunSpec(Strict, frozen=True, tag_field="kind", tag="sunspec"):
    host: str
    role: Role = Role.GRID
    poll_interval_s: Positive = 1.0
    stale_after_s: Positive = 5.0

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.stale_after_s < self.poll_interval_s:
            yield "stale_after_s", "must not be below poll_interval_s"


class Fake(Strict, frozen=True, tag_field="kind", tag="fake"):
    power_w: float = 0.0


class Broker(Strict, frozen=True):
    host: str
    password_file: Path | None = None


class Config(Strict, frozen=True):
    site: str
    meters: tuple[SunSpec | Fake, ...] = ()
    broker: Broker | None = None
    policy: Literal["a", "b"] = "a"
    links: dict[str, Positive] = {}
    names: Annotated[list[str], msgspec.Meta(max_length=2)] = []
    pair: tuple[int, int] = (0, 0)
    nested: dict[str, Broker] = {}

    def faults(self) -> Iterator[tuple[str, str]]:
        if len(self.meters) > 1 and self.site == "one":
            yield "meters", "the site has one meter"
        if self.site == "nowhere":
            yield "", "a fault of the whole file"


METER = {"kind": "sunspec", "host": "h"}


@pytest.mark.parametrize(
    ("document", "lines"),
    [
        ({"site": 1}, ["site: expected str, got int"]),
        ({}, ["site: missing"]),
        ({"sit": "x"}, ["sit: unknown key; did you mean site?", "site: missing"]),
        ({"site": "x", "qqq": 1}, ["qqq: unknown key"]),
        (
            {"site": "x", "meters": [METER, METER | {"poll_interval_s": "1"}]},
            ["meters[1].poll_interval_s: expected float, got str"],
        ),
        (
            {"site": "x", "meters": [METER | {"pol_interval_s": 1.0}]},
            ["meters[0].pol_interval_s: unknown key; did you mean poll_interval_s?"],
        ),
        (
            {"site": "x", "meters": [METER | {"poll_interval_s": 0}]},
            ["meters[0].poll_interval_s: expected float > 0.0"],
        ),
        (
            {"site": "x", "meters": [{"kind": "fake", "power_w": float("nan")}]},
            ["meters[0].power_w: must be a finite number"],
        ),
        (
            {"site": "x", "meters": [{"kind": "fak"}]},
            ["meters[0].kind: unknown 'fak'; one of 'sunspec', 'fake'"],
        ),
        (
            {"site": "x", "meters": [{"kind": ["fake"]}]},
            ["meters[0].kind: unknown ['fake']; one of 'sunspec', 'fake'"],
        ),
        ({"site": "x", "meters": [{}]}, ["meters[0].kind: missing; one of 'sunspec', 'fake'"]),
        ({"site": "x", "meters": [7]}, ["meters[0]: expected table, got int"]),
        ({"site": "x", "meters": {"a": 1}}, ["meters: expected array, got table"]),
        (
            {"site": "x", "meters": [METER | {"role": "gird"}]},
            ["meters[0].role: invalid enum value 'gird'; one of 'grid', 'load'"],
        ),
        ({"site": "x", "policy": "c"}, ["policy: invalid enum value 'c'; one of 'a', 'b'"]),
        (
            {"site": "x", "broker": {"host": "h", "password_file": 3}},
            ["broker.password_file: expected Path, got int"],
        ),
        (
            {"site": "x", "links": {"a": -1, "b": "c"}},
            ["links.a: expected float > 0.0", "links.b: expected float, got str"],
        ),
        ({"site": "x", "names": ["a", "b", "c"]}, ["names: expected array of length <= 2"]),
        ({"site": "x", "names": ["a", 2]}, ["names[1]: expected str, got int"]),
        ({"site": "x", "pair": [1, 2, 3]}, ["pair: expected array of length 2, got 3"]),
        (
            {"site": "x", "nested": {"k": {"hots": "h"}}},
            ["nested.k.hots: unknown key; did you mean host?", "nested.k.host: missing"],
        ),
        (
            {"site": "one", "meters": [METER, METER | {"stale_after_s": 0.5}]},
            ["meters: the site has one meter", "meters[1].stale_after_s: must not be below poll_interval_s"],
        ),
        ({"site": "nowhere"}, ["a fault of the whole file"]),
    ],
)
def test_every_fault_is_named_on_a_line_of_its_own(document: dict[str, object], lines: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(document, Config, name="agent.toml")
    assert str(caught.value).splitlines() == [f"agent.toml: {line}" for line in lines]


def test_faults_of_many_tables_come_together() -> None:
    document = {
        "meters": [METER | {"host": 1}, {"kind": "fake", "watts": 1}],
        "broker": {},
        "links": {"a": "b"},
    }
    with pytest.raises(ConfigError) as caught:
        parse(document, Config, name="agent.toml")
    assert str(caught.value).splitlines() == [
        "agent.toml: site: missing",
        "agent.toml: meters[0].host: expected str, got int",
        "agent.toml: meters[1].watts: unknown key",
        "agent.toml: broker.host: missing",
        "agent.toml: links.a: expected float, got str",
    ]


def test_a_file_becomes_a_struct(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(
        'site = "miami"\nlinks.a = 5\npair = [1, 2]\n[broker]\nhost = "h"\npassword_file = "pw"\n'
        '[[meters]]\nkind = "sunspec"\nhost = "m"\npoll_interval_s = 2\n[[meters]]\nkind = "fake"\n'
    )
    assert load(path, Config) == Config(
        site="miami",
        links={"a": 5.0},
        pair=(1, 2),
        broker=Broker(host="h", password_file=Path("pw")),
        meters=(SunSpec(host="m", poll_interval_s=2.0), Fake()),
    )


def test_a_syntax_error_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('site = "miami"\nmeters = [\n')
    with pytest.raises(ConfigError, match=r"^agent\.toml: (line 3|end of document)"):
        load(path, Config)
    path.write_text('site = "miami"\nsite = "x"\n')
    with pytest.raises(ConfigError, match=r"^agent\.toml: line 2, column \d+: cannot overwrite a value"):
        load(path, Config)


@pytest.mark.parametrize(
    ("text", "table"), [("[a]\n[a]\n", "[a]"), ("[grid]\n[grid.mqtt]\n[grid.mqtt]\n", "[grid.mqtt]")]
)
def test_a_table_that_is_there_twice_is_named_as_in_the_file(tmp_path: Path, text: str, table: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f": cannot declare {table} twice")):
        load(path, Config)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot read: No such file"):
        load(tmp_path / "nowhere.toml", Config)
    path = tmp_path / "latin.toml"
    path.write_bytes(b'site = "\xe9"')
    with pytest.raises(ConfigError, match="not UTF-8 at byte 8"):
        load(path, Config)


def test_systemds_credentials_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    document = {"site": "x", "broker": {"host": "h", "password_file": "$CREDENTIALS_DIRECTORY/mqtt"}}
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match=r"broker\.password_file: \$CREDENTIALS_DIRECTORY is not set"):
        parse(document, Config, name="agent.toml")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x")
    broker = parse(document, Config, name="agent.toml").broker
    assert broker == Broker(host="h", password_file=Path("/run/credentials/x/mqtt"))


def test_a_structs_own_refusal_is_a_fault_like_any_other() -> None:
    class Picky(Strict, frozen=True):
        value: int

        def __post_init__(self) -> None:
            raise ValueError("Not this value")

    class Outer(Strict, frozen=True):
        inner: Picky

    with pytest.raises(ConfigError, match=r"^a\.toml: inner: not this value$"):
        parse({"inner": {"value": 1}}, Outer, name="a.toml")


TOML_VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["site", "meters", "broker", "links", "names", "pair", "nested", "kind", "host"])


@given(
    st.dictionaries(KEYS | st.text(max_size=5), TOML_VALUES | st.dictionaries(KEYS, TOML_VALUES), max_size=4)
)
def test_any_document_is_taken_or_refused_with_its_faults(document: dict[str, object]) -> None:
    try:
        loaded = parse(document, Config, name="agent.toml")
    except ConfigError as error:
        assert str(error).startswith("agent.toml: ")
        # What the walk found is what msgspec refuses too, except the finiteness and cross-field rules.
        if "finite" not in str(error) and "must not be below" not in str(error):
            with pytest.raises(msgspec.ValidationError):
                msgspec.convert(document, Config, dec_hook=lambda kind, value: kind(value))
    else:
        assert loaded.site == document["site"]


def test_a_secret_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    with pytest.raises(ConfigError, match="cannot read the secret: No such file"):
        read_secret(path)
    path.write_text(" s3cret \n")
    path.chmod(0o600)
    assert read_secret(path) == " s3cret "
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="may be read by everybody") as caught:
        read_secret(path)
    assert "s3cret" not in str(caught.value)
    path.write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        read_secret(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_secret(path)
