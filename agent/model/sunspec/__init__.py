"""SunSpec register tables with pure encode and decode."""

from collections.abc import Mapping

from agent.model.sunspec.battery import BATTERY
from agent.model.sunspec.codec import HEADER, Value, decode, decode_groups, encode, raw_value
from agent.model.sunspec.common import COMMON
from agent.model.sunspec.controls import CONTROLS
from agent.model.sunspec.der_ac import DER_AC
from agent.model.sunspec.der_authority import DER_AUTHORITY
from agent.model.sunspec.der_capacity import DER_CAPACITY
from agent.model.sunspec.der_controls import DER_CONTROLS
from agent.model.sunspec.der_dc import DER_DC
from agent.model.sunspec.der_enter_service import DER_ENTER_SERVICE
from agent.model.sunspec.der_storage import DER_STORAGE
from agent.model.sunspec.inverter import INVERTER
from agent.model.sunspec.inverter_float import INVERTER_FLOAT
from agent.model.sunspec.meter import METER
from agent.model.sunspec.meter_float import METER_FLOAT
from agent.model.sunspec.nameplate import NAMEPLATE
from agent.model.sunspec.points import Group, Model, Point, Type
from agent.model.sunspec.settings import SETTINGS
from agent.model.sunspec.status import STATUS
from agent.model.sunspec.storage import STORAGE

SUNS = (0x5375, 0x6E53)
"""The two registers that say that a SunSpec map begins: ``SunS``."""

BASE_ADDRESSES = (40000, 0, 50000)
"""Where a map may begin, in the order to look."""

END_OF_MAP = 0xFFFF
"""Model ID after the last model."""

TABLES = (
    BATTERY,
    COMMON,
    CONTROLS,
    DER_AC,
    DER_AUTHORITY,
    DER_CAPACITY,
    DER_CONTROLS,
    DER_DC,
    DER_ENTER_SERVICE,
    DER_STORAGE,
    INVERTER,
    INVERTER_FLOAT,
    METER,
    METER_FLOAT,
    NAMEPLATE,
    SETTINGS,
    STATUS,
    STORAGE,
)
"""Every register table that we have."""

MODELS: Mapping[int, Model] = {model_id: model for model in TABLES for model_id in model.ids}
"""Every model that we can read, by number."""

__all__ = [
    "BASE_ADDRESSES",
    "BATTERY",
    "COMMON",
    "CONTROLS",
    "DER_AC",
    "DER_AUTHORITY",
    "DER_CAPACITY",
    "DER_CONTROLS",
    "DER_DC",
    "DER_ENTER_SERVICE",
    "DER_STORAGE",
    "END_OF_MAP",
    "HEADER",
    "INVERTER",
    "INVERTER_FLOAT",
    "METER",
    "METER_FLOAT",
    "MODELS",
    "NAMEPLATE",
    "SETTINGS",
    "STATUS",
    "STORAGE",
    "SUNS",
    "TABLES",
    "Group",
    "Model",
    "Point",
    "Type",
    "Value",
    "decode",
    "decode_groups",
    "encode",
    "raw_value",
]
