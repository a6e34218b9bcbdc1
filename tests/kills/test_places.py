"""Every place that the tests of deaths name is one that the daemons come to."""

import importlib

import pytest

from tests.kills.boundaries import PLACES, SHIM_PLACES, Place
from tests.kills.published import PAGE


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_each_named_place_is_in_the_code(place: Place) -> None:
    found = importlib.import_module(place.module)
    for part in place.attribute.split("."):
        found = getattr(found, part)
    assert callable(found)


def test_each_has_a_name_of_its_own() -> None:
    assert len({place.name for place in PLACES}) == len(PLACES)


def test_the_page_says_how_many() -> None:
    assert f"{len(PLACES) + len(SHIM_PLACES)} in all" in PAGE.read_text()
