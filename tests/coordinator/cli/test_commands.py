"""What each command prints: documents and tables against golden files.

``STERNA_REGOLD=1 pytest tests/coordinator/cli`` writes the golden files anew, for reading in review.
"""

import json
import os
from pathlib import Path

import pytest

from tests.coordinator.cli.conftest import run_here as run
from tests.coordinator.service.operator_world import DONE, QUEUED, RUNNING

GOLDEN = Path(__file__).parent / "golden"
JOB_FILE = Path(__file__).parents[3] / "examples" / "job.toml"

COMMANDS = {
    "status": ["status"],
    "sites": ["sites"],
    "jobs": ["jobs"],
    "migrations": ["migrations", "--active"],
    "offers": ["offers"],
    "job-submit": ["job", "submit", str(JOB_FILE)],
    "job-show": ["job", "show", RUNNING],
    "job-explain": ["job", "explain", "a1f"],
    "job-cancel": ["job", "cancel", QUEUED],
    "job-migrate": ["job", "migrate", RUNNING, "malaga"],
    "job-migrate-dry-run": ["job", "migrate", RUNNING, "miami", "--dry-run"],
    "site-drain": ["site", "drain", "kiel"],
    "site-resume": ["site", "resume", "kiel"],
    "site-fence": ["site", "fence", "miami", "--confirm", "miami"],
}
# What their tables say depends on the time of day: how long a site has been silent.
TIMELESS = sorted(set(COMMANDS) - {"sites", "site-drain", "site-resume", "site-fence"})


def compare(name: str, printed: str) -> None:
    path = GOLDEN / name
    if os.environ.get("STERNA_REGOLD"):
        path.write_text(printed)
    assert printed == path.read_text(), f"{path} differs; STERNA_REGOLD=1 writes it anew"


@pytest.mark.parametrize("name", sorted(COMMANDS))
async def test_documents(name: str, config: Path) -> None:
    ended = await run(*COMMANDS[name], "--json", "--config", str(config))
    assert (ended.code, ended.err) == (0, "")
    document = json.loads(ended.out)
    assert list(document) == ["schema", "kind", "data"]
    assert document["schema"] == "sterna.cli/1"
    compare(f"{name}.json", ended.out)


@pytest.mark.parametrize("name", TIMELESS)
async def test_tables(name: str, config: Path) -> None:
    ended = await run(*COMMANDS[name], "--config", str(config))
    assert (ended.code, ended.err) == (0, "")
    assert "\x1b" not in ended.out, "colours where no terminal is"
    compare(f"{name}.txt", ended.out)


async def test_tables_that_look_at_the_clock(config: Path) -> None:
    ended = await run("sites", "--config", str(config))
    kiel, malaga, miami = (line.split() for line in ended.out.splitlines()[1:])
    assert kiel[:2] == ["kiel", "up"]
    limited = "(mqtt:dso-x) until 06-01 12:09; export 3.00 kW (modbus-wset) until 06-01 12:09"
    assert limited in " ".join(kiel)
    assert malaga[:3] == ["malaga", "up", "–"], "an unknown surplus is not 0 W"
    assert miami[:2] == ["miami", "silent"]


async def test_explain_prints_each_term_its_limit_and_what_would_mend_it(config: Path) -> None:
    ended = await run("job", "explain", RUNNING, "--config", str(config))
    assert "last decision, 2026-06-01 11:59:55 UTC, policy feasibility-aware: stay at kiel" in ended.out
    [time, *_] = [line for line in ended.out.splitlines() if line.startswith("time ")]
    assert time.split() == ["time", "12.0", "s", "118.8", "s", "ok"]
    [surplus] = [line for line in ended.out.splitlines() if line.startswith("surplus ") and " no " in line]
    assert surplus.rstrip().endswith("500 W more surplus")
    assert "  against: the site is not available" in ended.out.splitlines()


async def test_brackets_in_a_name_are_no_markup(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text('name = "[/x] [red]a:bug:"\nargv = ["x"]\npower_w = 1.0\ncheckpoint_bytes = 1\n')
    for words in (["job", "submit", str(file)], ["jobs"], ["status"]):
        ended = await run(*words, "--config", str(config))
        assert (ended.code, ended.err) == (0, "")
        assert " [/x] [red]a:bug:  queued " in ended.out


async def test_a_job_that_ended_is_explained_by_its_end(config: Path) -> None:
    ended = await run("job", "explain", DONE, "--config", str(config))
    assert ended.code == 0
    assert "no decision yet" in ended.out
    assert "judged now" not in ended.out


@pytest.mark.parametrize(
    ("deadline", "told"),
    [
        (
            "deadline_after_s = 7200.0",
            "2026-06-01 14:00:00 UTC; 1.5 h to spare",
        ),
        (
            "deadline_at = 2026-06-01T12:10:00Z",
            "2026-06-01 12:10:00 UTC; it ends 20 min late even if it runs from now on",
        ),
    ],
)
async def test_a_deadline_is_told_with_what_is_left_to_it(
    config: Path, tmp_path: Path, deadline: str, told: str
) -> None:
    file = tmp_path / "job.toml"
    file.write_text(f"declared_work_s = 1800.0\n{deadline}\n{JOB_FILE.read_text()}")
    submitted = await run("job", "submit", str(file), "--config", str(config))
    assert (submitted.code, submitted.err) == (0, "")
    job_id = submitted.out.splitlines()[1].split()[0]
    shown = await run("job", "show", job_id, "--config", str(config))
    explained = await run("job", "explain", job_id, "--config", str(config))
    for printed in (submitted.out, shown.out, explained.out):
        (line,) = [line for line in printed.splitlines() if line.startswith("deadline")]
        assert line.split(maxsplit=1)[1].rstrip() == told
    document = await run("job", "explain", job_id, "--json", "--config", str(config))
    assert json.loads(document.out)["data"]["deadline_slack_s"] == (
        5400.0 if "after" in deadline else -1200.0
    )
