"""A site's memory as bytes, for whoever keeps it. One format, versioned; anything else is refused."""

import io
import json
import zipfile
from datetime import datetime
from typing import Any

import numpy as np

from coordinator.forecast.calibration import Calibration
from coordinator.forecast.kinds import Kind
from coordinator.forecast.learnt import Part, SiteMemory
from coordinator.forecast.series import SECONDS_PER_DAY, Series
from sterna.errors import CorruptError

_FORMAT = "sterna.forecast/1"


def to_bytes(memory: SiteMemory) -> bytes:
    """Return the memory as bytes; equal memories do not always give equal bytes."""
    head = {
        "format": _FORMAT,
        "end_at": memory.end_at.isoformat(),
        "slot_s": memory.parts[0].series.slot_s,
        "day_s": memory.parts[0].series.day_s,
        "parts": [{"kind": part.series.kind.value, "sign": part.sign} for part in memory.parts],
    }
    arrays: dict[str, Any] = {f"part{index}": part.series.values for index, part in enumerate(memory.parts)}
    arrays |= {"factors": memory.calibration.factors, "stated": memory.calibration.stated}
    if memory.paths is not None:
        arrays["paths"] = memory.paths
    kept = io.BytesIO()
    np.savez_compressed(kept, head=np.array(json.dumps(head)), **arrays)
    return kept.getvalue()


def from_bytes(kept: bytes) -> SiteMemory:
    """Return the memory that `to_bytes` was given.

    Raises
    ------
    CorruptError
        The bytes are not such a memory, or one of another version.
    """
    try:
        with np.load(io.BytesIO(kept), allow_pickle=False) as arrays:
            head = json.loads(str(arrays["head"]))
            if head["format"] != _FORMAT:
                raise CorruptError(f"a forecast memory of format {head['format']}")
            parts = tuple(
                Part(
                    series=Series(
                        kind=Kind(part["kind"]),
                        slot_s=head["slot_s"],
                        end_at=datetime.fromisoformat(head["end_at"]),
                        values=arrays[f"part{index}"],
                        day_s=head.get("day_s", SECONDS_PER_DAY),
                    ),
                    sign=part["sign"],
                )
                for index, part in enumerate(head["parts"])
            )
            state = Calibration(factors=arrays["factors"], stated=arrays["stated"])
            paths = arrays.get("paths")
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise CorruptError(f"not a forecast memory: {error}") from error
    return SiteMemory(parts=parts, calibration=state, paths=paths)
