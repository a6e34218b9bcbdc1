"""The node's GPU."""

from collections.abc import Iterable
from functools import partial

from agent.build.base import Build
from agent.devices.gpu import open_provider
from agent.devices.gpu_ports import GpuProvider
from agent.model.readings import MeterRole
from agent.store.db import Database


async def open_gpu(build: Build, roles: Iterable[MeterRole], database: Database) -> GpuProvider | None:
    """Open the node's GPU, its watts those of the site's meter; None: the site has none.

    Parameters
    ----------
    roles : iterable of MeterRole
        What the site has meters for.
    database : Database
        Keeps what was learnt of the GPU's sensors.
    """
    table = build.config.gpu
    if table.kind == "none":
        return None
    open_it = partial(
        open_provider,
        table.kind,
        clock=build.clock,
        idle_w=table.idle_w,
        max_w=table.max_w,
        compute_power_path=None if table.power_path is None else build.base_dir / table.power_path,
        rail_frac=table.fake_rail_frac,
        root=build.base_dir / table.root,
        power_socket=None if table.power_socket is None else build.base_dir / table.power_socket,
    )
    gpu: GpuProvider
    if table.kind == "fake":
        gpu = open_it()  # it is always there
    else:
        from agent.devices.gpu_late import LateGpu  # sites without such a GPU do not pay for it

        gpu = LateGpu(open_it, clock=build.clock)
    build.stack.callback(gpu.close)
    if table.calibration.mode == "off" or (table.calibration.mode == "auto" and table.kind == "fake"):
        return gpu
    from agent.build.calibration import calibrate_gpu

    return await calibrate_gpu(build, gpu, roles, database)
