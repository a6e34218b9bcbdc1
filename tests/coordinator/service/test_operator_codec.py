"""What operators are shown of a job, whose site's last word may be of an earlier stay, and of a site."""

import pytest

from coordinator.core.fleet import fold
from coordinator.model import events as ev
from coordinator.model.job import JobPhase
from coordinator.model.site import Capabilities, Quality, SiteBattery, SiteSample
from coordinator.service import operator_codec as codec
from coordinator.service.operator_ports import FleetPicture
from coordinator.service.site_decode import capabilities, samples
from sterna.v1 import site_service_pb2
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


def test_what_a_site_says_that_it_can_do_is_what_operators_are_told() -> None:
    said = Capabilities(
        slots=2,
        storage_free_bytes=3,
        idle_power_w=4.0,
        gpus=("gpu0",),
        can_cap=True,
        checkpoint_address="a:1",
        container_engines=("podman",),
        container_mounts=("data",),
        can_slow=True,
    )
    state = fold([ev.SiteSeen(at=NOW, site_id="a", capabilities=said)])
    picture = FleetPicture(at=NOW, policy="static", version=1, state=state, live={})
    assert capabilities(codec.site("a", picture).capabilities) == said


@pytest.mark.parametrize(
    "battery",
    [
        None,
        SiteBattery(),
        SiteBattery(
            soc_frac=0.0,
            capacity_wh=1e4,
            available_wh=0.0,
            max_charge_w=4e3,
            max_discharge_w=5e3,
            reserve_wh=500.0,
            serves_site=True,
        ),
    ],
)
def test_what_a_site_says_of_its_batteries_is_what_operators_are_told(battery: SiteBattery | None) -> None:
    said = SiteSample(measured_at=NOW, sequence=1, quality=Quality.OK, battery=battery)
    batch = site_service_pb2.TelemetryBatch(samples=[codec.telemetry(said)])
    assert samples(batch) == (said,)
