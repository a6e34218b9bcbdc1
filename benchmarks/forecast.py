"""What a learnt forecast costs: one slot on for a site, and reading it in a planning tick.

Synthetic past of 230 days by the hour, 48 hours ahead, 100 courses, recalibration included. The last line is
one JSON object.
"""

import argparse
import json
import time
from datetime import UTC, datetime, timedelta

import numpy as np

from coordinator.core import windows
from coordinator.forecast.kinds import Kind
from coordinator.forecast.learnt import Learner, Part, surplus_forecast
from coordinator.forecast.series import Series

END = datetime(2022, 9, 1, tzinfo=UTC)


def past(kind: Kind) -> Series:
    draw = np.random.default_rng(1)
    slots = np.arange(230 * 24)
    bell = np.clip(np.sin((slots % 24 - 6) / 12 * np.pi), 0.0, None)
    values = 9000.0 * draw.random(len(slots)) * (bell if kind is Kind.SUN else 1.0)
    return Series(kind=kind, slot_s=3600.0, end_at=END, values=values)


def per_call_ms(calls: int, call: object) -> float:
    assert callable(call)
    call()
    before_s = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - before_s) / calls * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=50)
    calls = parser.parse_args().calls
    learner = Learner()
    figures = {}
    for kind in Kind:
        memory = learner.begin([Part(series=past(kind))])
        figures[f"{kind.value}_cpu_ms"] = per_call_ms(calls, lambda m=memory: learner.observe(m, [100.0]))
    site = [Part(series=past(kind), sign=-1.0 if kind is Kind.OTHER else 1.0) for kind in Kind]
    memory = learner.begin(site)
    figures["sun_wind_load_cpu_ms"] = per_call_ms(calls, lambda: learner.observe(memory, [1.0, 2.0, 3.0]))
    forecast = surplus_forecast(memory)
    figures["to_forecast_cpu_ms"] = per_call_ms(calls, lambda: surplus_forecast(memory))
    now = END + timedelta(minutes=20)
    figures["tick_curve_cpu_ms"] = per_call_ms(calls, lambda: windows.curve(now, forecast, 5000.0))
    print(json.dumps({name: round(figure, 3) for name, figure in figures.items()}))


if __name__ == "__main__":
    main()
