"""How a distributed job trains: replicas that go their own way and now and then exchange what they learnt."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Replication:
    """Local-update training of one job: each replica makes its own steps, at the end of a round all exchange.

    Parameters
    ----------
    least, most : int
        How many replicas are to run, 1 <= least <= most.
    sync_bytes : int
        What a replica contributes to an exchange, in bytes, >= 0.
    round_s : float
        Training between two exchanges, in seconds: the steps of a round times the length of a step; > 0.
    efficiency : tuple of float
        Work of a second of training per replica, by how many train together, the first for one: above 0, at
        most 1, as many as `most`. What a job loses (or not) by synchronising seldom is its owner's to state.
    """

    least: int
    most: int
    sync_bytes: int
    round_s: float
    efficiency: tuple[float, ...]

    def __post_init__(self) -> None:
        faults = [
            f"{name} {value}: expected {allowed}"
            for name, value, good, allowed in (
                ("least", self.least, self.least >= 1, "1 or more"),
                ("most", self.most, self.most >= self.least, f"{self.least} (least) or more"),
                ("sync_bytes", self.sync_bytes, self.sync_bytes >= 0, "0 or more"),
                ("round_s", self.round_s, self.round_s > 0.0, "above 0"),
                (
                    "efficiency",
                    self.efficiency,
                    len(self.efficiency) == self.most and all(0.0 < one <= 1.0 for one in self.efficiency),
                    f"{self.most} figures (most) above 0, at most 1",
                ),
            )
            if not good
        ]
        if faults:
            raise ValueError("; ".join(faults))
