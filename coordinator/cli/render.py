"""Messages as tables for people. Prints nothing itself."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from coordinator.cli.document import enum_word
from sterna.v1 import fleet_pb2, job_pb2, site_pb2, site_service_pb2
from sterna.v1 import operator_service_pb2 as api

_JOB_STYLE: Mapping[int, str] = {
    fleet_pb2.JOB_STATE_RUNNING: "green",
    fleet_pb2.JOB_STATE_MIGRATING: "cyan",
    fleet_pb2.JOB_STATE_PAUSED: "yellow",
    fleet_pb2.JOB_STATE_CONTACT_LOST: "yellow",
    fleet_pb2.JOB_STATE_FAILED: "red",
    fleet_pb2.JOB_STATE_COMPLETED: "dim",
    fleet_pb2.JOB_STATE_CANCELLED: "dim",
}
UNKNOWN = "–"
DOUBTFUL = frozenset({site_pb2.QUALITY_STALE, site_pb2.QUALITY_BAD})
"""Qualities of figures that say nothing of now."""


def watts(power_w: float | None) -> str:
    """Return watts for people, ``–`` for unknown."""
    if power_w is None:
        return UNKNOWN
    return f"{power_w / 1000:.2f} kW" if abs(power_w) >= 1000 else f"{power_w:.0f} W"


def size(size_bytes: float) -> str:
    """Return a byte count for people."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes:.0f} B"


def duration(seconds: float) -> str:
    """Return a duration for people; one below zero is what is lost."""
    if seconds < 0.0:
        return f"-{duration(-seconds)}"
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.1f} s"


def instant(stamp: Timestamp) -> datetime:
    """Return an aware datetime."""
    return stamp.ToDatetime(tzinfo=UTC)


def words(kind: EnumDescriptor, number: int) -> str:
    """``JOB_STATE_CONTACT_LOST`` → ``contact lost``; unspecified is unknown."""
    word = enum_word(kind, number)
    return UNKNOWN if word is None else word.replace("_", " ")


def job_state(state: int) -> Text:
    """Return a job's state in its colour."""
    return Text(words(fleet_pb2.JobState.DESCRIPTOR, state), style=_JOB_STYLE.get(state, ""))


def migration_state(state: int) -> str:
    """Return a migration's state in words."""
    return words(fleet_pb2.MigrationState.DESCRIPTOR, state)


def decision_kind(kind: int) -> str:
    """Return what was decided in a word."""
    return words(fleet_pb2.DecisionKind.DESCRIPTOR, kind)


def present(message: Message, field: str) -> Any | None:
    """Return a field, None when it is absent."""
    return getattr(message, field) if message.HasField(field) else None


def sites_table(sites: Sequence[fleet_pb2.Site], now: datetime) -> Table:
    """One line per site: energy, limit, what runs there."""
    batteries = any(site.telemetry.HasField("battery") for site in sites)
    table = _table(
        *("site", "link", "surplus", "generation", "grid", *(("battery",) if batteries else ())),
        *("compute", "limit", "window", "forecast", "slots"),
    )
    for site in sites:
        telemetry = site.telemetry
        table.add_row(
            site.site_id,
            _link(site, now),
            _surplus(site, now),
            watts(present(telemetry, "generation_w")),
            watts(present(telemetry, "grid_w")),
            *((_battery(telemetry),) if batteries else ()),
            watts(present(telemetry, "compute_w")),
            Text.assemble(
                limit_words(site), _limit_end(site.grid_status.limits, now), _export_words(site, now)
            ),
            _window(site, now),
            site.forecast_source or UNKNOWN,
            f"{len(site.job_ids)}/{site.capabilities.slots}",
        )
    return table


def _surplus(site: fleet_pb2.Site, now: datetime) -> str:
    """Say what is measured, and how far that is of now; and what counts instead on somebody's word."""
    measured = watts(present(site.telemetry, "surplus_w"))
    if site.telemetry.quality in DOUBTFUL:
        measured += f" ({words(site_pb2.Quality.DESCRIPTOR, site.telemetry.quality)})"
    holds = [one for one in site.grid_status.declared if instant(one.start_at) <= now < instant(one.end_at)]
    most = max(holds, key=lambda one: one.surplus_w, default=None)
    return measured if most is None else f"{measured}; {watts(most.surplus_w)} ({most.source})"


def _battery(telemetry: site_pb2.SiteTelemetry) -> str:
    """Say how full the batteries of a site are, and what they take or give."""
    if not telemetry.HasField("battery"):
        return UNKNOWN
    soc_frac, capacity_wh = (present(telemetry.battery, name) for name in ("soc_frac", "capacity_wh"))
    charge = UNKNOWN if soc_frac is None else f"{soc_frac:.0%}"
    held = "" if capacity_wh is None else f" of {capacity_wh / 1000:.1f} kWh"
    power_w = present(telemetry, "battery_w")
    flow = "" if not power_w else f", {'takes' if power_w > 0 else 'gives'} {watts(abs(power_w))}"
    return f"{charge}{held}{flow}"


def limit_words(site: fleet_pb2.Site) -> Text:
    """Return the limit in force and who set it."""
    status = site.grid_status
    limit_w = present(status, "limit_w")
    state = words(site_pb2.GridState.DESCRIPTOR, status.state)
    if limit_w is None:
        return Text(state, style="dim")
    source = status.limits[0].source if status.limits else state
    return Text(f"{watts(limit_w)} ({source})", style="yellow")


def _export_words(site: fleet_pb2.Site, now: datetime) -> Text:
    """Return the limit of the export and who set it; nothing where nobody limits it."""
    limits = site.grid_status.export_limits
    if not limits:
        return Text("")
    said = Text(f"; export {watts(limits[0].limit_w)} ({limits[0].source})", style="yellow")
    return Text.assemble(said, _limit_end(limits, now))


def _limit_end(limits: Sequence[site_pb2.ActiveLimit], now: datetime) -> Text:
    """Say until when the first limit holds, in UTC; one without an end holds until it is replaced."""
    end_at = present(limits[0], "end_at") if limits else None
    if end_at is None:
        return Text("")
    end = instant(end_at)
    return Text(f" until {end:{'%H:%M:%S' if end.date() == now.date() else '%m-%d %H:%M'}}", style="yellow")


def jobs_table(jobs: Sequence[fleet_pb2.Job]) -> Table:
    """One line per job."""
    table = _table("job", "name", "state", "site", "epoch", "step", "moves", "checkpoint", "note")
    for job in jobs:
        step = present(job, "step")
        table.add_row(
            job.job_id[:8],
            job.spec.name,
            job_state(job.state),
            job.owner_site or UNKNOWN,
            str(job.epoch),
            UNKNOWN if step is None else str(step),
            str(job.migrations),
            size(job.checkpoint.size_bytes or job.spec.checkpoint_bytes),
            job.message,
        )
    return table


def migrations_table(migrations: Sequence[fleet_pb2.Migration], names: dict[str, str] | None = None) -> Table:
    """One line per migration; `names` maps job ids to what people call them."""
    table = _table("migration", "job", "from", "to", "state", "sent", "downtime", "why")
    for migration in migrations:
        downtime = present(migration, "downtime")
        table.add_row(
            migration.migration_id[:8],
            (names or {}).get(migration.job_id, migration.job_id[:8]),
            migration.source_site,
            migration.destination_site,
            migration_state(migration.state),
            _sent(migration),
            UNKNOWN if downtime is None else duration(_seconds(downtime)),
            migration.failure or migration.reason,
        )
    return table


def _sent(migration: fleet_pb2.Migration) -> str:
    sent, whole = size(migration.transferred_bytes), size(migration.checkpoint_bytes)
    return sent if sent == whole else f"{sent} of {whole}"


def offers_table(sites: Sequence[api.SiteOffers]) -> Table:
    """One line per offer; a site without any has one that says why."""
    table = _table(
        "site", "import", "by", "for", "jobs", "moves", "delay", "steps", "shifted", "extra", "note"
    )
    for site in sites:
        if not site.offers.offers:
            reason = site.offers.reason if site.HasField("offers") else "nothing has been computed yet"
            table.add_row(site.site_id, *[UNKNOWN] * 9, reason)
        for offer in site.offers.offers:
            falls = offer.direction != site_service_pb2.FLEXIBILITY_DIRECTION_UP
            risk = present(offer, "steps_at_risk")
            table.add_row(
                site.site_id,
                "falls" if falls else "rises",
                watts(offer.reduction_w if falls else offer.increase_w),
                duration(_seconds(offer.duration)),
                str(offer.jobs),
                str(offer.moves),
                duration(offer.cost_job_s),
                UNKNOWN if risk is None else str(risk),
                figure(offer.shifted_wh, "Wh"),
                figure(offer.extra_wh, "Wh"),
                f"until {instant(site.offers.expires_at):%H:%M:%S}",
            )
    return table


def terms_table(alternative: fleet_pb2.Alternative, verdict: str = "") -> Table:
    """Each term, its limit, and what would satisfy it; `verdict` stands in for the judgement's own."""
    verdict = verdict or ("feasible" if alternative.feasible else "infeasible")
    table = _table("term", "is", "limit", "", "what would satisfy it")
    table.title = Text(f"{alternative.site_id}: {verdict}, score {alternative.score:.1f}", style="bold")
    table.title_justify = "left"
    for term in alternative.terms:
        limit = present(term, "limit")
        table.add_row(
            term.name,
            "no window" if term.name == "window" and term.value <= 0.0 else figure(term.value, term.unit),
            UNKNOWN if limit is None else figure(limit, term.unit),
            Text("ok", style="green") if term.satisfied else Text("no", style="red"),
            term.remedy,
        )
    return table


def judgement(alternative: fleet_pb2.Alternative, owner_site: str = "") -> list[RenderableType]:
    """Return the terms, then what speaks against the site, a line each; `owner_site` has the job already."""
    source = alternative.forecast_source
    basis = [Text(f"  forecast: {source}", style="dim")] if source else []
    if alternative.site_id == owner_site:
        return [terms_table(alternative, "where the job is"), *basis]
    against = [Text(f"  against: {rejection}") for rejection in alternative.rejections]
    return [terms_table(alternative), *basis, *against]


def job_details(job: fleet_pb2.Job, deadline: Text) -> Table:
    """Return one job, a line for each thing that is known of it; `deadline` in words."""
    spec = job.spec
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    step = present(job, "step")
    ended_at = present(job, "ended_at")
    rows: list[tuple[str, str | Text]] = [
        ("job", job.job_id),
        ("name", spec.name),
        ("state", job_state(job.state)),
        ("site", job.owner_site or UNKNOWN),
        ("home site", spec.home_site or "any"),
        ("epoch", str(job.epoch)),
        ("step", UNKNOWN if step is None else str(step)),
        ("migrations", str(job.migrations)),
        ("migration", job.migration_id or UNKNOWN),
        ("submitted", _utc(job.submitted_at)),
        ("started", _utc(job.started_at) if job.HasField("started_at") else UNKNOWN),
        ("ended", _utc(ended_at) if ended_at is not None else UNKNOWN),
        ("deadline", deadline),
        ("program", shlex.join(spec.argv)),
        ("power", watts(spec.power_w)),
        ("on partition", words(job_pb2.OnPartition.DESCRIPTOR, spec.on_partition)),
        ("may migrate", "yes" if spec.may_migrate else "no"),
        ("checkpoint", _checkpoint(job)),
        ("note", job.message or UNKNOWN),
    ]
    for name, value in rows:
        # Text, so that brackets in a job's words are not read as markup.
        table.add_row(name, value if isinstance(value, Text) else Text(value))
    return table


def _checkpoint(job: fleet_pb2.Job) -> str:
    if not job.HasField("checkpoint"):
        return f"none sealed yet; declared {size(job.spec.checkpoint_bytes)}"
    held = job.checkpoint
    return f"{held.checkpoint_id[:16]} · step {held.step} · {size(held.size_bytes)} · {_utc(held.sealed_at)}"


def warnings(snapshot: api.WatchFleetResponse) -> list[str]:
    """Return what needs somebody's attention, a line each."""
    now = instant(snapshot.at)
    awaited = _awaited(snapshot)
    lines = []
    for site in snapshot.sites:
        if site.fenced:
            lines.append(f"site {site.site_id} is fenced; `sterna site resume {site.site_id}` ends it")
        elif not site.connected and site not in awaited:
            jobs = "; its jobs may well run" if site.job_ids else ""
            lines.append(f"site {site.site_id}: {_link(site, now)}{jobs}")
        if site.connected and site.telemetry.quality in DOUBTFUL:
            word = words(site_pb2.Quality.DESCRIPTOR, site.telemetry.quality)
            lines.append(f"site {site.site_id}: its power is {word}; `sterna-agent doctor` there says why")
        if site.connected and site.capabilities.storage_fault:
            lines.append(f"site {site.site_id} takes no job: {site.capabilities.storage_fault}")
        if site.grid_status.unachievable:
            lines.append(f"site {site.site_id}: its own load is above the grid limit")
        if site.grid_status.breaches:
            lines.append(f"site {site.site_id}: {site.grid_status.breaches} grid limit breaches")
        if site.grid_status.export_breaches:
            lines.append(f"site {site.site_id}: {site.grid_status.export_breaches} export limit breaches")
    failed = [job for job in snapshot.jobs if job.state == fleet_pb2.JOB_STATE_FAILED]
    lines += [f"job {job.job_id[:8]} ({job.spec.name}) failed: {job.message}" for job in failed]
    return lines


def waiting(snapshot: api.WatchFleetResponse) -> str:
    """Return for how many sites a coordinator that has just started waits; empty: for none."""
    awaited = len(_awaited(snapshot))
    if not awaited:
        return ""
    return f"waiting for {awaited} site{'s'[: awaited > 1]} since {instant(snapshot.waiting_since):%H:%M:%S}"


def _awaited(snapshot: api.WatchFleetResponse) -> list[fleet_pb2.Site]:
    waits = snapshot.HasField("waiting_since")
    return [site for site in snapshot.sites if waits and not (site.fenced or site.HasField("last_seen_at"))]


def figure(value: float, unit: str) -> str:
    """Return a figure with its unit, scaled where people scale it."""
    match unit:
        case "W":
            return watts(value)
        case "B":
            return size(value)
        case "s":
            return duration(value)
        case "bit/s":
            return f"{value / 1e6:.1f} Mbit/s" if value < 1e9 else f"{value / 1e9:.1f} Gbit/s"
        case "1" | "":
            return f"{value:.3g}"
        case _:
            return f"{value:.3g} {unit}"


def _utc(stamp: Timestamp) -> str:
    return f"{instant(stamp):%Y-%m-%d %H:%M:%S} UTC"


def _seconds(value: Duration) -> float:
    return value.ToTimedelta().total_seconds()


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column not in {"why", "note", "what would satisfy it"})
    return table


def _link(site: fleet_pb2.Site, now: datetime) -> Text:
    if site.fenced:
        return Text("fenced", style="red")
    if not site.connected:
        if not site.HasField("last_seen_at"):
            return Text("not heard yet", style="yellow")
        silent_s = (now - instant(site.last_seen_at)).total_seconds()
        return Text(f"silent {duration(silent_s)}", style="red")
    return Text("draining", style="yellow") if site.draining else Text("up", style="green")


def _window(site: fleet_pb2.Site, now: datetime) -> str:
    if not site.HasField("window_end_at"):
        return UNKNOWN
    left_s = (instant(site.window_end_at) - now).total_seconds()
    return f"{duration(left_s)} left" if left_s > 0 else UNKNOWN
