"""SunSpec register tables with pure encode and decode."""

from collections.abc import Mapping

from agent.model.sunspec.codec import HEADER, Value, decode, encode
from agent.model.sunspec.common import COMMON
from agent.model.sunspec.inverter import INVERTER
from agent.model.sunspec.meter import METER
from agent.model.sunspec.meter_float import METER_FLOAT
from agent.model.sunspec.points import Model, Point, Type

SUNS = (0x5375, 0x6E53)
"""The two registers that say that a SunSpec map begins: ``SunS``."""

BASE_ADDRESSES = (40000, 0, 50000)
"""Where a map may begin, in the order to look."""

END_OF_MAP = 0xFFFF
"""Model ID after the last model."""

MODELS: Mapping[int, Model] = {
    model_id: model for model in (COMMON, INVERTER, METER, METER_FLOAT) for model_id in model.ids
}
"""Every model that we can read, by number."""

__all__ = [
    "BASE_ADDRESSES",
    "COMMON",
    "END_OF_MAP",
    "HEADER",
    "INVERTER",
    "METER",
    "METER_FLOAT",
    "MODELS",
    "SUNS",
    "Model",
    "Point",
    "Type",
    "Value",
    "decode",
    "encode",
]
