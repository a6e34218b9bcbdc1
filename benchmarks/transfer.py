"""How fast a checkpoint moves between two agents over TLS on loopback, beside what carries it.

Every figure is measured in this run, one after the other, on tmpfs, holder and receiver in processes of their
own: the product (`CheckpointServicer` and `Transfers`), the same bytes over bare gRPC (raw and through the
generated class, nothing hashed, nothing stored), over a TLS socket, and rsync's daemon where it is installed.
The last line is one JSON object; null means not measured, with the reason beside it.
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
from collections.abc import Awaitable, Callable
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

import grpc
import grpc.aio

from agent.jobs.checkpoints import CheckpointStore
from agent.jobs.transfer import Transfers
from agent.jobs.transfer_server import CheckpointServicer
from agent.model.orders import Fetch
from sterna import pki, rpc
from sterna.clock import SystemClock
from sterna.identity import Credentials, Identity, Role, load_credentials
from sterna.ticket import Claims, mint, site_key
from sterna.v1 import checkpoint_service_pb2 as pb

MESSAGE_BYTES = 1024 * 1024
JOB = "bench"
SECRET = bytes(32)
GB = 1e9


def cpu_s() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


class Pki:
    """A throw-away CA and two sites."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
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
    asyncio.run(HOLDERS[kind](folder, keys, size_bytes, pipe))


async def hold(server: grpc.aio.Server, keys: Pki, pipe) -> None:
    port = rpc.bind(server, "127.0.0.1:0", credentials=keys.credentials("holder"))
    await server.start()
    before_s = cpu_s()
    pipe.send(port)
    await asyncio.to_thread(pipe.recv)
    await server.stop(0)
    pipe.send(cpu_s() - before_s)


async def hold_product(folder: Path, keys: Pki, size_bytes: int, pipe) -> None:
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
    await hold(server, keys, pipe)


def raw_server(serializer: Callable, make: Callable) -> Callable:
    async def hold_raw(folder: Path, keys: Pki, size_bytes: int, pipe) -> None:
        data = os.urandom(MESSAGE_BYTES)

        async def stream(request, context):
            for _ in range(size_bytes // MESSAGE_BYTES):
                yield make(data)

        server = rpc.make_server()
        handler = grpc.unary_stream_rpc_method_handler(stream, response_serializer=serializer)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("raw", {"Get": handler}),))
        await hold(server, keys, pipe)

    return hold_raw


async def hold_socket(folder: Path, keys: Pki, size_bytes: int, pipe) -> None:
    await asyncio.to_thread(serve_socket, keys, size_bytes, pipe)


def serve_socket(keys: Pki, size_bytes: int, pipe) -> None:
    _, cert, key = keys.paths("holder")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    data = os.urandom(MESSAGE_BYTES)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(listener.getsockname()[1])
        while listener_ready(listener, pipe):
            with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                for _ in range(size_bytes // MESSAGE_BYTES):
                    connection.sendall(data)
    pipe.recv()
    pipe.send(None)


def listener_ready(listener: socket.socket, pipe) -> bool:
    """True when somebody connects, False when the parent says that it is over."""
    from multiprocessing.connection import wait

    return pipe not in wait([listener, pipe])


HOLDERS = {
    "product": hold_product,
    "raw": raw_server(lambda data: data, lambda data: data),
    "message": raw_server(
        lambda message: message.SerializeToString(), lambda data: pb.ChunkResponse(data=data)
    ),
    "socket": hold_socket,
}


class Bench:
    def __init__(self, folder: Path, size_bytes: int, runs: int, streams: int) -> None:
        self.folder = folder
        self.size_bytes = size_bytes
        self.runs = runs
        self.streams = streams
        self.keys = Pki(folder / "pki")

    def with_holder(self, kind: str, receive: Callable[[int], Awaitable[float]]) -> tuple[list[float], float]:
        """MB/s of each run, and CPU seconds of both ends over all of them."""
        ours, theirs = get_context("spawn").Pipe()
        arguments = (self.folder, self.keys, kind, self.size_bytes, theirs)
        process = get_context("spawn").Process(target=holder_process, args=arguments)
        process.start()
        try:
            port = ours.recv()
            before_s = cpu_s()

            async def all_runs() -> list[float]:
                return [self.size_bytes / 1e6 / await receive(port) for _ in range(self.runs)]

            speeds = asyncio.run(all_runs())
            used_s = cpu_s() - before_s
            ours.send("over")
            used_s += ours.recv() or 0.0
        finally:
            process.join(10)
            if process.is_alive():
                process.kill()
        return speeds, used_s

    def channel(self, address: str, site_id: str) -> grpc.aio.Channel:
        return rpc.open_channel(
            address,
            credentials=self.keys.credentials("receiver"),
            expected=Identity(fleet="bench", role=Role.SITE, name=site_id),
        )

    def product(self) -> tuple[list[float], float]:
        async def seal() -> str:
            store = CheckpointStore(self.folder / "holder", SystemClock())
            source = self.folder / "step-1"
            source.mkdir()
            with (source / "weights.bin").open("wb") as file:
                for _ in range(self.size_bytes // MESSAGE_BYTES):
                    file.write(os.urandom(MESSAGE_BYTES))
            started_s = time.perf_counter()
            checkpoint = await store.seal(JOB, 1, 1, source)
            self.seal_mb_per_s = self.size_bytes / 1e6 / (time.perf_counter() - started_s)
            shutil.rmtree(source)
            return checkpoint.checkpoint_id

        checkpoint_id = asyncio.run(seal())
        claims = Claims(
            checkpoint_id=checkpoint_id,
            job_id=JOB,
            holder="holder",
            receiver="receiver",
            expires_at=SystemClock().now() + timedelta(hours=1),
        )
        token = mint(site_key(SECRET, "holder"), claims)
        self.lags_s: list[float] = []

        async def receive(port: int) -> float:
            store = CheckpointStore(self.folder / "receiver", SystemClock())
            transfers = Transfers(
                store=store, clock=SystemClock(), open_channel=self.channel, streams=self.streams
            )
            order = Fetch(
                checkpoint_id=checkpoint_id,
                holder_site="holder",
                holder_address=f"127.0.0.1:{port}",
                ticket=token,
                max_bps=None,
            )
            async with asyncio.TaskGroup() as group:
                ticking = group.create_task(tick(self.lags_s))
                result = await transfers.fetch(JOB, order, lambda done, total: None)
                ticking.cancel()
            await store.keep_newest(JOB, 0)
            return result.seconds

        return self.with_holder("product", receive)

    def grpc(self, kind: str, *, to_file: bool = False) -> tuple[list[float], float]:
        """Bare gRPC; with `to_file` the bytes are written where the product writes them, still not hashed."""
        target = self.folder / "raw-in"

        async def receive(port: int) -> float:
            parse = pb.ChunkResponse.FromString if kind == "message" else None
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

        return self.with_holder(kind, receive)

    def tls_socket(self) -> list[float]:
        context = ssl.create_default_context(cafile=str(self.keys.paths("receiver")[0]))
        context.check_hostname = False

        def pull(port: int) -> float:
            buffer = bytearray(MESSAGE_BYTES)
            with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as tls:
                started_s = time.perf_counter()
                received = 0
                while received < self.size_bytes:
                    received += tls.recv_into(buffer)
                return time.perf_counter() - started_s

        async def receive(port: int) -> float:
            return await asyncio.to_thread(pull, port)

        return self.with_holder("socket", receive)[0]

    def rsync(self) -> tuple[float | None, str]:
        """The rsync daemon over plain TCP, whole file, no compression."""
        program = shutil.which("rsync")
        if program is None:
            return None, "rsync is not installed"
        source = self.folder / "rsync"
        source.mkdir()
        with (source / "weights.bin").open("wb") as file:
            for _ in range(self.size_bytes // MESSAGE_BYTES):
                file.write(os.urandom(MESSAGE_BYTES))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        config = self.folder / "rsyncd.conf"
        config.write_text(
            f"use chroot = no\naddress = 127.0.0.1\nport = {port}\n[bench]\npath = {source}\n", "utf-8"
        )
        daemon = subprocess.Popen([program, "--daemon", "--no-detach", f"--config={config}"])
        try:
            speeds = []
            for _ in range(self.runs):
                target = self.folder / "rsync-in"
                wait_for_port(port)
                started_s = time.perf_counter()
                url = f"rsync://127.0.0.1:{port}/bench/weights.bin"
                subprocess.run([program, "-W", url, str(target)], check=True)
                speeds.append(self.size_bytes / 1e6 / (time.perf_counter() - started_s))
                target.unlink()
        finally:
            daemon.terminate()
            daemon.wait(10)
            shutil.rmtree(source)
        return statistics.median(speeds), ""


def wait_for_port(port: int) -> None:
    deadline_s = time.perf_counter() + 5
    while time.perf_counter() < deadline_s:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)


async def tick(lags_s: list[float]) -> None:
    """How much later than asked the event loop of the receiver comes round."""
    while True:
        asked_s = time.perf_counter()
        await asyncio.sleep(0.005)
        lags_s.append(time.perf_counter() - asked_s - 0.005)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-gb", type=float, default=1.0, help="checkpoint, in GB (1e9 bytes)")
    parser.add_argument("--runs", type=int, default=3, help="of each; the median counts")
    parser.add_argument("--streams", type=int, default=2, help="connections of the product")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where files lie; tmpfs")
    arguments = parser.parse_args()
    size_bytes = max(1, round(arguments.size_gb * GB / MESSAGE_BYTES)) * MESSAGE_BYTES
    with tempfile.TemporaryDirectory(prefix="sterna-bench-", dir=arguments.folder) as folder:
        bench = Bench(Path(folder), size_bytes, arguments.runs, arguments.streams)
        raw_speeds, raw_used_s = bench.grpc("raw")
        stored_speeds, stored_used_s = bench.grpc("raw", to_file=True)
        speeds, used_s = bench.product()
        raw = statistics.median(raw_speeds)
        message = statistics.median(bench.grpc("message")[0])
        tls = statistics.median(bench.tls_socket())
        shutil.rmtree(bench.folder / "holder")
        rsync, why_not = bench.rsync()
    ours = statistics.median(speeds)
    lags_s = sorted(bench.lags_s)
    result = {
        "benchmark": "transfer",
        "size_bytes": size_bytes,
        "runs": arguments.runs,
        "streams": arguments.streams,
        "mb_per_s": round(ours, 1),
        "mb_per_s_all": [round(speed, 1) for speed in speeds],
        "cpu_s_per_gb": round(used_s / (size_bytes * arguments.runs / GB), 2),
        "grpc_raw_mb_per_s": round(raw, 1),
        "grpc_raw_mb_per_s_all": [round(speed, 1) for speed in raw_speeds],
        "grpc_raw_cpu_s_per_gb": round(raw_used_s / (size_bytes * arguments.runs / GB), 2),
        "grpc_raw_to_file_mb_per_s": round(statistics.median(stored_speeds), 1),
        "grpc_raw_to_file_cpu_s_per_gb": round(stored_used_s / (size_bytes * arguments.runs / GB), 2),
        "grpc_message_mb_per_s": round(message, 1),
        "tls_socket_mb_per_s": round(tls, 1),
        "rsync_mb_per_s": None if rsync is None else round(rsync, 1),
        "rsync_reason": why_not,
        "delayed_link_frac": None,
        "delayed_link_reason": "not measured yet",
        "frac_of_grpc_raw": round(ours / raw, 3),
        "frac_of_grpc_raw_to_file": round(ours / statistics.median(stored_speeds), 3),
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
        "seal_mb_per_s": round(bench.seal_mb_per_s, 1),
        "loop_lag_p99_ms": round(1e3 * lags_s[int(0.99 * (len(lags_s) - 1))], 2),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
