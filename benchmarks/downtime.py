"""How long a job stands still when it moves: from the order to stop to its first new step, second by second.

A coordinator and two agents, as shipped, with mutual TLS on loopback; a trainer whose weights, moments and
random state make a checkpoint of the size asked for, or (`--trainer quick`) one that saves and loads as fast
as the disk. The agents keep the transfer at the plan's rate. Unless `--cold`, the destination is warmed: the
newest sealed checkpoint crosses while the job trains on. The times are those of the coordinator's events, the
shims' records, the agents' logs and the trainer's step log; all run on one machine. The last line is one JSON
object; null means not measured, with the reason beside it.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from agent.core.manifest import decode  # noqa: E402 - the tests are no package that is installed
from sterna.clock import SystemClock  # noqa: E402
from tests.system import harness  # noqa: E402
from tests.system.harness import System, Training  # noqa: E402

TRAINERS = ("simulator", "quick")
BYTES_PER_WEIGHT = 12
"""Weights and two moments, 4 bytes each."""
STEP_S = 0.5
"""Long steps: training must leave the processor to those who are measured."""
CHECKPOINT_EVERY = 120
"""Steps, a minute: an order to stop that finds the trainer saving would wait for two saves."""
COPIES = {"simulator": 9, "quick": 5}
"""Checkpoints that lie about at the most, at the stop and before the start; the quick one's weights count."""
SPARE_BYTES = 2_000_000_000
"""Of memory, for everything else on the machine."""
WITHIN_S = 900.0


def events_of(system: System, migration_id: str) -> list[tuple[str, str, float]]:
    """Kind, event and calendar seconds of a migration's events, in order."""
    found = []
    for kind, document in system.query("SELECT kind, body FROM events ORDER BY rowid"):
        event = json.loads(document)
        if event.get("migration_id") == migration_id:
            found.append((kind, str(event.get("event", "")), stamp_s(event["at"])))
    return found


def stamp_s(at: str) -> float:
    return datetime.fromisoformat(at.replace("Z", "+00:00")).astimezone(UTC).timestamp()


def boottime_to_calendar_s() -> float:
    clock = SystemClock()
    return clock.now().timestamp() - clock.boottime_s()


def parts(system: System, training: Training, migration_id: str) -> dict[str, float | None]:
    """Where each second went."""
    at_s = {event or kind: when_s for kind, event, when_s in events_of(system, migration_id)}
    offset_s = boottime_to_calendar_s()
    steps = [(entry.site, entry.boottime_s + offset_s) for entry in system.entries(training)]
    last_s = max(when_s for site, when_s in steps if site == "west")
    first_s = min(when_s for site, when_s in steps if site == "east")
    stop_s, seal_s = at_s["STOP"], at_s["MigrationSealed"]
    fetch_s, verify_s, commit_s = at_s["FETCH"], at_s["VERIFY"], at_s["MigrationCommitted"]
    ended_s = recorded_s(system, "west", "exit.json", "ended_s")
    started_s = recorded_s(system, "east", "shim.json", "child_started_s")
    stored_s = last_said_s(system, "east", "checkpoint stored")
    return {
        "save_s": less(ended_s, stop_s),
        "seal_s": less(seal_s, ended_s),
        "transfer_s": less(stored_s, fetch_s),
        "verify_s": less(verify_s, stored_s),
        "decide_s": (fetch_s - seal_s) + (commit_s - verify_s),
        "start_s": less(started_s, commit_s),
        "load_s": less(first_s, started_s),
        "total_s": first_s - stop_s,
        "beyond_transfer_s": less(first_s - stop_s, less(stored_s, fetch_s)),
        "beyond_transfer_and_trainer_s": less(
            first_s - stop_s, total(less(stored_s, fetch_s), less(ended_s, stop_s), less(first_s, started_s))
        ),
        "without_a_step_s": first_s - last_s,
    }


def less(one_s: float | None, other_s: float | None) -> float | None:
    return None if one_s is None or other_s is None else one_s - other_s


def total(*parts_s: float | None) -> float | None:
    return None if None in parts_s else sum(part_s for part_s in parts_s if part_s is not None)


def recorded_s(system: System, site: str, name: str, key: str) -> float | None:
    """Read a time that the newest shim of a site wrote down; calendar seconds."""
    found = sorted(
        (system.folder / f"state-{site}" / "jobs").glob(f"*/runs/*/{name}"),
        key=lambda path: path.stat().st_mtime,
    )
    if not found:
        return None
    boottime_s = json.loads(found[-1].read_text()).get(key)
    return None if boottime_s is None else float(boottime_s) + boottime_to_calendar_s()


def last_said_s(system: System, site: str, sentence: str) -> float | None:
    """When a site last said something; calendar seconds."""
    lines = [line for line in system[site].said().splitlines() if f'"{sentence}"' in line]
    return stamp_s(json.loads(lines[-1])["at"]) if lines else None


def phases(system: System, migration_id: str) -> list[str]:
    """The coordinator's events as it stored them, in seconds after the first."""
    events = events_of(system, migration_id)
    return [f"{when_s - events[0][2]:.2f} {event or kind}" for kind, event, when_s in events]


class QuickSystem(System):
    """A fleet whose jobs are those of `benchmarks/quick_trainer.py`."""

    def argv(self, training: Training) -> list[str]:
        return [
            *(sys.executable, str(ROOT / "benchmarks" / "quick_trainer.py")),
            *("--bytes", str(harness.PARAMS * BYTES_PER_WEIGHT), "--step-s", str(training.step_s)),
            *("--checkpoint-every", str(harness.CHECKPOINT_EVERY)),
            *("--step-log", str(self.step_log(training))),
        ]


async def measure(
    folder: Path, size_bytes: int, link_bps: float, *, ahead: bool, quick: bool
) -> dict[str, object]:
    harness.PARAMS = size_bytes // BYTES_PER_WEIGHT
    harness.CHECKPOINT_EVERY = CHECKPOINT_EVERY
    least_bytes = 1 if ahead else 10**15
    system = (QuickSystem if quick else System)(
        folder=folder,
        sites=("west", "east"),
        agents={site: {"log_style": "json"} for site in ("west", "east")},
        coordinator={
            "links": {"default_bps": link_bps},
            "migration": {"ahead_least_bytes": least_bytes, "ahead_least_transfer_s": 0.0 if ahead else 1e9},
        },
    )
    training = Training(name="downtime", home="west", steps=100_000, step_s=STEP_S, stop_grace_s=300.0)
    try:
        system.start()
        async with system.admin() as admin:
            await admin.connected()
            job_id = await admin.submit(training)
            await admin.trained(job_id, training, CHECKPOINT_EVERY + 1, within_s=WITHIN_S)

            def sealed() -> bool:
                return bool(
                    tuple((folder / "state-west/checkpoints/sealed" / job_id).glob("*/manifest.json"))
                )

            await admin.until(lambda: as_async(sealed()), within_s=WITHIN_S, what="a sealed checkpoint")
            await admin.move(job_id, "east")

            def at_east() -> bool:
                return any(entry.site == "east" for entry in system.entries(training))

            await admin.until(lambda: as_async(at_east()), within_s=WITHIN_S, what="a step at east")
            migration = await admin.migration(job_id)
        found = parts(system, training, migration.migration_id)
        sent = difference(system)
        manifests = (folder / "state-east/checkpoints/sealed" / job_id).glob("*/manifest.json")
        actual_bytes = max(decode(path.read_bytes()).size_bytes for path in manifests)
        rounded = {key: None if value is None else round(value, 2) for key, value in found.items()}
        was_ahead = any(
            kind == "MigrationSentAhead" for kind, _, _ in events_of(system, migration.migration_id)
        )
        return {
            "checkpoint_bytes": actual_bytes,
            "sent_ahead": was_ahead,
            "difference": sent,
            **rounded,
            "phases": phases(system, migration.migration_id),
        }
    finally:
        system.daemons.end_all()


def difference(system: System) -> dict[str, object] | None:
    """What the destination said of the last difference that it took; None: it took none."""
    lines = [line for line in system["east"].said().splitlines() if '"difference taken"' in line]
    return json.loads(lines[-1]) if lines else None


def room_bytes(folder: Path) -> int:
    """Return what a folder takes; in memory no more than the machine can spare."""
    free_bytes = shutil.disk_usage(folder).free
    if not folder.resolve().is_relative_to("/dev/shm"):
        return free_bytes
    lines = Path("/proc/meminfo").read_text().splitlines()
    (available_kib,) = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return min(free_bytes, int(available_kib) * 1024 - SPARE_BYTES)


def touch(folder: Path, size_bytes: int) -> None:
    """Fill and empty what will be needed of a folder in memory.

    A virtual machine gets its memory from the host when it first writes to it, at a tenth of its later speed;
    a training machine has long had it.
    """
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        piece = bytes(8 * 1024 * 1024)
        for _ in range(size_bytes // len(piece)):
            file.write(piece)


async def as_async(value: bool) -> bool:
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--size-mb", type=int, action="append", default=[], help="checkpoint, in MB; may repeat"
    )
    parser.add_argument("--link-gbps", type=float, default=1.0, help="the plan's rate")
    parser.add_argument(
        "--trainer", choices=TRAINERS, default="simulator", help="the slow one, or one that costs nothing"
    )
    parser.add_argument("--cold", action="store_true", help="nothing is sent ahead")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where files lie; tmpfs")
    arguments = parser.parse_args()
    sizes: dict[str, object] = {}
    for size_mb in arguments.size_mb or [100, 1000, 4000]:
        copies = COPIES[arguments.trainer]
        if room_bytes(arguments.folder) < copies * size_mb * 10**6:
            sizes[str(size_mb)] = {"total_s": None, "reason": f"no room for {copies} copies"}
            continue
        touch(arguments.folder, copies * size_mb * 10**6)
        with tempfile.TemporaryDirectory(prefix="sterna-down-", dir=arguments.folder) as folder:
            sizes[str(size_mb)] = asyncio.run(
                measure(
                    Path(folder),
                    size_mb * 10**6,
                    arguments.link_gbps * 1e9,
                    ahead=not arguments.cold,
                    quick=arguments.trainer == "quick",
                )
            )
        print(f"{size_mb} MB: {sizes[str(size_mb)]}", file=sys.stderr)
    result = {
        "benchmark": "downtime",
        "link_bps": arguments.link_gbps * 1e9,
        "sent_ahead": not arguments.cold,
        "trainer": arguments.trainer,
        "by_size_mb": sizes,
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
