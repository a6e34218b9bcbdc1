"""How an account of the ledger looks: a table on a terminal, rows of a CSV file."""

import csv
from collections.abc import Sequence
from datetime import UTC
from typing import TextIO

from rich.table import Table

from coordinator.cli.console import open_console
from sterna.units import s_to_hours
from sterna.v1 import ledger_service_pb2 as api

UNKNOWN = "–"
IDLE = "(no job)"
COLUMNS = (
    "site",
    "job",
    "renewable_wh",
    "nonrenewable_wh",
    "unattributed_wh",
    "estimated_wh",
    "unmetered_s",
    "carbon_g",
)


def write_csv(file: TextIO, account: api.GetAccountResponse) -> None:
    """Write a row for each job and site; grams that are not known are empty."""
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for one in account.entries:
        writer.writerow(
            (
                one.site_id,
                one.job_id,
                one.renewable_wh,
                one.nonrenewable_wh,
                one.unattributed_wh,
                one.estimated_wh,
                one.unmetered.ToTimedelta().total_seconds(),
                one.carbon_g if one.HasField("carbon_g") else "",
            )
        )


def print_account(account: api.GetAccountResponse) -> None:
    """Print the account, its sum, and what it covers."""
    console = open_console()
    if not account.HasField("booked_from"):
        console.print(f"nothing is booked yet; slots of {_hours(account.slot.ToTimedelta().total_seconds())}")
        return
    table = Table(box=None, header_style="dim")
    heads = ("renewable", "not renewable", "source unknown", "of these estimated", "unmetered", "CO2")
    for column in ("site", "job", *heads):
        table.add_column(column, justify="left" if column in ("site", "job") else "right")
    for one in account.entries:
        table.add_row(one.site_id, one.job_id[:12] or IDLE, *_figures([one]))
    table.add_section()
    table.add_row("all", "", *_figures(account.entries))
    console.print(table)
    first, last = (at.ToDatetime(tzinfo=UTC) for at in (account.booked_from, account.booked_until))
    console.print(
        f"booked from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC, "
        f"by slots of {_hours(account.slot.ToTimedelta().total_seconds())}"
    )


def _figures(entries: Sequence[api.LedgerEntry]) -> list[str]:
    grams: float | None = 0.0
    for one in entries:
        grams = grams + one.carbon_g if grams is not None and one.HasField("carbon_g") else None
    unmetered_s = sum(one.unmetered.ToTimedelta().total_seconds() for one in entries)
    return [
        _energy(sum(one.renewable_wh for one in entries)),
        _energy(sum(one.nonrenewable_wh for one in entries)),
        _energy(sum(one.unattributed_wh for one in entries)),
        _energy(sum(one.estimated_wh for one in entries)),
        _hours(unmetered_s),
        UNKNOWN if grams is None else f"{grams:,.0f} g",
    ]


def _energy(energy_wh: float) -> str:
    return f"{energy_wh / 1e3:,.3f} kWh"


def _hours(duration_s: float) -> str:
    return f"{s_to_hours(duration_s):,.2f} h"
