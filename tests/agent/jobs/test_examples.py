"""What we show as an example is run as a job."""

import sys
from pathlib import Path

from agent.model.jobs import JobPhase as P
from agent.model.jobs import JobSpec
from agent.model.orders import Start, Stop
from coordinator.cli.jobfile import JobFile
from sterna.config import load
from tests.agent.jobs.conftest import Site
from tests.waiting import until

EXAMPLES = Path(__file__).parents[3] / "examples"


async def test_the_example_stops_and_resumes(site: Site) -> None:
    spec = JobSpec(name="line", argv=(sys.executable, str(EXAMPLES / "train.py")))
    await site.order(Start(spec=spec, checkpoint_id=None, lease_ttl_s=None))
    await until(lambda: (report := site.report()) and (report.step or 0) >= 5)
    await site.order(Stop(reason="moves", cancel=False))
    sealed = await site.phase(P.SEALED)
    assert sealed.checkpoints[0].manifest.step == sealed.step
    await site.order(Start(spec=spec, checkpoint_id=None, lease_ttl_s=None), epoch=2)
    await until(lambda: (report := site.report()) and (report.step or 0) > (sealed.step or 0))
    report = site.report()
    assert report is not None
    assert report.start_step == sealed.step


def test_the_example_job_file_is_valid() -> None:
    assert load(EXAMPLES / "job.toml", JobFile).name == "fit-a-line"
