"""What operators are shown of a job, where the site's last word may be of an earlier stay."""

import pytest

from coordinator.core.fleet import fold
from coordinator.model.job import JobPhase
from coordinator.service import operator_codec as codec
from coordinator.service.operator_ports import FleetPicture
from tests.coordinator.core.histories import NOW, at_work, here, report


@pytest.mark.parametrize(("epoch", "shown"), [(1, True), (0, False)])
def test_a_step_is_of_this_stay(epoch: int, shown: bool) -> None:
    state = fold(at_work())
    live = here(a=report(JobPhase.RUNNING, epoch=epoch, step=325))
    picture = FleetPicture(at=NOW, policy="static", version=1, state=state, live=live)
    (job,) = state.jobs.values()
    message = codec.job(job, picture)
    assert message.owner_site == "a"
    assert (message.step if message.HasField("step") else None) == (325 if shown else None)
