"""OpenADR 3.1 as values: programs, events, reports, VENs, resources, subscriptions, notifications.

Names and figures are those of the standard, kilowatts included; `agent.core.openadr.meaning` turns them into
watts. Optional fields that were absent are None or empty.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from agent.model.figures import Window

NOW = datetime.min.replace(tzinfo=UTC)
"""The start ``0001-01-01``, which stands for now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """An ISO 8601 duration: calendar months, and seconds."""

    months: int = 0
    seconds: float = 0.0

    @property
    def is_zero(self) -> bool:
        """Whether it has no extent."""
        return self.months == 0 and self.seconds == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A pair of figures, as in a curve."""

    x: float
    y: float


PayloadValue = float | str | bool | Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """Values of one type, e.g. ``PRICE``."""

    type: str
    values: tuple[PayloadValue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalPeriod:
    """When; `start` may be `NOW`, and None where an interval follows the one before it."""

    start: datetime | None = None
    duration: Duration | None = None
    randomize_start: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One slice of an event or a report."""

    id: int
    period: IntervalPeriod | None
    payloads: tuple[Payload, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadDescriptor:
    """What the values of a payload type are counted in."""

    payload_type: str
    units: str | None = None
    currency: str | None = None
    reading_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDescriptor:
    """What an event wants reported, and when. The defaults are the standard's."""

    payload_type: str
    reading_type: str | None = None
    units: str | None = None
    targets: tuple[str, ...] = ()
    aggregate: bool = False
    start_interval: int = -1
    num_intervals: int = -1
    historical: bool = True
    frequency: int = -1
    repeat: int = 1
    report_intervals: str = "INTERVALS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What events belong to; `id` None before the VTN has given one."""

    id: str | None
    name: str
    descriptors: tuple[PayloadDescriptor, ...] = ()
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that a program announces.

    `priority` None is the lowest there is, 0 the highest. `stated_at` is when the VTN says that it was last
    changed; None where it does not say.
    """

    id: str | None
    program_id: str
    name: str | None = None
    priority: int | None = None
    targets: tuple[str, ...] = ()
    period: IntervalPeriod | None = None
    duration: Duration | None = None
    intervals: tuple[Interval, ...] = ()
    descriptors: tuple[PayloadDescriptor, ...] = ()
    report_descriptors: tuple[ReportDescriptor, ...] = ()
    stated_at: datetime | None = None

    def descriptor(self, payload_type: str) -> PayloadDescriptor | None:
        """Return what the event says of a payload type."""
        return next((each for each in self.descriptors if each.payload_type == payload_type), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """An event that could not be read; whether it speaks of what may limit our import, or our export."""

    id: str | None
    fault: str
    may_limit: bool
    may_limit_export: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportResource:
    """What one resource reports."""

    name: str
    period: IntervalPeriod | None
    intervals: tuple[Interval, ...]
    descriptors: tuple[PayloadDescriptor, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a VEN has told about an event."""

    id: str | None
    event_id: str
    client_name: str
    name: str | None
    resources: tuple[ReportResource, ...]
    descriptors: tuple[PayloadDescriptor, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One attribute of a VEN or resource."""

    type: str
    values: tuple[PayloadValue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ven:
    """A client of the VTN, as it is registered there."""

    id: str | None
    name: str
    client_id: str | None = None
    targets: tuple[str, ...] = ()
    attributes: tuple[Attribute, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Something that a VEN controls; for us, the site."""

    id: str | None
    name: str
    ven_id: str
    client_id: str | None = None
    targets: tuple[str, ...] = ()
    attributes: tuple[Attribute, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A wish for notifications by webhook; we only read it, an agent behind NAT cannot be called."""

    id: str | None
    client_name: str
    program_id: str | None
    object_types: tuple[str, ...]


class Operation(Enum):
    """What happened to an object."""

    CREATE = "CREATE"
    READ = "READ"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """Word that something has changed. `operation` None: a bare object, or a word that we do not know.

    It carries no object: what a VTN says over REST holds, a notification only makes us ask.
    """

    id: str | None
    object_type: str | None
    operation: Operation | None
    object_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notifiers:
    """How a VTN notifies; `mqtt_uris` empty: not by MQTT. `username` may hold ``{clientID}``."""

    webhook: bool
    mqtt_uris: tuple[str, ...]
    method: str = "ANONYMOUS"
    username: str | None = None


class SignalKind(Enum):
    """What an event's payload means to a site."""

    IMPORT_LIMIT = "import limit"
    UNREADABLE_LIMIT = "unreadable event that may limit"
    EXPORT_LIMIT = "export limit"
    UNREADABLE_EXPORT_LIMIT = "unreadable event that may limit the export"
    IMPORT_SUBSCRIPTION = "import subscription"
    IMPORT_RESERVATION = "import reservation"
    EXPORT_SUBSCRIPTION = "export subscription"
    EXPORT_RESERVATION = "export reservation"
    SETPOINT = "set-point"
    SETPOINT_RELATIVE = "relative set-point"
    LEVEL = "level"
    PRICE = "price"
    EXPORT_PRICE = "export price"
    GHG = "greenhouse gas"
    ALERT = "alert"
    INSTRUCTION = "instruction"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One thing that an event says for one stretch of time.

    `value` is watts for limits, capacities and set-points, the level 0 to 3, currency per kilowatt-hour for
    prices, grams per kilowatt-hour for greenhouse gas; None: it has no figure, or none that can be read.
    `end_at` None: until the event changes. `unit` is what the event called it, `text` the words of an alert.
    """

    kind: SignalKind
    payload_type: str
    event_id: str
    priority: int | None
    start_at: datetime
    end_at: datetime | None
    value: float | None
    unit: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One report to make; `number` counts the reports of its event and `group` of descriptors."""

    event: Event
    group: int
    number: int
    due_at: datetime
    descriptors: tuple[ReportDescriptor, ...]
    windows: tuple[Window, ...]

    @property
    def key(self) -> tuple[str, int]:
        """What tells the series of reports apart that it belongs to."""
        return (self.event.id or "", self.group)
