"""``coordinator.toml``: everything that a fleet operator sets, with units, meanings and defaults.

Only `main` sees these structs; everybody else is handed plain values. Paths are taken relative to the file's
folder.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from coordinator.core import policy
from coordinator.core.policies import policy_names
from sterna.listening import address_fault, interface_fault, plaintext_fault

_Faults = Iterable[tuple[str, str]]
_NUMBERS = policy.PlannerSettings()


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PEM files, as ``sterna pki issue coordinator NAME`` writes them."""

    ca: Path
    """The fleet's authority."""
    cert: Path
    """Our certificate."""
    key: Path
    """Its private key."""


class SiteTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[sites]]``: one site that may connect. What it can do it says itself."""

    id: str
    """As in its certificate."""
    plant: Literal["sun", "wind", "mixed"] = "mixed"
    """What its surplus comes of; each is learnt in its own way."""
    history: Path | None = None
    """CSV of its surplus before it joined (``ts_utc,surplus_w``); read while nothing was learnt yet."""
    carbon_g_per_kwh: float | None = None
    """CO2 of a kilowatt-hour that it imports, for the ledger, and for the objective ``carbon`` while its
    operator tells none; unset: unknown."""
    price_per_kwh: float | None = None
    """What it pays for import while its operator tells no price, for the objective ``price``, in one currency
    for all sites; unset: unknown."""

    def faults(self) -> _Faults:
        """Yield what is wrong beyond types."""
        if not self.id:
            yield "id", "missing"
        if self.carbon_g_per_kwh is not None and not self.carbon_g_per_kwh >= 0:
            yield "carbon_g_per_kwh", f"expected zero or more, got {self.carbon_g_per_kwh}"


class ForecastTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[forecast]``: who is believed about the surplus to come (docs/forecasts.md)."""

    sources: tuple[Literal["feed", "learnt", "persistence"], ...] = ("feed", "learnt", "persistence")
    """In order of trust: what a site publishes, what its past teaches, what is measured, held."""
    slot_s: float = 3600.0
    """Length of the slots that are learnt; divides a day."""
    ahead_slots: int = 48
    """How far the learnt forecast reaches; a week at most."""
    day_s: float = 86_400.0
    """How long a day lasts: 86400, but where the weather is replayed faster than it was, as in the demo."""
    budget_s: float = 0.5
    """Longest time in a second that learning may take from one core."""

    def faults(self) -> _Faults:
        """Yield what is wrong beyond types."""
        if len(set(self.sources)) < len(self.sources):
            yield "sources", "one is given twice"
        yield from _not_above_zero(self, ("slot_s", "ahead_slots", "day_s", "budget_s"))
        if self.slot_s > 0 and self.day_s > 0:
            slots = self.day_s / self.slot_s
            if slots < 2 or abs(slots - round(slots)) > 1e-6:
                yield "slot_s", f"slots of {self.slot_s:g} s do not make a day of {self.day_s:g} s"
            elif self.ahead_slots > 7 * round(slots):
                yield "ahead_slots", f"expected a week at most, got {self.ahead_slots} slots"


class LinkTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[links.pairs]]``: the rate from one site to another."""

    source: str
    destination: str
    bps: float
    """Bits per second; 0: there is no such link."""

    def faults(self) -> _Faults:
        """Yield what is wrong beyond types."""
        if self.bps < 0:
            yield "bps", f"expected zero or more, got {self.bps}"
        if self.source == self.destination:
            yield "destination", "is the source"


class LinksTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[links]``: how fast sites reach each other, as promised; transfers teach better."""

    default_bps: float | None = None
    """Rate of every pair that is not named; without it only named pairs have a link."""
    pairs: tuple[LinkTable, ...] = ()

    def faults(self) -> _Faults:
        """Yield what is wrong beyond types."""
        if self.default_bps is not None and self.default_bps <= 0:
            yield "default_bps", f"expected more than zero, got {self.default_bps}"
        names = [(pair.source, pair.destination) for pair in self.pairs]
        for source, destination in sorted({pair for pair in names if names.count(pair) > 1}):
            yield "pairs", f"{source} to {destination} is given twice"


class PlannerTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[planner]``: who decides, and with which numbers (docs/feasibility.md)."""

    policy: str = "feasibility-aware"
    """static, energy-only, feasibility-aware or sterna (docs/planning.md)."""
    objective: Literal["energy", "carbon", "price"] = "energy"
    """What `sterna` saves: energy that is not renewable, the CO2 of it, or its price."""
    tick_s: float = 10.0
    """Between two plans."""
    settle_s: float = 10.0
    """Longest wait after a start for all sites to connect before anything is decided."""
    # The numbers of every policy; `PlannerSettings` says what they mean.
    alpha: float = _NUMBERS.alpha
    epsilon: float = _NUMBERS.epsilon
    eta: float = _NUMBERS.eta
    network_wh_per_gb: float = _NUMBERS.network_wh_per_gb
    grid_renewable_frac: float = _NUMBERS.grid_renewable_frac
    min_residence_s: float = _NUMBERS.min_residence_s
    gain_margin_s: float = _NUMBERS.gain_margin_s
    gain_margin_frac: float = _NUMBERS.gain_margin_frac
    horizon_s: float = _NUMBERS.horizon_s
    effort_pairs: int = _NUMBERS.effort_pairs
    seal_s: float = 30.0
    """Stop to durable seal, until a job's own is measured."""
    load_s: float = 30.0
    """Process start to first step, until a job's own is measured."""
    downtime_s: float = 0.0
    """What a move costs besides."""
    hold_back_s: float | None = None
    """Under `sterna`, a job that declares its work may wait for surplus, or pause for it, as long as it ends
    by its submission + 2 × work + this; unset: every job starts as soon as it can and runs on."""
    hold_s: float = 900.0
    """A job that is paused for surplus goes on by itself when its site has not heard of us for so long."""
    least_run_s: float = 300.0
    """A job that began to run, or goes on, is not paused for surplus before it has run so long."""
    sample_stale_s: float = 30.0
    """A sample that is older says nothing about the surplus."""
    forecast_max_age_s: float = 7200.0
    """A published forecast that is older is not used."""
    persistence_horizon_s: float = 900.0
    """Without a forecast, how long the surplus is taken to last."""

    def faults(self) -> _Faults:
        """Yield what is wrong beyond types."""
        if self.policy not in policy_names():
            yield "policy", f"{self.policy!r}: expected one of {', '.join(policy_names())}"
        yield from policy.faults(self)
        above_zero = ("tick_s", "sample_stale_s", "forecast_max_age_s", "persistence_horizon_s")
        yield from _not_above_zero(self, above_zero)
        if self.hold_back_s is not None and not self.hold_back_s >= 0:
            yield "hold_back_s", f"expected zero or more, got {self.hold_back_s}"
        if self.objective != "energy" and self.policy != "sterna":
            yield "objective", f"policy {self.policy!r} saves energy alone: expected sterna"
        if self.hold_back_s is not None and self.policy != "sterna":
            yield "hold_back_s", f"policy {self.policy!r} holds no job back: expected sterna"
        if not self.hold_s >= 1:
            yield "hold_s", f"expected 1 or more, got {self.hold_s}"
        yield from _below_zero(self, ("least_run_s", "settle_s", "seal_s", "load_s", "downtime_s"))


class LeaseTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[lease]``: for jobs with on_partition = stop."""

    ttl_s: float = 120.0
    """How long a job runs without a renewal."""
    skew_s: float = 5.0
    """How far clocks may differ in rate and reading over one lease."""
    kill_grace_s: float = 10.0
    """From the end of a job's own stop grace to the certain end of its process."""

    def faults(self) -> _Faults:
        """Yield what is wrong beyond types."""
        yield from _not_above_zero(self, ("ttl_s",))
        yield from _below_zero(self, ("skew_s", "kill_grace_s"))


class MigrationTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[migration]``: longest stays in a state before a move is given up, and retries."""

    planned_s: float = 60.0
    """Until the destination holds a slot."""
    prepared_s: float = 60.0
    """Until the job is told to stop, or its checkpoint to be sent ahead."""
    stopping_s: float = 600.0
    """Until it has stopped and its checkpoint is sealed."""
    transferring_s: float = 3600.0
    """Until the destination has verified it; also of one that is sent ahead."""
    retry_s: float = 2.0
    """An order that shows no effect is sent again after this."""
    start_attempts: int = 3
    """How often a destination may fail to start a job before the job has failed."""
    ahead_least_transfer_s: float = 10.0
    """A checkpoint whose transfer takes at least this travels once while training goes on."""
    ahead_least_bytes: int = 64_000_000
    """The same over a link that no transfer has measured yet, by size."""
    carry_after_s: float = 120.0
    """A queued job whose checkpoint is only where no slot is free waits so long, then that is moved."""

    def faults(self) -> _Faults:
        """Yield what is wrong beyond types."""
        yield from _not_above_zero(
            self, ("planned_s", "prepared_s", "stopping_s", "transferring_s", "retry_s")
        )
        for key in ("ahead_least_transfer_s", "ahead_least_bytes", "carry_after_s"):
            if getattr(self, key) < 0:
                yield key, f"expected zero or more, got {getattr(self, key)}"
        if self.start_attempts < 1:
            yield "start_attempts", f"expected 1 or more, got {self.start_attempts}"


class HistoryTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[history]``: what is kept; the oldest goes first."""

    samples_per_site: int = 1_000_000
    """Samples of telemetry."""
    decisions_per_job: int = 500
    """Decisions with their reasons."""

    def faults(self) -> _Faults:
        """Yield what is wrong beyond types."""
        for key in ("samples_per_site", "decisions_per_job"):
            if getattr(self, key) < 1:
                yield key, f"expected 1 or more, got {getattr(self, key)}"


class MetricsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[metrics]``: figures for Prometheus (docs/metrics.md). Without the table there is no port."""

    listen: str = "127.0.0.1:9465"
    """``ADDRESS:PORT`` of one interface; IPv6 in brackets. Beyond loopback it needs `tls`."""
    tls: TlsFiles | None = None
    """HTTPS; whoever scrapes shows a certificate of this CA."""

    def faults(self) -> _Faults:
        """Yield what is wrong beyond types."""
        if (fault := interface_fault(self.listen)) is not None:
            yield "listen", fault
        elif self.tls is None and (fault := plaintext_fault(self.listen)) is not None:
            yield "tls", f"{fault}; give [metrics.tls]"


class LedgerTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[ledger]``: what was drawn by whom, and who signs it (docs/ledger.md)."""

    key: Path | None = None
    """PEM of an Ed25519 key, as ``sterna pki ledger-key`` makes it; without it nothing is signed."""
    slot_s: float = 3600.0
    """Energy is booked in slots of this length; whole slots make a day."""
    hold_s: float = 10.0
    """A sample of telemetry says something for so long; what is between counts as unmetered."""

    def faults(self) -> _Faults:
        """Yield what is wrong beyond types."""
        yield from _not_above_zero(self, ("slot_s", "hold_s"))
        if self.slot_s > 0 and 86_400.0 % self.slot_s > 0:
            yield "slot_s", f"slots of {self.slot_s:g} s do not make a day"


class OffersTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[offers]``: the flexibility that sites offer their grid operators (docs/planning.md)."""

    durations_s: tuple[float, ...] = (900.0, 3600.0, 14400.0)
    """Lengths that are offered; empty: nothing is offered."""
    valid_s: float = 300.0
    """How long an offer stands unless it is renewed."""
    least_w: float = 25.0
    """Less power is not worth an offer."""

    def faults(self) -> _Faults:
        """Yield what is wrong beyond types."""
        if not all(0 < length_s <= 86_400.0 for length_s in self.durations_s):
            yield "durations_s", f"expected lengths above zero, a day at most, got {list(self.durations_s)}"
        if len(set(self.durations_s)) < len(self.durations_s):
            yield "durations_s", "one is given twice"
        yield from _not_above_zero(self, ("valid_s", "least_w"))


class CoordinatorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    fleet: str
    """Name of the fleet, as in its certificates."""
    id: str = "main"
    """Name in our certificate."""
    listen: str = "127.0.0.1:7400"
    """host:port for sites and operators; port 0 takes a free one."""
    state_dir: Path
    """Where the store is kept."""
    database_url: str = ""
    """As SQLAlchemy takes it; empty: ``coordinator.db`` in `state_dir`."""
    tls: TlsFiles | None = None
    insecure: bool = False
    """Plaintext gRPC; loopback only."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_style: Literal["auto", "json", "text", "journal"] = "auto"
    """auto: journal fields where standard error is the journal, else text."""
    sites: tuple[SiteTable, ...]
    links: LinksTable = LinksTable()
    planner: PlannerTable = PlannerTable()
    forecast: ForecastTable = ForecastTable()
    lease: LeaseTable = LeaseTable()
    migration: MigrationTable = MigrationTable()
    history: HistoryTable = HistoryTable()
    ledger: LedgerTable = LedgerTable()
    metrics: MetricsTable | None = None
    offers: OffersTable = OffersTable()

    @property
    def site_ids(self) -> frozenset[str]:
        """Return the ids of all sites."""
        return frozenset(site.id for site in self.sites)

    def faults(self) -> _Faults:
        """Yield what is wrong beyond types."""
        if fault := address_fault(self.listen):
            yield "listen", fault
        if self.tls is None and not self.insecure:
            yield "tls", "missing; give [tls] ca, cert and key, or insecure = true on loopback"
        names = [site.id for site in self.sites]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield "sites", f'two sites have the id "{name}"'
        for index, pair in enumerate(self.links.pairs):
            for key in ("source", "destination"):
                if getattr(pair, key) not in names:
                    yield f"links.pairs[{index}].{key}", f'no site "{getattr(pair, key)}"'


def _not_above_zero(table: object, keys: Iterable[str]) -> Iterator[tuple[str, str]]:
    for key in keys:
        if not getattr(table, key) > 0:
            yield key, f"expected more than zero, got {getattr(table, key)}"


def _below_zero(table: object, keys: Iterable[str]) -> Iterator[tuple[str, str]]:
    for key in keys:
        if not getattr(table, key) >= 0:
            yield key, f"expected zero or more, got {getattr(table, key)}"
