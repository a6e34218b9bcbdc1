"""What the doctor found: one line for each part of a site, and how to mend what fails."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum


class Health(Enum):
    """How a part does."""

    OK = "ok"
    WARN = "warn"
    """It works, and will not for ever or not for all."""
    FAIL = "fail"
    SKIPPED = "skipped"
    """The site does not have it, or it cannot be seen from here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One part: `says` is what was seen, `mend` what to do about it; empty where nothing is to be done."""

    part: str
    health: Health
    says: str
    mend: str = ""


def good(part: str, says: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(part=part, health=Health.OK, says=says)


def warn(part: str, says: str, mend: str) -> Finding:
    """Return a finding to see to some time."""
    return Finding(part=part, health=Health.WARN, says=says, mend=mend)


def fail(part: str, says: str, mend: str) -> Finding:
    """Return a finding to mend."""
    return Finding(part=part, health=Health.FAIL, says=says, mend=mend)


def skipped(part: str, says: str) -> Finding:
    """Return a part that is not there."""
    return Finding(part=part, health=Health.SKIPPED, says=says)


def as_text(finding: Finding) -> str:
    """Write one line."""
    mend = f" -> {finding.mend}" if finding.mend else ""
    says = "".join(letter if letter.isprintable() else " " for letter in finding.says)
    return f"{finding.health.value:<8}{finding.part}: {says}{mend}"


def as_json(findings: Sequence[Finding]) -> str:
    """Write the document of ``--json``."""
    rows = [{**asdict(finding), "health": finding.health.value} for finding in findings]
    return json.dumps({"schema": "sterna.doctor/1", "findings": rows}, ensure_ascii=False)
