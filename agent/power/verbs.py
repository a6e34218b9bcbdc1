"""What may be asked of root: the whole list, each with its fields. Everything else is refused by name.

A request is one JSON object, ``{"verb": "set_gpu_max_hz", "device": "17000000.gpu", "hz": 510000000}``; the
answer is one too: ``{"ok": true, ...}`` with what was read back, or ``{"ok": false}`` with code and reason.
"""

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

from agent.power.clocks import Clocks
from agent.power.refusal import Refusal
from agent.power.tools import NvidiaSmi, Nvpmodel
from agent.power.units import JobUnits

MOST_REQUEST_BYTES = 4096
_MOST_NUMBER = 10**12
_NULL = type(None)

Answer = dict[str, object]

_FIELDS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "status": {},
    "clocks": {},
    "set_gpu_max_hz": {"device": (str,), "hz": (int, _NULL)},
    "set_cpu_max_hz": {"device": (str,), "hz": (int, _NULL)},
    "set_gpu_power_w": {"gpu": (int,), "watts": (int, _NULL)},
    "set_nvpmodel": {"mode": (int,), "reboot": (bool,)},
    "freeze": {"unit": (str,)},
    "thaw": {"unit": (str,)},
    "restore": {"full": (bool,)},
}
_OPTIONAL = {"reboot": False, "full": False}
CHANGES = frozenset(_FIELDS) - {"status", "clocks"}
"""Verbs that change something."""


class Request(NamedTuple):
    """One request whose fields are all there and of the right type."""

    verb: str
    values: Mapping[str, object]

    def text(self, field: str) -> str:
        """Return a text field."""
        value = self.values[field]
        assert isinstance(value, str)
        return value

    def number(self, field: str) -> int:
        """Return a number."""
        value = self.values[field]
        assert isinstance(value, int)
        return value

    def limit(self, field: str) -> int | None:
        """Return a number, or None for: as it was."""
        return None if self.values[field] is None else self.number(field)

    def flag(self, field: str) -> bool:
        """Return a yes or no."""
        return self.values[field] is True


def parse(line: bytes) -> Request:
    """Read a request.

    Raises
    ------
    Refusal
        ``malformed``, ``unknown_verb``, ``unknown_field``, ``missing_field``, ``bad_field``.
    """
    try:
        document = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refusal("malformed", "the request is not a line of JSON") from error
    if not isinstance(document, dict):
        raise Refusal("malformed", "the request is not a JSON object")
    verb = document.pop("verb", None)
    fields = _FIELDS.get(verb) if isinstance(verb, str) else None
    if fields is None:
        raise Refusal("unknown_verb", f"verb: expected one of {', '.join(_FIELDS)}")
    if document.keys() - fields.keys():
        raise Refusal("unknown_field", f"{verb}: takes {', '.join(fields) or 'no fields'} and nothing else")
    values = {name: _OPTIONAL[name] for name in fields if name in _OPTIONAL} | document
    for name, types in fields.items():
        if name not in values:
            raise Refusal("missing_field", f"{verb}: {name}: missing")
        value = values[name]
        # Exact types: True is an int to Python.
        if type(value) not in types or (isinstance(value, int) and not 0 <= value <= _MOST_NUMBER):
            raise Refusal("bad_field", f"{verb}: {name}: expected {_wanted(types)}")
    return Request(verb=str(verb), values=values)


class Verbs:
    """Carries requests out.

    Parameters
    ----------
    clocks, units, nvpmodel, nvidia
        What there is to act on.
    """

    def __init__(self, *, clocks: Clocks, units: JobUnits, nvpmodel: Nvpmodel, nvidia: NvidiaSmi) -> None:
        self._clocks = clocks
        self._units = units
        self._nvpmodel = nvpmodel
        self._nvidia = nvidia
        self._does: Mapping[str, Callable[[Request], Answer]] = {
            "status": self._status,
            "clocks": self._clock_status,
            "set_gpu_max_hz": lambda asked: self._set_clock("gpu", asked),
            "set_cpu_max_hz": lambda asked: self._set_clock("cpu", asked),
            "set_gpu_power_w": self._set_power,
            "set_nvpmodel": self._set_nvpmodel,
            "freeze": lambda asked: self._freeze(asked, frozen=True),
            "thaw": lambda asked: self._freeze(asked, frozen=False),
            "restore": self._restore,
        }

    def carry_out(self, request: Request) -> Answer:
        """Do what is asked and say what is in force now.

        Raises
        ------
        Refusal
            It is not done, and why.
        """
        return self._does[request.verb](request)

    def _clock_status(self, _asked: Request) -> Answer:
        return {
            f"{kind}s": [self._clocks.status(kind, name) for name in self._clocks.devices(kind)]
            for kind in ("gpu", "cpu")
        }

    def _status(self, asked: Request) -> Answer:
        """Read everything back that a verb can change."""
        mode = self._nvpmodel.mode() if self._nvpmodel.present else None
        return {
            **self._clock_status(asked),
            "nvidia": self._nvidia.status() if self._nvidia.present else [],
            "nvpmodel": None if mode is None else {"mode": mode.number, "name": mode.name},
            "nvpmodel_allowed": self._nvpmodel.modes,
            "frozen": self._units.frozen(),
        }

    def _set_clock(self, kind: str, asked: Request) -> Answer:
        device = asked.text("device")
        return {"device": device, "max_hz": self._clocks.set_max_hz(kind, device, asked.limit("hz"))}

    def _set_power(self, asked: Request) -> Answer:
        gpu = asked.number("gpu")
        return {"gpu": gpu, "limit_w": self._nvidia.set_limit_w(gpu, asked.limit("watts"))}

    def _set_nvpmodel(self, asked: Request) -> Answer:
        """Switch the mode. A mode writes every clock anew, so the caps in force are set again below it."""
        caps = self._clocks.caps_hz()
        mode = self._nvpmodel.set_mode(asked.number("mode"), reboot=asked.flag("reboot"))
        self._clocks.adopt()
        for kind, device, cap_hz in caps:
            self._clocks.set_max_hz(kind, device, cap_hz)
        return {"mode": mode.number, "name": mode.name}

    def _freeze(self, asked: Request, *, frozen: bool) -> Answer:
        unit = asked.text("unit")
        return {"unit": unit, "frozen": self._units.set_frozen(unit, frozen)}

    def _restore(self, asked: Request) -> Answer:
        """Undo every cap, the last one too when one before it fails; job units stay as they are."""
        full, faults = asked.flag("full"), []
        for kind in ("gpu", "cpu"):
            for device in self._clocks.devices(kind):
                try:
                    self._clocks.restore(kind, device, full=full)
                except Refusal as refusal:
                    faults.append(refusal.reason)
        for gpu in self._nvidia.held() if self._nvidia.present else ():
            try:
                self._nvidia.set_limit_w(gpu, None)
            except Refusal as refusal:
                faults.append(refusal.reason)
        return {**self._status(asked), "faults": faults}


def _wanted(types: tuple[type, ...]) -> str:
    words = {
        str: "text",
        int: f"a whole number from 0 to {_MOST_NUMBER}",
        bool: "true or false",
        _NULL: "null",
    }
    return " or ".join(words[kind] for kind in types)
