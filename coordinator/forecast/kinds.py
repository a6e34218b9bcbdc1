"""What a series measures. A module of its own, so that the command can name the kinds without numpy."""

from enum import Enum


class Kind(Enum):
    """What a series measures, as far as forecasting cares; `value` is its name in files."""

    SUN = "sun"
    """Solar generation: never negative, bounded by a clear sky."""
    WIND = "wind"
    """Wind generation: never negative, bounded by the plant."""
    OTHER = "other"
    """Anything else with a daily and weekly course: load, mixed generation, price, carbon intensity."""


PLANTS = {"sun": Kind.SUN, "wind": Kind.WIND, "mixed": Kind.OTHER}
"""By what configurations call a plant; what sun and wind leave together has the course of neither."""
