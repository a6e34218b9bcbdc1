"""The page as a parser of Prometheus' own library reads it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from agent.metrics import families as names
from agent.metrics.families import FAMILIES
from sterna.exposition.families import Family, Sample
from sterna.exposition.process import CPU
from sterna.exposition.text import render


def read(samples: list[Sample], *, openmetrics: bool) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return every figure by its name and its labels' values."""
    text = render(FAMILIES, samples, openmetrics=openmetrics).decode()
    found = (parse_openmetrics if openmetrics else parse_prometheus)(text)
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in found
        for sample in family.samples
    }


numbers = st.floats(allow_nan=False) | st.integers(-(2**60), 2**60).map(float)
words = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


@st.composite
def sample(draw: st.DrawFn) -> Sample:
    family = draw(st.sampled_from(FAMILIES))
    value = draw(numbers if family.kind == "gauge" else st.floats(0, 1e18))
    value = 1.0 if family.kind == "info" else value
    return Sample(family, tuple(draw(words) for _ in family.labels), value)


@pytest.mark.parametrize("openmetrics", [True, False])
@given(drawn=st.lists(sample(), max_size=30, unique_by=lambda one: (one.family.name, one.labels)))
def test_every_figure_comes_back(openmetrics: bool, drawn: list[Sample]) -> None:
    expected = {(one.family.sample_name, one.labels): one.value for one in drawn}
    assert read(drawn, openmetrics=openmetrics) == expected


def test_what_is_not_known_is_not_there() -> None:
    assert names.SITE_GRID.of(None) == ()
    assert render(FAMILIES, names.SITE_GRID.of(None), openmetrics=True) == b"# EOF\n"
    assert render(FAMILIES, (), openmetrics=False) == b""


def test_units_and_kinds_are_told() -> None:
    text = render(FAMILIES, [*CPU.of(1.5), *names.SITE_GRID.of(math.inf)], openmetrics=True).decode()
    families = {family.name: family for family in parse_openmetrics(text)}
    assert (families["process_cpu_seconds"].type, families["process_cpu_seconds"].unit) == (
        "counter",
        "seconds",
    )
    assert families["sterna_site_grid_watts"].unit == "watts"
    assert families["sterna_site_grid_watts"].samples[0].value == math.inf


def test_the_old_form_names_counters_by_their_samples() -> None:
    text = render(FAMILIES, names.METER_POLLS.of(7, "grid"), openmetrics=False).decode()
    assert "# TYPE sterna_meter_polls_total counter\n" in text
    assert text.endswith('sterna_meter_polls_total{meter="grid"} 7\n')


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_follow_the_conventions(family: Family) -> None:
    assert family.name.startswith(("sterna_", "process_"))
    assert not family.name.endswith(("_total", "_info", "_wh", "_kw", "_ms", "_percent"))
    assert family.about.endswith(".")
    assert "\n" not in family.about


def test_no_name_is_given_twice() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES) > 50
