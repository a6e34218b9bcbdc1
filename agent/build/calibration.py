"""Node power calibrated against the site's meter: what applies the factor, and what learns it."""

from collections.abc import Iterable
from functools import partial

from agent.build.base import LOOP_DEADLINE_S, Build
from agent.core.calibration import CalibrationSettings
from agent.devices.gpu_calibrated import CalibratedGpu
from agent.devices.gpu_ports import GpuProvider
from agent.model.readings import MeterRole, SitePower
from agent.store.calibration import MIGRATIONS, CalibrationStore
from agent.store.db import Database
from agent.tasks.calibration import Calibrator


async def calibrate_gpu(
    build: Build, gpu: GpuProvider, roles: Iterable[MeterRole], database: Database
) -> GpuProvider:
    """Make the GPU's watts those of the meter, by a factor that is fixed or learnt."""
    table = build.config.gpu.calibration
    if table.mode == "fixed":
        return CalibratedGpu(gpu, factor=partial(float, table.factor))
    await database.migrate(MIGRATIONS)
    calibrator = Calibrator(
        settings=CalibrationSettings(initial_factor=table.factor, min_step_w=table.min_step_w),
        roles=roles,
        sensors=build.config.gpu.kind,
        store=CalibrationStore(database),
    )
    await calibrator.recover()
    node = CalibratedGpu(gpu, factor=calibrator.factor)

    def take(power: SitePower) -> None:
        calibrator.take(power, node.rail_w)

    build.listeners.append(take)
    build.loops["calibration"] = partial(calibrator.run, build.pulse.heart("calibration", LOOP_DEADLINE_S))
    build.stack.push_async_callback(calibrator.save)
    return node
