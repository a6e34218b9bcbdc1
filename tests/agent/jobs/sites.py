"""Two sites with real stores and a real gRPC server each, on loopback."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc.aio

from agent.jobs.checkpoints import CheckpointStore
from agent.jobs.codec_worker import CodecWorker
from agent.jobs.transfer import Transfers
from agent.jobs.transfer_difference import DifferenceDesk
from agent.jobs.transfer_server import CheckpointServicer
from agent.model.jobs import Checkpoint
from agent.model.orders import Fetch, Offer
from sterna import rpc
from sterna.clock import SystemClock
from sterna.identity import Identity, Role
from sterna.ticket import Claims, mint, site_key

JOB = "job-1"
CHUNK_BYTES = 64 * 1024
SECRET = bytes(range(32))
FLEET = "test"


def site_of(context: "grpc.aio.ServicerContext") -> str | None:
    identity = rpc.peer_identity(context)
    return identity.name if identity else None


@dataclass
class Site:
    """One site; `restart` gives it new objects on the same disk."""

    name: str
    root: Path
    port: int = 0
    settings: dict = field(default_factory=dict)
    worker: CodecWorker | None = None
    store: CheckpointStore = field(init=False)
    transfers: Transfers = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        clock = SystemClock()
        self.store = CheckpointStore(self.root / self.name, clock, CHUNK_BYTES)
        quick = {"run_chunks": 4, "dial_s": 5.0, "stall_s": 1.0, "give_up_s": 10.0, "backoff_min_s": 0.01}
        self.transfers = Transfers(
            store=self.store,
            clock=clock,
            worker=self.worker,
            **{"open_channel": self.open_channel, **quick, **self.settings},
        )

    def open_channel(self, address: str, site_id: str) -> grpc.aio.Channel:
        claim = Identity(fleet=FLEET, role=Role.SITE, name=self.name)
        return rpc.open_channel(address, credentials=None, expected=None, insecure=True, claim=claim)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @asynccontextmanager
    async def serving(
        self, key: bytes | None = None, differences: DifferenceDesk | None = None
    ) -> AsyncIterator["Site"]:
        server = rpc.make_server()
        if differences is None and self.worker is not None:
            differences = DifferenceDesk(worker=self.worker, store=self.store)
        servicer = CheckpointServicer(
            site_id=self.name,
            store=self.store,
            arrivals=self.transfers.arrivals,
            clock=SystemClock(),
            ticket_key=lambda: key or site_key(SECRET, self.name),
            peer=site_of,
            stall_s=1.0,
            run_chunks=4,
            differences=differences,
        )
        servicer.add_to(server)
        self.port = rpc.bind(server, "127.0.0.1:0", credentials=None, insecure=True)
        await server.start()
        try:
            yield self
        finally:
            await server.stop(0)


def claims(checkpoint_id: str, holder: str = "harbor", receiver: str = "ridge", **changes) -> Claims:
    fields = {
        "checkpoint_id": checkpoint_id,
        "job_id": JOB,
        "holder": holder,
        "receiver": receiver,
        "expires_at": datetime.now(UTC) + timedelta(minutes=5),  # noqa: TID251 - as the coordinator does
        "max_bps": None,
    }
    return Claims(**{**fields, **changes})


def ticket(dialled: str, checkpoint_id: str, **changes) -> str:
    return mint(site_key(SECRET, dialled), claims(checkpoint_id, **changes))


def fetch_order(checkpoint_id: str, address: str | None, token: str, max_bps: float | None = None) -> Fetch:
    return Fetch(
        checkpoint_id=checkpoint_id,
        holder_site="harbor",
        holder_address=address,
        ticket=token,
        max_bps=max_bps,
    )


def offer_order(checkpoint_id: str, address: str, token: str) -> Offer:
    return Offer(
        checkpoint_id=checkpoint_id,
        receiver_site="ridge",
        receiver_address=address,
        ticket=token,
        max_bps=None,
    )


async def sealed(site: Site, folder: Path, sizes: dict[str, int] | None = None, step: int = 7) -> Checkpoint:
    source = folder / f"step-{step}"
    for name, size in (sizes or {"w.npz": 1_500_000, "m/opt.bin": 300_001, "e": 0, "n.json": 12}).items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    return await site.store.seal(JOB, 1, step, source)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
