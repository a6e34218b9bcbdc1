"""What the ledger costs, in CPU milliseconds: a decision stored with and without its signed record, a slot of
telemetry booked, a record of an export checked. CPU, since the machine has other work.
"""

import argparse
import asyncio
import json
import tempfile
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import process_time

from coordinator.core import audit
from coordinator.core.energy_ledger import MeterSample, Stay, book, metered_course
from coordinator.core.ledger import PowerSample
from coordinator.model.decision import Alternative, Decision, DecisionKind, Term
from coordinator.store.database import Database, file_url
from coordinator.store.history import DecisionStore
from coordinator.store.records import PAGE, Recorder
from sterna import pki
from sterna.clock import SystemClock
from sterna.signing import load_signing_key, load_verifier

START = datetime(2030, 1, 1, tzinfo=UTC)
RUNS = 3


def decision(number: int) -> Decision:
    """Return a decision that weighed five sites."""
    terms = tuple(
        Term(name=name, value=1.25 * number, limit=2.5, unit="s", satisfied=True)
        for name in ("time", "energy", "slots", "gain")
    )
    sites = tuple(
        Alternative(site_id=f"site-{n}", feasible=True, score=1.0, terms=terms, rejections=("too short",))
        for n in range(5)
    )
    return Decision(
        job_id=f"job-{number}",
        decided_at=START,
        policy="sterna",
        kind=DecisionKind.STAY,
        source_site="site-0",
        target_site="site-0",
        reason="its site has surplus",
        alternatives=sites,
    )


async def stored_ms(store: DecisionStore, count: int) -> float:
    """Return the least CPU of several ticks with so many news, for each of them."""
    least_s = float("inf")
    for _ in range(RUNS):
        news = {uuid.uuid4().hex: decision(number) for number in range(count)}
        begun_s = process_time()
        await store.add(news)
        least_s = min(least_s, process_time() - begun_s)
    return 1e3 * least_s / count


def timed_ms(work: Callable[[], object]) -> float:
    least_s = float("inf")
    for _ in range(RUNS):
        begun_s = process_time()
        work()
        least_s = min(least_s, process_time() - begun_s)
    return 1e3 * least_s


def booking(jobs: int) -> Callable[[], object]:
    """Return what books an hour of telemetry at 1 Hz that so many jobs share."""
    samples = [
        MeterSample(
            power=PowerSample(at=START + timedelta(seconds=n), surplus_w=float(n % 700), compute_w=500.0)
        )
        for n in range(3600)
    ]
    stays = [Stay(job_id=str(n), start_s=10.0 * n, end_s=3600.0, weight_w=500.0) for n in range(jobs)]

    def work() -> object:
        end_at = START + timedelta(hours=1)
        course = metered_course(samples, start_at=START, end_at=end_at, hold_s=10.0, carbon_g_per_kwh=400.0)
        return book(course, stays)

    return work


async def exported(recorder: Recorder) -> list[bytes]:
    export = await recorder.export(None, None)
    lines: list[bytes] = []
    for first in range(export.first, export.first + export.count, PAGE):
        lines += await recorder.page(export, first)
    return [*lines, recorder.seal(export)]


async def measured(count: int, folder: Path) -> dict[str, float]:
    private, public = pki.make_signing_key(folder, "key")
    plain = Database(file_url(folder / "plain.db"))
    signed = Database(file_url(folder / "signed.db"))
    recorder = Recorder(database=signed, key=load_signing_key(private), fleet="bench", clock=SystemClock())
    unsigned_ms = await stored_ms(DecisionStore(plain), count)
    signed_ms = await stored_ms(DecisionStore(signed, recorder), count)
    lines = await exported(recorder)
    verify = load_verifier(public)
    report = audit.audit(lines, verify)
    assert not report.fault, report.fault
    figures = {
        "decision_ms": unsigned_ms,
        "decision_signed_ms": signed_ms,
        "verify_record_ms": timed_ms(lambda: audit.audit(lines, verify)) / report.records,
        "record_bytes": sum(map(len, lines)) / len(lines),
        "book_hour_10_jobs_ms": timed_ms(booking(10)),
    }
    plain.close()
    signed.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=1000, help="news of one tick")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measured(args.decisions, Path(folder)))
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
