"""Figures of many replays as a CSV file: a dataclass a line, written by a machine and read again by one."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")


def write_rows(path: Path, kind: type[Row], rows: Iterable[Row]) -> None:
    """Write rows of one kind; numbers to nine digits, None as an empty field."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(kind))
        writer.writerows([_text(value) for value in astuple(row)] for row in rows)


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """Read what `write_rows` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        return [msgspec.convert(_plain(row), kind, strict=False) for row in csv.DictReader(file)]


def _text(value: object) -> object:
    return f"{value:.9g}" if isinstance(value, float) else value


def _plain(row: Mapping[str, str]) -> dict[str, str | None]:
    return {name: text or None for name, text in row.items()}
