"""Where a Modbus device is, as a URL: ``tcp://192.0.2.10:502?unit=1``, ``rtu:///dev/ttyUSB0?baud=9600``."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, urlsplit

from agent.config.buses import DEFAULT_PORTS
from sterna.errors import ConfigError

KINDS = {"tcp": "tcp", "tls": "tls", "rtutcp": "rtu_over_tcp", "rtu": "serial"}
PARITIES = {"N": "none", "E": "even", "O": "odd", "none": "none", "even": "even", "odd": "odd"}
SERIAL_KEYS, NETWORK_KEYS = {"unit", "baud", "parity", "stopbits"}, {"unit"}
LONGEST_UNIT = 247


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A line, in the words of ``[[buses]]``, and the unit ids that were named (empty: none)."""

    kind: str
    host: str = ""
    port: int = 0
    device: str = ""
    baudrate: int = 9600
    parity: str = "none"
    stopbits: int = 1
    units: tuple[int, ...] = ()


def parse_address(url: str) -> Address:
    """Read a URL.

    Raises
    ------
    ConfigError
        Naming the part that is wrong.
    """
    parts = urlsplit(url)
    if parts.scheme not in KINDS:
        raise _fault(url, f"expected {', '.join(f'{scheme}://' for scheme in KINDS)}")
    kind = KINDS[parts.scheme]
    options = _options(url, parts, SERIAL_KEYS if kind == "serial" else NETWORK_KEYS)
    units = parse_units(options["unit"]) if "unit" in options else ()
    if kind == "serial":
        if parts.netloc or len(parts.path) < 2:
            raise _fault(url, "expected a device, as in rtu:///dev/ttyUSB0")
        parity = options.get("parity", "none")
        if parity not in PARITIES:
            raise _fault(url, f"parity: expected N, E or O, got {parity}")
        return Address(
            kind=kind,
            device=parts.path,
            baudrate=_whole(url, "baud", options.get("baud", "9600"), 50, 4_000_000),
            parity=PARITIES[parity],
            stopbits=_whole(url, "stopbits", options.get("stopbits", "1"), 1, 2),
            units=units,
        )
    if parts.path not in ("", "/") or parts.username is not None:
        raise _fault(url, "expected nothing but host, port and unit")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _fault(url, f"port: {error}") from error
    if not host:
        raise _fault(url, "no host")
    return Address(kind=kind, host=host, port=port or DEFAULT_PORTS[kind], units=units)


def parse_units(text: str) -> tuple[int, ...]:
    """Read unit ids, e.g. ``1``, ``1,3`` or ``1-247``."""
    units: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        low = _whole(text, "unit", first, 0, LONGEST_UNIT)
        units += range(low, _whole(text, "unit", last, low, LONGEST_UNIT) + 1) if dash else [low]
    return tuple(dict.fromkeys(units))


def _options(url: str, parts: SplitResult, known: set[str]) -> Mapping[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for key in options:
        if key not in known:
            raise _fault(url, f"unknown option {key}; one of {', '.join(sorted(known))}")
    return options


def _whole(url: str, key: str, text: str, low: int, high: int) -> int:
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise _fault(url, f"{key}: expected {low} to {high}, got {text or 'nothing'}")
    return int(text)


def _fault(url: str, what: str) -> ConfigError:
    return ConfigError(f"{url}: {what}")
