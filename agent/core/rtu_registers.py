"""The register map that a grid operator's RTU sees: the site as a SunSpec device, and what may be written.

The site is one device at its grid connection. SunSpec's DER models count injection as positive, so model 701
carries our grid import with its sign turned; LoadLimit carries it in the house's sign.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agent.core import exportlimit
from agent.core.loadlimit import COMMAND_POINTS, QUALITIES, SETTING_POINTS
from agent.core.stored import together
from agent.model.readings import MeterReading, MeterRole, SitePower, Storage, StorageStatus
from agent.model.sunspec.codec import HEADER, Value, encode
from agent.model.sunspec.common import COMMON
from agent.model.sunspec.der_ac import DER_AC
from agent.model.sunspec.der_authority import DER_AUTHORITY
from agent.model.sunspec.der_capacity import DER_CAPACITY
from agent.model.sunspec.der_controls import DER_CONTROLS
from agent.model.sunspec.der_storage import DER_STORAGE
from agent.model.sunspec.load_limit import LOAD_LIMIT
from agent.model.sunspec.points import Model

BASE = 40000
SUNS = (0x5375, 0x6E53)
END = (0xFFFF, 0)
MODELS = (COMMON, DER_AC, DER_CAPACITY, DER_STORAGE, DER_CONTROLS, DER_AUTHORITY, LOAD_LIMIT)
WRITABLE: Mapping[int, frozenset[str]] = {
    LOAD_LIMIT.ids[0]: frozenset({"CtlHb", "CmdSeq", *COMMAND_POINTS, *SETTING_POINTS}),
    DER_AUTHORITY.ids[0]: frozenset({"ControllerHb"}),
    DER_CONTROLS.ids[0]: exportlimit.POINTS,
}
COUNT = len(SUNS) + sum(model.length + HEADER for model in MODELS) + len(END)
INT16_MAX = 0x7FFF
HZ_SCALE = PCT_SCALE = -2
UINT16_MOST = 0xFFFE
LIMIT_AND_SET = 0b11
"""702's CtrlModes of a site whose export can be limited: MAX_W and FIXED_W."""
DEFAULT_W_SCALE = 1
"""Tens of watts: 327 kW either way, for sites that state no rating."""

Points = Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nameplate:
    """What the site is. Watts >= 0 at the grid connection; None: not stated. `phases` 1 or 3.

    `curtailable`: something at the site obeys an export limit.
    """

    name: str
    version: str
    import_w: float | None = None
    export_w: float | None = None
    phases: int | None = None
    curtailable: bool = False

    @property
    def limited_export_w(self) -> float | None:
        """WMax, > 0, of which export limits are a part; None: this site's export cannot be limited."""
        return self.export_w if self.curtailable else None

    @property
    def w_scale(self) -> int:
        """Return the scale factor of powers: constant, as clients read it once; fits twice the rating."""
        largest_w = max((w for w in (self.import_w, self.export_w) if w is not None), default=None)
        if largest_w is None:
            return DEFAULT_W_SCALE
        return next(scale for scale in range(11) if 2 * largest_w / 10**scale <= INT16_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteState:
    """What the site does now; None is unknown. `beat` counts seconds, `controller_beat` was written to us."""

    power: SitePower | None
    readings: Sequence[MeterReading] = ()
    achievable_min_w: float | None = None
    achievable_max_w: float | None = None
    beat: int = 0
    controller_beat: int = 0


@dataclass(frozen=True, slots=True)
class RegisterMap:
    """Builds the registers of one site."""

    nameplate: Nameplate
    _places: dict[int, tuple[Model, str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        places = {
            base + point.offset: (model, point.name)
            for base, model in _bases()
            for point in model.points
            if point.name in WRITABLE.get(model.ids[0], ())
            and (model is not DER_CONTROLS or self.nameplate.limited_export_w is not None)
        }
        object.__setattr__(self, "_places", places)

    def written(self, address: int, values: Sequence[int]) -> dict[str, int] | None:
        """Tell which points a write sets, raw, by name; None: it touches others, or half a value.

        Names are unique over all writable points.
        """
        told: dict[str, int] = {}
        place, end = address, address + len(values)
        while place < end:
            found = self._places.get(place)
            if found is None:
                return None
            point = found[0].point(found[1])
            if place + point.count > end:
                return None
            raw = 0
            for word in values[place - address : place - address + point.count]:
                raw = raw << 16 | word
            told[point.name] = raw
            place += point.count
        return told

    def image(
        self,
        state: SiteState,
        limit: Points,
        first: int = 0,
        count: int = COUNT,
        *,
        export: Points | None = None,
    ) -> list[int]:
        """Write `count` registers of the map, from `first` on, counted from `BASE`.

        Parameters
        ----------
        state : SiteState
            For the SunSpec models.
        limit : mapping
            LoadLimit's points that are not measurements.
        first, count : int
            Within the map; models that they do not touch cost nothing.
        export : mapping or None
            Points of model 704; None: the export cannot be limited.
        """
        told: dict[int, Callable[[], Points]] = {
            COMMON.ids[0]: self._common,
            DER_AC.ids[0]: lambda: self._measured(state),
            DER_CAPACITY.ids[0]: self._rated,
            DER_AUTHORITY.ids[0]: lambda: {
                "LocRemCtl": 0,
                "DERHb": state.beat,
                "ControllerHb": state.controller_beat,
            },
            DER_STORAGE.ids[0]: lambda: _stored(together(state.readings)),
            DER_CONTROLS.ids[0]: lambda: export or {},
            LOAD_LIMIT.ids[0]: lambda: {**limit, **_balance(state)},
        }
        registers = list(SUNS)
        for model in MODELS:
            size = model.length + HEADER
            registers += encode(model, told[model.ids[0]]()) if touches(model, first, count) else [0] * size
        return (registers + list(END))[first : first + count]

    def _common(self) -> Points:
        return {
            "Mn": "Sterna",
            "Md": "sterna-agent",
            "Vr": self.nameplate.version[:16],
            "SN": self.nameplate.name[:32],
        }

    def _rated(self) -> Points:
        plate = self.nameplate
        scale = max(0, plate.w_scale)
        return {
            "WMaxRtg": plate.export_w,
            "WMax": plate.export_w,
            "WChaRteMaxRtg": plate.import_w,
            "WChaRteMax": plate.import_w,
            "CtrlModes": None if plate.limited_export_w is None else LIMIT_AND_SET,
            "W_SF": scale,
        }

    def _measured(self, state: SiteState) -> Points:
        scale = self.nameplate.w_scale
        grid_w = None if state.power is None else state.power.grid_w
        meters = [reading for reading in state.readings if reading.role is MeterRole.GRID]
        frequency_hz = next((m.frequency_hz for m in meters if m.frequency_hz is not None), None)
        return {
            "ACType": {1: 0, 3: 2}.get(self.nameplate.phases or 0),
            "W": _fitting(None if grid_w is None else -grid_w, INT16_MAX * 10**scale),
            "W_SF": scale,
            "Hz": _fitting(frequency_hz, 1000.0),
            "Hz_SF": HZ_SCALE,
            "TotWhInj": _total([meter.energy_export_wh for meter in meters]),
            "TotWhAbs": _total([meter.energy_import_wh for meter in meters]),
            "TotWh_SF": 0,
        }


def _bases() -> Iterator[tuple[int, Model]]:
    place = BASE + len(SUNS)
    for model in MODELS:
        yield place, model
        place += model.length + HEADER


ADDRESSES: Mapping[int, int] = {model.ids[0]: place for place, model in _bases()}
"""Where each model begins."""


def touches(model: Model, first: int, count: int) -> bool:
    """Whether any of `count` registers from `first` on, counted from `BASE`, are the model's."""
    start = ADDRESSES[model.ids[0]] - BASE
    return start < first + count and first < start + model.length + HEADER


_STATUSES: Mapping[StorageStatus, int] = {
    StorageStatus.OK: 0,
    StorageStatus.WARNING: 1,
    StorageStatus.ERROR: 2,
}


def _stored(storage: Storage | None) -> Points:
    if storage is None:
        return {}
    capacity_wh = storage.capacity_wh
    # The rating alone sets the scale: a client reads it once.
    scale = (
        None
        if capacity_wh is None
        else next(scale for scale in range(11) if capacity_wh / 10**scale <= UINT16_MOST)
    )
    most_wh = 0 if scale is None else UINT16_MOST * 10**scale
    charge, health = (None if part is None else 100.0 * part for part in (storage.soc_frac, storage.soh_frac))
    return {
        "WHRtg": capacity_wh,
        "WHAvail": _fitting(storage.available_wh, most_wh),
        "WH_SF": scale,
        "SoC": charge,
        "SoH": health,
        "Pct_SF": PCT_SCALE if charge is not None or health is not None else None,
        "Sta": None if storage.status is None else _STATUSES[storage.status],
    }


def _balance(state: SiteState) -> Points:
    power = state.power
    return {
        "W": None if power is None else _fitting(power.grid_w, 2.0**31 - 1),
        "AchvMinW": _not_negative(state.achievable_min_w),
        "AchvMaxW": _not_negative(state.achievable_max_w),
        "Qual": 3 if power is None else QUALITIES[power.quality],
        "AgentHb": state.beat,
    }


def _fitting(value: float | None, most: float) -> float | None:
    """Make None of what does not fit its register; it is never clipped to something plausible."""
    return value if value is not None and abs(value) <= most else None


def _not_negative(value_w: float | None) -> float | None:
    """Tell an import; a site that would export takes 0 W."""
    return None if value_w is None else _fitting(max(0.0, value_w), 2.0**32 - 2)


def _total(energies_wh: Sequence[float | None]) -> float | None:
    known = [energy_wh for energy_wh in energies_wh if energy_wh is not None and energy_wh >= 0]
    return sum(known) if known and len(known) == len(energies_wh) else None
