"""What is declared while the export is limited."""

import json
from contextlib import AsyncExitStack
from pathlib import Path

from agent.build.base import Build
from agent.build.surplus import declare_curtailment
from agent.config import AgentConfig
from agent.core.commands import LimitRequest
from agent.core.exportlimit import W_SET, Standing, command, registers
from agent.tasks.clock_trust import ClockTrust
from agent.tasks.liaison import News
from agent.tasks.sense import Senses
from sterna.config import parse
from sterna.supervise import Pulse
from tests.agent.config.test_surplus import BASE, PLANT, RTU
from tests.agent.grid import operators
from tests.agent.grid.rtu_rig import Site

WMAX_W = 10_000.0


async def test_what_a_curtailed_plant_cannot_feed_in_is_declared(tmp_path: Path) -> None:
    grid = {"operator": "none", "modbus": RTU | {"listen": "127.0.0.1:0", "rated_export_w": WMAX_W}}
    document = BASE | PLANT | {"grid": grid, "surplus": {"curtailed_w": 3000.0}}
    config = parse(document, AgentConfig, name="agent.toml")
    site = Site(tmp_path / "agent.db")
    async with site.running(), AsyncExitStack() as stack:
        clock = site.clock
        build = Build(
            config=config,
            base_dir=tmp_path,
            clock=clock,
            stack=stack,
            pulse=Pulse(clock),
            clock_trust=ClockTrust(ask=lambda: True, always=False, synced=True),
        )
        senses = Senses(meters={}, gpu=None, clock=clock)
        news = News(desk=site.desk, senses=senses, control=None, uplink=None, clock=clock)  # type: ignore[arg-type]
        declare_curtailment(build, site.desk, news, 3000.0)
        assert news.declare(clock.now()) == ()
        off = registers(W_SET, Standing(limit=None), now_boot_s=0.0, rated_w=WMAX_W)
        written = {W_SET.switch: 1, W_SET.value: 4000, W_SET.timer: 900}
        request = command(W_SET, written, off, last=None, now=clock.now(), rated_w=WMAX_W)
        assert isinstance(request, LimitRequest)
        await site.desk.request("modbus-wset", request)
        [span] = news.declare(clock.now())
        assert (span.surplus_w, span.source) == (3000.0, "modbus-wset export limit")
        assert (span.end_at - clock.now()).total_seconds() == 900.0
        for link, told_w in (("openadr", None), ("mqtt", 12_000.0), ("mqtt", 1000.0)):
            sequence = (site.desk.last_sequence(f"{link}-export") or 0) + 1
            message = operators.limit(sequence, told_w or 1.0, now=clock.now(), kind="EXPORT_CAPACITY_LIMIT")
            await site.desk.limit(link, json.dumps(message).encode())
            sources = [span.source for span in news.declare(clock.now())]
            rows = ["mqtt-export export limit"] if told_w == 1000.0 else []
            assert sources == [*rows, "modbus-wset export limit"], "of the VTN the schedule tells itself"
        build.clock_trust.synced = False
        assert news.declare(clock.now()) == (), "nothing counts while the clock cannot be believed"
        assert site.desk.exports(), "but the limit holds"
