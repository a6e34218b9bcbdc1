"""Registers per second of 32 healthy meters against a plain pymodbus loop, and what 4 dead ones cost them.

Both read the same 60 registers of the same simulated devices, which run in a process of their own. Ours reads
through `SharedBus`, as the agent does; the plain one is pymodbus alone, a loop that awaits each
`read_holding_registers`. They take turns, round by round, so that both see the same machine; the figure is
the median over rounds. Two layouts: each device at an address of its own (`registers_per_s`,
`plain_registers_per_s`) and all of them behind one gateway, where requests cannot overlap (`gateway_...`).

Latency, behind one gateway, where a dead unit can hold up others: every healthy unit is polled at 4 Hz by a
task of its own, in five phases with all 36 alive and five with 4 of them dead, in turns, each on a new bus
that knows no unit yet. The figure is the slowest healthy poll of a phase with the dead ones (the
median of the five) less that of a phase without; a phase's first round is left out. The last line is one
JSON object.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from multiprocessing import get_context
from multiprocessing.connection import Connection

from pymodbus.client import AsyncModbusTcpClient

from agent.devices.bus_shared import SharedBus
from agent.modbus import ModbusBus
from agent.modbus_server import RegisterDevice, RegisterServer
from sterna.clock import SystemClock
from sterna.errors import TransientError

HOST = "127.0.0.1"
HEALTHY, DEAD = tuple(range(1, 33)), tuple(range(33, 37))
FIRST, COUNT = 100, 60
PERIOD_S = 0.25
PHASES = 5


async def registers(address: int, count: int) -> Sequence[int]:
    return range(address, address + count)


async def serve(pipe: Connection) -> None:
    silent: set[int] = set()
    units = [RegisterDevice(unit=unit, spans={FIRST: COUNT}, read=registers) for unit in (*HEALTHY, *DEAD)]
    async with AsyncExitStack() as stack:
        gateway = RegisterServer(
            HOST, 0, units, outgoing=lambda unit, frame: b"" if unit in silent else frame
        )
        servers = [gateway, *(RegisterServer(HOST, 0, [unit]) for unit in units[: len(HEALTHY)])]
        for server in servers:
            await stack.enter_async_context(server)
        pipe.send([server.port for server in servers])
        while (told := await asyncio.to_thread(pipe.recv)) is not None:
            silent.clear()
            silent.update(told)
            pipe.send("done")


def server_process(pipe: Connection) -> None:
    asyncio.run(serve(pipe))


async def ours_round(buses: Sequence[SharedBus]) -> int:
    answers = await asyncio.gather(
        *(bus.read_holding(unit, FIRST, COUNT) for bus, unit in zip(buses, HEALTHY, strict=True))
    )
    return sum(len(answer) for answer in answers)


async def plain_round(clients: Sequence[AsyncModbusTcpClient]) -> int:
    got = 0
    for client, unit in zip(clients, HEALTHY, strict=True):
        answer = await client.read_holding_registers(FIRST, count=COUNT, device_id=unit)
        got += len(answer.registers)
    return got


async def throughput(ports: Sequence[int], seconds: float) -> tuple[float, float]:
    """Registers per second of ours and of the plain loop."""
    ours, plain = [], []
    clock = SystemClock()
    one_gateway = len(set(ports)) == 1
    clients = [AsyncModbusTcpClient(HOST, port=port) for port in dict.fromkeys(ports)]
    buses = [ModbusBus(HOST, port, clock=clock) for port in dict.fromkeys(ports)]
    shared = [SharedBus(bus, clock=clock) for bus in buses]
    if one_gateway:
        clients, shared = clients * len(HEALTHY), shared * len(HEALTHY)
    for client in dict.fromkeys(clients):
        await client.connect()
    await ours_round(shared), await plain_round(clients)
    until_s = time.perf_counter() + seconds
    while time.perf_counter() < until_s:
        begun_s = time.perf_counter()
        got = await ours_round(shared)
        middle_s = time.perf_counter()
        plain_got = await plain_round(clients)
        ours.append(got / (middle_s - begun_s))
        plain.append(plain_got / (time.perf_counter() - middle_s))
    for connection in (*clients, *buses):
        connection.close()
    return statistics.median(ours), statistics.median(plain)


async def latencies(port: int, seconds: float) -> dict[int, list[float]]:
    """Seconds of each answered poll, by unit, from the second round on."""
    seen: dict[int, list[float]] = {unit: [] for unit in (*HEALTHY, *DEAD)}
    clock = SystemClock()
    async with ModbusBus(HOST, port, clock=clock) as one:
        bus = SharedBus(one, clock=clock)
        loop = asyncio.get_running_loop()
        begin_s = loop.time()

        async def poll(unit: int) -> None:
            # Spread over the period, as meters that were started one after the other are.
            due_s = begin_s + PERIOD_S * (unit * 7 % 36) / 36
            while due_s < begin_s + seconds:
                await asyncio.sleep(due_s - loop.time())
                asked_s = loop.time()
                try:
                    await bus.read_holding(unit, FIRST, COUNT)
                    if due_s > begin_s + PERIOD_S:
                        seen[unit].append(loop.time() - asked_s)
                except TransientError:
                    pass
                due_s += PERIOD_S

        async with asyncio.TaskGroup() as group:
            for unit in seen:
                group.create_task(poll(unit))
    return seen


async def measure(ports: Sequence[int], pipe: Connection, seconds: float) -> dict[str, float]:
    gateway, own = ports[0], ports[1:]
    ours, plain = await throughput(own, seconds)
    print(f"an address each: {ours:.0f} registers/s, plain loop {plain:.0f}")
    ours_gateway, plain_gateway = await throughput([gateway] * len(HEALTHY), seconds)
    print(f"one gateway: {ours_gateway:.0f} registers/s, plain loop {plain_gateway:.0f}")
    worst: dict[bool, list[float]] = {False: [], True: []}
    polls = {False: 0, True: 0}
    for phase in range(2 * PHASES):
        dead = phase % 2 == 1
        pipe.send(DEAD if dead else ())
        pipe.recv()
        seen = await latencies(gateway, 2 * seconds / (2 * PHASES))
        worst[dead].append(max(max(seen[unit]) for unit in HEALTHY))
        polls[dead] += sum(len(seen[unit]) for unit in HEALTHY)
    alive_s, dead_s = statistics.median(worst[False]), statistics.median(worst[True])
    print(f"slowest poll of a phase {alive_s * 1e3:.1f} ms, with 4 dead {dead_s * 1e3:.1f} ms")
    print(f"healthy polls answered: {polls[False]}, with 4 dead {polls[True]}")
    return {
        "registers_per_s": round(ours),
        "plain_registers_per_s": round(plain),
        "worst_added_latency_ms": round(max(0.0, dead_s - alive_s) * 1e3, 1),
        "gateway_registers_per_s": round(ours_gateway),
        "gateway_plain_registers_per_s": round(plain_gateway),
        "worst_latency_ms": round(dead_s * 1e3, 1),
        "worst_latency_all_alive_ms": round(alive_s * 1e3, 1),
        "healthy_polls": polls[True],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each of the four measurements")
    seconds = parser.parse_args().seconds
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=server_process, args=(theirs,), daemon=True)
    server.start()
    try:
        result = asyncio.run(measure(ours.recv(), ours, seconds))
        ours.send(None)
        server.join(10)
    finally:
        server.kill()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
