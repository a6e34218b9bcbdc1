"""The direct-dispatch profile over MQTT: topics and the JSON that we publish. Pure; no MQTT library here."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.core.offers import Prospectus, PublicOffer
from agent.model.grid import Ack
from agent.model.limits import Envelope, Limit
from agent.model.readings import SitePower

ROOT = "dr/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSnapshot:
    """What the site tells beside its limits. None: not known. Watts, import positive."""

    power: SitePower | None = None
    achievable_min_w: float | None = None
    achievable_max_w: float | None = None
    unachievable: bool = False
    breach_episodes: int = 0
    export_breach_episodes: int = 0
    exports: tuple[Limit, ...] = ()
    """Limits of the export, the most restrictive first."""
    soc_frac: float | None = None
    """Charge of the site's batteries together, 0 to 1."""
    frequency_hz: float | None = None
    """At the grid connection."""
    achievable_export_min_w: float | None = None
    """What the export could come down to; None: nothing at the site obeys a limit of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """Topics of one site under one operator."""

    operator: str
    site: str

    @property
    def base(self) -> str:
        """What every topic of the site begins with."""
        return f"{ROOT}/{self.operator}/{self.site}"

    def of(self, leaf: str) -> str:
        """Return ``dr/v1/<operator>/<site>/<leaf>``."""
        return f"{self.base}/{leaf}"

    @property
    def forecast(self) -> str:
        """Where the plant publishes its own forecast."""
        return f"plant/v1/{self.site}/forecast"


def encode_ack(ack: Ack) -> bytes:
    """Write one answer to one command."""
    return _json(
        {
            "v": 1,
            "id": ack.command_id,
            "seq": ack.sequence,
            "status": ack.status.value,
            "t": stamp(ack.at),
            "appliedW": ack.applied_w,
            "reason": ack.reason,
        }
    )


def encode_offline() -> bytes:
    """Write the last will: what the broker says for us when we are gone."""
    return _json({"v": 1, "online": False})


def encode_status(
    envelope: Envelope,
    snapshot: SiteSnapshot,
    *,
    sequence: int | None,
    now: datetime,
    export_sequence: int | None = None,
    online: bool = True,
) -> bytes:
    """Write the retained status: what holds, for how long, and what the site could do."""
    binding, power = envelope.binding, snapshot.power
    export = snapshot.exports[0] if snapshot.exports else None
    return _json(
        {
            "v": 1,
            "online": online,
            "t": stamp(now),
            "state": envelope.state.value,
            "limitW": None if binding is None else binding.limit_w,
            "limitSource": None if binding is None else binding.source,
            "remainingS": _remaining_s(binding, now),
            "exportLimitW": None if export is None else export.limit_w,
            "exportLimitSource": None if export is None else export.source,
            "exportRemainingS": _remaining_s(export, now),
            "gridW": None if power is None else _w(power.grid_w),
            "achievableMinW": _w(snapshot.achievable_min_w),
            "achievableMaxW": _w(snapshot.achievable_max_w),
            "achievableExportMinW": _w(snapshot.achievable_export_min_w),
            "unachievable": snapshot.unachievable,
            "breaches": snapshot.breach_episodes,
            "exportBreaches": snapshot.export_breach_episodes,
            "seq": sequence,
            "exportSeq": export_sequence,
            "quality": "BAD" if power is None else power.quality.value,
            "ageS": None if power is None else round((now - power.import_measured_at).total_seconds(), 1),
        }
    )


def encode_telemetry(snapshot: SiteSnapshot, power: SitePower) -> bytes:
    """Write one balance of the site."""
    return _json(
        {
            "v": 1,
            "t": stamp(power.measured_at),
            "gridW": _w(power.grid_w),
            "itW": _w(power.compute_w),
            "pvW": _w(power.generation_w),
            "battW": _w(power.battery_w),
            "soc": None if snapshot.soc_frac is None else round(snapshot.soc_frac, 3),
            "hz": None if snapshot.frequency_hz is None else round(snapshot.frequency_hz, 2),
            "q": power.quality.value,
        }
    )


def encode_offers(known: Prospectus, now: datetime) -> bytes:
    """Write what the site offers, retained: alternatives, of which one may be taken up."""
    return _json(
        {
            "v": 1,
            "t": stamp(now),
            "expires": None if known.expires_at is None else stamp(known.expires_at),
            "gridW": _w(known.import_w),
            "offers": [_offer(one, now) for one in known.offers],
            "reason": known.reason,
        }
    )


def _offer(one: PublicOffer, now: datetime) -> dict[str, object]:
    offer = one.offer
    stays = offer.jobs > offer.moves or offer.moves == 0
    return {
        "id": offer.offer_id,
        "direction": "UP" if one.rises else "DOWN",
        "powerW": _w(one.power_w),
        "limitW": _w(one.limit_w),
        "start": stamp(max(offer.start_at, now)),
        "durationS": offer.duration_s,
        "consequence": "DEFER" if stays else "VANISH",
        "jobs": offer.jobs,
        "moves": offer.moves,
        "delayJobS": round(offer.cost_job_s, 1),
        "stepsAtRisk": offer.steps_at_risk,
        "shiftedWh": round(offer.shifted_wh, 1),
        "extraWh": round(offer.extra_wh, 1),
    }


def encode_mirror(number: int, envelope: Envelope, now: datetime) -> bytes:
    """Write our own heartbeat."""
    return _json({"n": number, "t": stamp(now), "state": envelope.state.value})


def stamp(at: datetime) -> str:
    """Write an instant as RFC 3339, in UTC, with milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _remaining_s(limit: Limit | None, now: datetime) -> float | None:
    ends = None if limit is None else limit.end_at
    return None if ends is None else round(max(0.0, (ends - now).total_seconds()), 1)


def _w(power_w: float | None) -> float | None:
    return None if power_w is None else round(power_w, 1)


def _json(body: dict[str, object]) -> bytes:
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
