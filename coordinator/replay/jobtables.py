"""What a scenario file says of kinds of jobs: pieces of a checkpoint, replicas, how slow jobs may be."""

from typing import Annotated

import msgspec

from coordinator.model.job import SlowRange


class PieceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a checkpoint: its share of the bytes; see `coordinator.core.partial.Piece` for the rest."""

    name: str
    share: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
    change_frac: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 1.0
    stays: bool = False


class KindTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A kind of job by the pieces of its checkpoint; none: it moves as a whole."""

    name: str
    pieces: tuple[PieceTable, ...] = ()


class ReplicasTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every n-th job of a trace is distributed.

    `sync_share`: what a replica contributes to an exchange, as a share of its checkpoint; `steps`: of a
    replica between two exchanges, each of `step_s`; `efficiency`: see `coordinator.model.replication`.
    """

    every: Annotated[int, msgspec.Meta(ge=1)]
    least: int
    most: int
    sync_share: Annotated[float, msgspec.Meta(ge=0.0)]
    steps: Annotated[int, msgspec.Meta(ge=1)]
    step_s: Annotated[float, msgspec.Meta(gt=0.0)]
    efficiency: tuple[float, ...]


class SlowTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Jobs may be slowed; see `coordinator.model.job.SlowRange`."""

    power_frac: float
    speed_frac: float

    def range(self) -> SlowRange:
        """Return it as a value."""
        return SlowRange(power_frac=self.power_frac, speed_frac=self.speed_frac)
