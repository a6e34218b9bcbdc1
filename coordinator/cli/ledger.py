"""`sterna ledger`: where the energy came from, and the signed records that somebody else can check."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.options import ConfigOption, JsonOption
from sterna.errors import ConfigError, CorruptError

if TYPE_CHECKING:
    from coordinator.core.audit import Report

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Tell what was drawn, by whom, and where it came from.",
)

SinceOption = Annotated[str, typer.Option("--from", help="Instant, e.g. 2026-11-01 or 2026-11-01T06:00Z.")]
UntilOption = Annotated[str, typer.Option("--to", help="Instant; not included.")]
KeyOption = Annotated[Path, typer.Option("--key", help="The ledger's public key, as PEM.")]

READ_BYTES = 1 << 20


@app.callback()
def show(
    context: typer.Context,
    job: Annotated[str, typer.Option("--job", help="Only of this job.")] = "",
    site: Annotated[str, typer.Option("--site", help="Only of this site.")] = "",
    since: SinceOption = "",
    until: UntilOption = "",
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the rows to this file, too.")] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show what each job drew at each site: renewable, not renewable, unknown."""
    if context.invoked_subcommand is not None:
        return
    from coordinator.cli import ledger_render
    from coordinator.cli.ledger_calls import get_account

    answer = get_account(
        config, job=job, site=site, since=_instant("--from", since), until=_instant("--to", until)
    )
    if csv is not None:
        with csv.open("w", encoding="utf-8", newline="") as file:
            ledger_render.write_csv(file, answer)
    if json:
        from coordinator.cli import document

        sys.stdout.write(document.encode("ledger", answer).decode())
        return
    ledger_render.print_account(answer)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to; must not exist yet.")],
    since: SinceOption = "",
    until: UntilOption = "",
    config: ConfigOption = None,
) -> None:
    """Write the signed records, or those of an interval, to a file."""
    from coordinator.cli.ledger_calls import export_records

    if file.exists():
        raise ConfigError(f"{file}: exists already and is not overwritten")
    written = export_records(config, file, since=_instant("--from", since), until=_instant("--to", until))
    typer.echo(f"{file}: {written} bytes")


@app.command()
def prove(
    decision: Annotated[str, typer.Argument(help="Its id, as `sterna job explain --json` says it.")],
    out: Annotated[Path | None, typer.Option("--out", help="File; default: standard output.")] = None,
    config: ConfigOption = None,
) -> None:
    """Fetch the proof that a decision is in the tree of its day."""
    from coordinator.cli.ledger_calls import prove_decision

    proof = prove_decision(config, decision)
    if out is None:
        sys.stdout.write(proof.decode())
    else:
        out.write_bytes(proof)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="An export or a proof.")],
    key: KeyOption,
    against: Annotated[
        Path | None, typer.Option("--against", help="An older export of the same ledger: was it rewritten?")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check an export or a proof, offline.

    It names the first record that is wrong.
    """
    from coordinator.core import audit
    from sterna.signing import load_verifier

    checks = load_verifier(key)
    if _is_proof(file):
        shown = audit.audit_proof(file.read_bytes(), checks)
        if shown.fault or shown.record is None:
            raise CorruptError(f"{file}: {shown.fault}")
        root = "the root of its day" if shown.day_signed else "the root so far of its day, which was not over"
        typer.echo(
            f"{file}: good; record {shown.record.seq}, {shown.record.kind.value}, is in {root}, {shown.day}"
        )
        return
    report = audit.audit(_lines(file), checks)
    fault = f"{file}: {report.fault}" if report.fault else ""
    if not fault and against is not None:
        older = audit.audit(_lines(against), checks)
        fault = f"{against}: {older.fault}" if older.fault else ""
        contradiction = audit.fork(older, report)
        fault = fault or (f"{file} against {against}: {contradiction}" if contradiction else "")
    if json:
        _tell_json(report, fault)
    elif not fault:
        _tell(file, report)
    if fault:
        raise CorruptError(fault)


def _tell(file: Path, report: "Report") -> None:
    if report.first is None:
        typer.echo(f"{file}: good; no records")
        return
    typer.echo(
        f"{file}: good; fleet {report.fleet}, {report.records} records, {report.first} to {report.last}, "
        f"the last is {report.last_hash}"
    )
    for day in report.days:
        how = "" if day.checked else " (not checked: the day began before this export)"
        typer.echo(f"  {day.day}  {day.size} records  root {day.root}{how}")


def _tell_json(report: "Report", fault: str) -> None:
    from coordinator.cli import document

    data = {
        "good": not fault,
        "fault": fault or None,
        "fleet": report.fleet or None,
        "records": report.records,
        "first": report.first,
        "last": report.last,
        "last_hash": report.last_hash,
        "days": [
            {"day": day.day.isoformat(), "size": day.size, "root": day.root, "checked": day.checked}
            for day in report.days
        ],
    }
    sys.stdout.write(document.encode("ledger-check", data).decode())


def _is_proof(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(64).startswith(b'{"format":"sterna.proof/')
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error


def _lines(file: Path) -> Iterator[bytes]:
    from coordinator.core.audit import read_lines

    try:
        with file.open("rb") as stream:
            yield from read_lines(iter(lambda: stream.read(READ_BYTES), b""))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error


def _instant(option: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"{option} {text}: expected an instant like 2026-11-01 or 2026-11-01T06:00Z"
        ) from error
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
