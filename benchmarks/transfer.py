"""How fast a checkpoint moves between two agents over TLS on loopback, beside what carries it.

Everything is measured in this run on tmpfs, each holder and each receiver in a process of its own: the
product (`CheckpointServicer` and `Transfers`, with the agent's setting of the heap), the same bytes over bare
gRPC (raw and through the generated class, nothing hashed, nothing stored), over a TLS socket, rsync's daemon
where it is installed, and the product and a TLS socket over a link of 1 Gbps and 80 ms. The machine is noisy,
so they take turns in short rounds: medians are compared, and of the ratios that of each round. The last line
is one JSON object; null means not measured, with the reason beside it.
"""

import argparse
import asyncio
import json
import os
import resource
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from typing import Self

import grpc
import grpc.aio

sys.path.insert(0, str(Path(__file__).resolve().parent))
from slow_link import SlowLink

from agent.jobs.checkpoints import CheckpointStore
from agent.jobs.transfer import Transfers
from agent.jobs.transfer_server import CheckpointServicer
from agent.model.orders import Fetch
from sterna import pki, rpc
from sterna.clock import SystemClock
from sterna.heap import share_one_heap
from sterna.identity import Credentials, Identity, Role, load_credentials
from sterna.ticket import Claims, mint, site_key
from sterna.v1 import checkpoint_service_pb2 as pb

MESSAGE_BYTES = 1024 * 1024
JOB = "bench"
SECRET = bytes(32)
GB = 1e9
LINK_BPS = 1e9
LINK_DELAY_S = 0.04
"""One way: 80 ms there and back."""


def cpu_s(*, children: bool = False) -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Pki:
    """A throw-away CA and two sites."""

    def __init__(self, folder: Path) -> None:
        pki.init(folder, "bench")
        self.files = {
            name: pki.issue(folder, Role.SITE, name, ("127.0.0.1",)) for name in ("holder", "receiver")
        }

    def credentials(self, name: str) -> Credentials:
        ca_file, cert_file, key_file = self.paths(name)
        return load_credentials(
            ca_file=ca_file, cert_file=cert_file, key_file=key_file, now=SystemClock().now()
        )

    def paths(self, name: str) -> tuple[Path, Path, Path]:
        files = self.files[name]
        return files.ca_file, files.cert_file, files.key_file


def holder_process(folder: Path, keys: Pki, kind: str, size_bytes: int, pipe) -> None:
    if kind == "product":
        share_one_heap()
    if kind == "socket":
        serve_socket(keys, size_bytes, pipe)
    else:
        asyncio.run(hold(folder, keys, kind, size_bytes, pipe))


async def hold(folder: Path, keys: Pki, kind: str, size_bytes: int, pipe) -> None:
    server = HOLDERS[kind](folder, size_bytes)
    port = rpc.bind(server, "127.0.0.1:0", credentials=keys.credentials("holder"))
    await server.start()
    pipe.send(port)
    while await asyncio.to_thread(pipe.recv) == "cpu":
        pipe.send(cpu_s())
    await server.stop(0)


def hold_product(folder: Path, size_bytes: int) -> grpc.aio.Server:
    clock = SystemClock()
    server = rpc.make_server()
    store = CheckpointStore(folder / "holder", clock)
    CheckpointServicer(
        site_id="holder",
        store=store,
        arrivals=Transfers(store=store, clock=clock, open_channel=None).arrivals,
        clock=clock,
        ticket_key=lambda: site_key(SECRET, "holder"),
        peer=lambda context: rpc.peer_identity(context).name,
    ).add_to(server)
    return server


def raw_server(serializer: Callable, make: Callable) -> Callable:
    def hold_raw(folder: Path, size_bytes: int) -> grpc.aio.Server:
        data = os.urandom(MESSAGE_BYTES)

        async def stream(request, context):
            for _ in range(size_bytes // MESSAGE_BYTES):
                yield make(data)

        server = rpc.make_server()
        handler = grpc.unary_stream_rpc_method_handler(stream, response_serializer=serializer)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("raw", {"Get": handler}),))
        return server

    return hold_raw


def serve_socket(keys: Pki, size_bytes: int, pipe) -> None:
    _, cert, key = keys.paths("holder")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    data = os.urandom(MESSAGE_BYTES)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(listener.getsockname()[1])
        while True:
            if pipe in wait([listener, pipe]):
                if pipe.recv() != "cpu":
                    return
                pipe.send(cpu_s())
                continue
            with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                for _ in range(size_bytes // MESSAGE_BYTES):
                    connection.sendall(data)


HOLDERS = {
    "product": hold_product,
    "raw": raw_server(lambda data: data, lambda data: data),
    "message": raw_server(
        lambda message: message.SerializeToString(), lambda data: pb.ChunkResponse(data=data)
    ),
}


class Party:
    """A process of one end, which a pipe tells what to do; a context."""

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=target, args=(*arguments, theirs))

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send("over")
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()

    def cpu_s(self) -> float:
        self._pipe.send("cpu")
        return self._pipe.recv()


class Holder(Party):
    """Holds what is fetched."""

    def __init__(self, folder: Path, keys: Pki, kind: str, size_bytes: int) -> None:
        super().__init__(holder_process, folder, keys, kind, size_bytes)
        self.port = 0

    def __enter__(self) -> Self:
        super().__enter__()
        self.port = self._pipe.recv()
        return self


def receiver_process(bench: "Bench", kind: str, pipe) -> None:
    if kind == "product":
        share_one_heap()
    bench.open()
    while (asked := pipe.recv()) != "over":
        if asked == "cpu":
            pipe.send(cpu_s())
        else:
            method, arguments = asked
            pipe.send((getattr(bench, method)(*arguments), bench.lags_s))


class Receiver(Party):
    """Fetches from a holder."""

    def __init__(self, bench: "Bench", kind: str) -> None:
        super().__init__(receiver_process, bench, kind)
        self.lags_s: list[float] = []

    def do(self, method: str, *arguments: object) -> float:
        """Run a method of `Bench` there; return its seconds."""
        self._pipe.send((method, arguments))
        seconds, self.lags_s = self._pipe.recv()
        return seconds


@dataclass
class Runner:
    """One way to bring the bytes here, and what came of it."""

    receive: Callable[[], float]
    """Returns seconds."""
    ends: tuple[Holder | Receiver, ...]
    """Whose processor time counts; none: not known."""
    mb_per_s: list[float] = field(default_factory=list)
    cpu_s: float | None = 0.0
    """Of both ends, over all rounds; None: not known."""

    def round(self, size_bytes: int) -> None:
        before_s = sum(end.cpu_s() for end in self.ends)
        self.mb_per_s.append(size_bytes / 1e6 / self.receive())
        spent_s = sum(end.cpu_s() for end in self.ends) - before_s
        self.cpu_s = self.cpu_s + spent_s if self.ends else None

    def median(self) -> float:
        return statistics.median(self.mb_per_s)


class Bench:
    def __init__(self, folder: Path, size_bytes: int, streams: int) -> None:
        self.folder = folder
        self.size_bytes = size_bytes
        self.streams = streams
        self.keys = Pki(folder / "pki")
        self.lags_s: list[float] = []
        self.loop: asyncio.Runner | None = None

    def open(self) -> None:
        """Make the loop, in the process that uses it; one for all: grpc.aio holds on to the first it sees."""
        self.loop = asyncio.Runner()

    def holder(self, kind: str, size_bytes: int | None = None) -> Holder:
        return Holder(self.folder, self.keys, kind, size_bytes or self.size_bytes)

    def channel(self, address: str, site_id: str) -> grpc.aio.Channel:
        return rpc.open_channel(
            address,
            credentials=self.keys.credentials("receiver"),
            expected=Identity(fleet="bench", role=Role.SITE, name=site_id),
        )

    def write_weights(self, folder: Path, size_bytes: int) -> Path:
        folder.mkdir()
        with (folder / "weights.bin").open("wb") as file:
            for _ in range(size_bytes // MESSAGE_BYTES):
                file.write(os.urandom(MESSAGE_BYTES))
        return folder

    def seal(self, step: int, size_bytes: int) -> tuple[str, float]:
        """Seal a checkpoint at the holder; return its id and MB/s."""
        source = self.write_weights(self.folder / f"step-{step}", size_bytes)
        store = CheckpointStore(self.folder / "holder", SystemClock())
        started_s = time.perf_counter()
        checkpoint = asyncio.run(store.seal(JOB, 1, step, source))
        mb_per_s = size_bytes / 1e6 / (time.perf_counter() - started_s)
        shutil.rmtree(source)
        return checkpoint.checkpoint_id, mb_per_s

    def product(self, port: int, checkpoint_id: str) -> float:
        """Fetch it, verified and durable, and let it go again."""
        claims = Claims(
            checkpoint_id=checkpoint_id,
            job_id=JOB,
            holder="holder",
            receiver="receiver",
            expires_at=SystemClock().now() + timedelta(hours=1),
        )
        order = Fetch(
            checkpoint_id=checkpoint_id,
            holder_site="holder",
            holder_address=f"127.0.0.1:{port}",
            ticket=mint(site_key(SECRET, "holder"), claims),
            max_bps=None,
        )

        async def receive() -> float:
            store = CheckpointStore(self.folder / "receiver", SystemClock())
            transfers = Transfers(
                store=store, clock=SystemClock(), open_channel=self.channel, streams=self.streams
            )
            async with asyncio.TaskGroup() as group:
                ticking = group.create_task(tick(self.lags_s))
                result = await transfers.fetch(JOB, order, lambda done, total: None)
                ticking.cancel()
            await store.keep_newest(JOB, 0)
            return result.seconds

        return self.loop.run(receive())

    def grpc(self, port: int, generated: bool = False, to_file: bool = False) -> float:
        """Bare gRPC; with `to_file` the bytes are written where the product writes them, still not hashed."""
        target = self.folder / "raw-in"
        parse = pb.ChunkResponse.FromString if generated else None

        async def receive() -> float:
            channel = self.channel(f"127.0.0.1:{port}", "holder")
            await channel.channel_ready()
            started_s = time.perf_counter()
            received = 0
            with target.open("wb", buffering=0) as file:
                async for message in channel.unary_stream("/raw/Get", response_deserializer=parse)(b""):
                    received += len(message.data if parse else message)
                    if to_file:
                        await asyncio.to_thread(file.write, message)
            seconds = time.perf_counter() - started_s
            target.unlink()
            assert received == self.size_bytes
            await channel.close()
            return seconds

        return self.loop.run(receive())

    def tls_socket(self, port: int, size_bytes: int) -> float:
        context = ssl.create_default_context(cafile=str(self.keys.paths("receiver")[0]))
        context.check_hostname = False
        buffer = bytearray(MESSAGE_BYTES)
        with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as tls:
            started_s = time.perf_counter()
            received = 0
            while received < size_bytes:
                received += tls.recv_into(buffer)
            return time.perf_counter() - started_s

    def rsync(self, port: int) -> float:
        """The rsync daemon over plain TCP, whole file, no compression."""
        target = self.folder / "rsync-in"
        started_s = time.perf_counter()
        subprocess.run(
            ["rsync", "-W", f"rsync://127.0.0.1:{port}/bench/weights.bin", str(target)], check=True
        )
        seconds = time.perf_counter() - started_s
        assert target.stat().st_size == self.size_bytes
        target.unlink()
        return seconds


class RsyncDaemon:
    """Serves the very file that the product serves; a context."""

    def __init__(self, folder: Path, served: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self._config = folder / "rsyncd.conf"
        self._config.write_text(
            f"use chroot = no\naddress = 127.0.0.1\nport = {self.port}\n[bench]\npath = {served}\n", "utf-8"
        )

    def __enter__(self) -> "RsyncDaemon":
        self._process = subprocess.Popen(["rsync", "--daemon", "--no-detach", f"--config={self._config}"])
        deadline_s = time.perf_counter() + 10
        while time.perf_counter() < deadline_s:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)


async def tick(lags_s: list[float]) -> None:
    """How much later than asked the event loop of the receiver comes round."""
    while True:
        asked_s = time.perf_counter()
        await asyncio.sleep(0.005)
        lags_s.append(time.perf_counter() - asked_s - 0.005)


def measure_here(bench: Bench, rounds: int, only: set[str]) -> tuple[dict[str, Runner], float]:
    """Everybody takes turns on loopback; return the runners and the speed of sealing."""
    runners: dict[str, Runner] = {}
    checkpoint_id, seal_mb_per_s = bench.seal(1, bench.size_bytes)
    with ExitStack() as stack:

        def runner(kind: str, method: str, *arguments: object) -> Runner:
            holder = stack.enter_context(bench.holder(kind))
            receiver = stack.enter_context(Receiver(bench, kind))
            return Runner(partial(receiver.do, method, holder.port, *arguments), (holder, receiver))

        runners["grpc_raw"] = runner("raw", "grpc")
        runners["product"] = runner("product", "product", checkpoint_id)
        runners["grpc_raw_to_file"] = runner("raw", "grpc", False, True)
        if shutil.which("rsync"):
            served = bench.folder / "holder" / "sealed" / JOB / checkpoint_id / "files" / "step-1"
            rsync = stack.enter_context(RsyncDaemon(bench.folder, served))
            runners["rsync"] = Runner(lambda: bench.rsync(rsync.port), ())
        runners["grpc_message"] = runner("message", "grpc", True)
        runners["tls_socket"] = runner("socket", "tls_socket", bench.size_bytes)
        runners = {name: runner for name, runner in runners.items() if not only or name in only}
        for number in range(rounds):
            for name, runner in runners.items():
                runner.round(bench.size_bytes)
                print(f"round {number + 1}: {name} {runner.mb_per_s[-1]:.0f} MB/s", file=sys.stderr)
    return runners, seal_mb_per_s


def measure_link(bench: Bench, size_bytes: int, rounds: int) -> dict[str, Runner]:
    """The product and a TLS socket in turns over the slow link."""
    checkpoint_id, _ = bench.seal(2, size_bytes)
    with ExitStack() as stack:
        runners = {}
        for kind, method, argument in (
            ("product", "product", checkpoint_id),
            ("socket", "tls_socket", size_bytes),
        ):
            holder = stack.enter_context(bench.holder(kind, size_bytes))
            port = stack.enter_context(SlowLink(holder.port, LINK_BPS, LINK_DELAY_S))
            receiver = stack.enter_context(Receiver(bench, kind))
            runners[method] = Runner(partial(receiver.do, method, port, argument), (holder, receiver))
        for number in range(rounds):
            for name, runner in runners.items():
                runner.round(size_bytes)
                print(f"round {number + 1}, link: {name} {runner.mb_per_s[-1]:.0f} MB/s", file=sys.stderr)
    return runners


def ratio(one: Runner, other: Runner) -> float:
    """The median of the rounds' ratios: noise that lasts longer than a round falls on both."""
    return round(statistics.median(a / b for a, b in zip(one.mb_per_s, other.mb_per_s, strict=True)), 3)


def figures(bench: Bench, here: dict[str, Runner], rounds: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, runner in here.items():
        prefix = "" if name == "product" else f"{name}_"
        found[f"{prefix}mb_per_s"] = round(runner.median(), 1)
        found[f"{prefix}mb_per_s_all"] = [round(speed, 1) for speed in runner.mb_per_s]
        if runner.cpu_s is not None:
            found[f"{prefix}cpu_s_per_gb"] = round(runner.cpu_s / (bench.size_bytes * rounds / GB), 2)
        if name != "product" and "product" in here:
            found[f"frac_of_{name}"] = ratio(here["product"], runner)
    if "rsync" not in here:
        found |= {"rsync_mb_per_s": None, "rsync_reason": "rsync is not installed"}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-gb", type=float, default=1.0, help="checkpoint, in GB (1e9 bytes)")
    parser.add_argument("--runs", type=int, default=3, help="rounds of each; the median counts")
    parser.add_argument("--streams", type=int, default=2, help="connections of the product")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where files lie; tmpfs")
    parser.add_argument("--link-gb", type=float, default=1.0, help="sent over the slow link; 0: nothing")
    parser.add_argument("--only", action="append", default=[], help="of the competitors, for profiling")
    arguments = parser.parse_args()
    size_bytes = max(1, round(arguments.size_gb * GB / MESSAGE_BYTES)) * MESSAGE_BYTES
    link_bytes = round(arguments.link_gb * GB / MESSAGE_BYTES) * MESSAGE_BYTES
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="sterna-bench-", dir=arguments.folder) as folder:
        bench = Bench(Path(folder), size_bytes, arguments.streams)
        here, seal_mb_per_s = measure_here(bench, arguments.runs, set(arguments.only))
        shutil.rmtree(bench.folder / "holder")
        lags_s = sorted(here["product"].ends[1].lags_s) if "product" in here else []
        result = {
            "benchmark": "transfer",
            "size_bytes": size_bytes,
            "runs": arguments.runs,
            "streams": arguments.streams,
            **figures(bench, here, arguments.runs),
            "seal_mb_per_s": round(seal_mb_per_s, 1),
            "loop_lag_p99_ms": round(1e3 * lags_s[int(0.99 * (len(lags_s) - 1))], 2) if lags_s else None,
            "delayed_link_frac": None,
            "delayed_link_reason": "--link-gb 0",
        }
        if link_bytes:
            link = measure_link(bench, link_bytes, arguments.runs)
            result |= {
                "delayed_link_frac": round(link["product"].median() * 8e6 / LINK_BPS, 3),
                "delayed_link_reason": "",
                "delayed_link_bytes": link_bytes,
                "delayed_link_mb_per_s_all": [round(speed, 1) for speed in link["product"].mb_per_s],
                "delayed_link_tls_socket_frac": round(link["tls_socket"].median() * 8e6 / LINK_BPS, 3),
            }
    result |= {
        "cores": os.cpu_count(),
        "load_1min": [round(load_before, 2), round(os.getloadavg()[0], 2)],
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
