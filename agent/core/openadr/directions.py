"""Which signals speak of a site's import, and which of its export; the rules for both are the same."""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.model.limits import LimitKind
from agent.model.openadr import SignalKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """Which signals speak of the import, or of the export.

    `limit` is the one that stands before the subscription; `limits` has it and all others that set a limit,
    each with the reason that is told; `default` is the subscription's.
    """

    kind: LimitKind
    limit: SignalKind
    limits: Mapping[SignalKind, str]
    subscription: SignalKind
    reservation: SignalKind
    default: str

    @property
    def kinds(self) -> frozenset[SignalKind]:
        """Everything that such a plan is made of."""
        return frozenset({*self.limits, self.subscription, self.reservation})


IMPORTS = Direction(
    kind=LimitKind.IMPORT_CAPACITY_LIMIT,
    limit=SignalKind.IMPORT_LIMIT,
    limits={
        SignalKind.IMPORT_LIMIT: "IMPORT_CAPACITY_LIMIT",
        SignalKind.UNREADABLE_LIMIT: "IMPORT_CAPACITY_LIMIT",
        SignalKind.SETPOINT: "DISPATCH_SETPOINT",
        SignalKind.SETPOINT_RELATIVE: "DISPATCH_SETPOINT_RELATIVE",
        SignalKind.LEVEL: "SIMPLE",
    },
    subscription=SignalKind.IMPORT_SUBSCRIPTION,
    reservation=SignalKind.IMPORT_RESERVATION,
    default="IMPORT_CAPACITY_SUBSCRIPTION",
)
EXPORTS = Direction(
    kind=LimitKind.EXPORT_CAPACITY_LIMIT,
    limit=SignalKind.EXPORT_LIMIT,
    limits={
        SignalKind.EXPORT_LIMIT: "EXPORT_CAPACITY_LIMIT",
        SignalKind.UNREADABLE_EXPORT_LIMIT: "EXPORT_CAPACITY_LIMIT",
    },
    subscription=SignalKind.EXPORT_SUBSCRIPTION,
    reservation=SignalKind.EXPORT_RESERVATION,
    default="EXPORT_CAPACITY_SUBSCRIPTION",
)
