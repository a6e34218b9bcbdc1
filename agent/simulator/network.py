"""The simulator's network: a multilayer perceptron, Adam, a teacher's data stream; bit-exact on resume.

The only module of the simulator's trainer that imports numpy; set OPENBLAS_NUM_THREADS first.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sterna.errors import CorruptError

Floats = NDArray[np.float32]

INPUTS, OUTPUTS, BATCH = 32, 8, 16
RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8
NOISE = 0.05
STATE, META = "state.npz", "meta.json"


class Training:
    """One training, from its first step or from a checkpoint.

    Parameters
    ----------
    seed : int
        Decides teacher, data, noise and first weights.
    params : int
        Number of weights, about; they go into two hidden layers of equal width.
    """

    def __init__(self, *, seed: int, params: int) -> None:
        self.step = 0
        self._seed = seed
        self._cursor = 0
        width = max(8, int((-(INPUTS + OUTPUTS) + ((INPUTS + OUTPUTS) ** 2 + 4 * params) ** 0.5) / 2))
        self._shapes = ((INPUTS, width), (width, width), (width, OUTPUTS))
        count = sum(rows * columns for rows, columns in self._shapes)
        self._rng = np.random.Generator(np.random.PCG64(seed))
        teacher = np.random.Generator(np.random.PCG64(seed + 1))
        self._teacher = teacher.standard_normal((INPUTS, OUTPUTS), dtype=np.float32)
        self._weights: Floats = np.empty(count, np.float32)
        for layer in self._layers(self._weights):
            layer[:] = self._rng.standard_normal(layer.shape, dtype=np.float32) / np.sqrt(
                np.float32(layer.shape[0])
            )
        self._first: Floats = np.zeros(count, np.float32)
        self._second: Floats = np.zeros(count, np.float32)
        self._gradient: Floats = np.empty(count, np.float32)
        self._scratch: Floats = np.empty(count, np.float32)

    def advance(self) -> float:
        """Do one step; return its loss."""
        inputs, targets = self._batch()
        one, two, three = self._layers(self._weights)
        hidden1 = np.tanh(inputs @ one)
        hidden2 = np.tanh(hidden1 @ two)
        error = hidden2 @ three - targets
        slopes = self._layers(self._gradient)
        delta = error * np.float32(2.0 / error.size)
        np.matmul(hidden2.T, delta, out=slopes[2])
        delta = (delta @ three.T) * (1 - hidden2 * hidden2)
        np.matmul(hidden1.T, delta, out=slopes[1])
        delta = (delta @ two.T) * (1 - hidden1 * hidden1)
        np.matmul(inputs.T, delta, out=slopes[0])
        self.step += 1
        self._adam()
        return float(np.mean(error * error))

    def weights_bytes(self) -> bytes:
        """Return the weights, little-endian float32."""
        return self._weights.astype("<f4").tobytes()

    def store(self, folder: Path, drop: Sequence[str] = ()) -> None:
        """Write the whole state into an empty folder, less what is named in `drop`."""
        arrays = {"weights": self._weights}
        if "optimizer" not in drop:
            arrays.update(first=self._first, second=self._second)
        with (folder / STATE).open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        meta: dict[str, object] = {"seed": self._seed, "step": self.step, "cursor": self._cursor}
        if "rng" not in drop:
            meta["rng"] = self._rng.bit_generator.state
        (folder / META).write_text(json.dumps(meta))

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint; what it does not hold stays as at a fresh start.

        Raises
        ------
        CorruptError
            It is not one of this network's checkpoints.
        """
        try:
            meta = json.loads((folder / META).read_text())
            with np.load(folder / STATE) as arrays:
                for name, target in (
                    ("weights", self._weights),
                    ("first", self._first),
                    ("second", self._second),
                ):
                    if name in arrays:
                        target[:] = arrays[name]
            if meta["seed"] != self._seed:
                raise ValueError(f"seed {meta['seed']}, expected {self._seed}")
            self.step, self._cursor = int(meta["step"]), int(meta["cursor"])
            if "rng" in meta:
                self._rng.bit_generator.state = meta["rng"]
        except (OSError, ValueError, KeyError) as error:
            raise CorruptError(f"checkpoint {folder}: {error}") from error

    def _batch(self) -> tuple[Floats, Floats]:
        """Return the stream's next batch: inputs by position, the teacher's answers with noise."""
        stream = np.random.Generator(np.random.Philox(key=[self._seed, self._cursor]))
        self._cursor += 1
        inputs = stream.standard_normal((BATCH, INPUTS), dtype=np.float32)
        noise = self._rng.standard_normal((BATCH, OUTPUTS), dtype=np.float32)
        return inputs, np.sin(inputs @ self._teacher) + np.float32(NOISE) * noise

    def _adam(self) -> None:
        """Update the weights in place; no temporary of their size is made."""
        gradient, scratch = self._gradient, self._scratch
        self._first *= np.float32(BETA1)
        np.multiply(gradient, np.float32(1 - BETA1), out=scratch)
        self._first += scratch
        self._second *= np.float32(BETA2)
        np.multiply(gradient, gradient, out=scratch)
        scratch *= np.float32(1 - BETA2)
        self._second += scratch
        np.sqrt(self._second, out=scratch)
        scratch += np.float32(EPSILON)
        np.divide(self._first, scratch, out=scratch)
        scratch *= np.float32(RATE * (1 - BETA2**self.step) ** 0.5 / (1 - BETA1**self.step))
        self._weights -= scratch

    def _layers(self, flat: Floats) -> list[Floats]:
        """Return views of a flat vector in the layers' shapes."""
        views, start = [], 0
        for rows, columns in self._shapes:
            views.append(flat[start : start + rows * columns].reshape(rows, columns))
            start += rows * columns
        return views
