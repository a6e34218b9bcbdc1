"""How well a site obeys, in closed loop on virtual time: its own decision, the simulated plant and GPU.

Random limits on random sites; the same with a meter that is 3 s late and a GPU that takes a second, where
only what the site truly imports can be judged; events as in Emerald's field test (30 to 40 % less within
30 s); and a cloudy sky followed without any limit. It takes minutes of computing and never waits. Virtual
time knows no busy machine; the same measure on real processes is in tests/system/test_obeying.py.

    scripts/bench obeying [--limits 1000] [--events 200] [--seed 1]
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.obeying.closed_loop import Nature
from tests.obeying.trials import (
    SETTLED_WITHIN_S,
    Figures,
    emerald,
    follow_surplus,
    percentile,
    random_limits,
)

LATE = Nature(meter_lag_s=3.0, gpu_lag_s=0.33, load_meter=False, wake_s=0.05)
LONGEST_EVENTS = 3
FOLLOW_DAYS, FOLLOW_H = 5, 2.0


def main() -> int:
    """Run the trials and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--limits", type=int, default=1000)
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    limits = random_limits(args.seed, args.limits)
    print(f"{args.limits} limits: {_line(limits)}", flush=True)
    late = random_limits(args.seed, max(args.limits // 5, 2), LATE)
    print(f"a late meter, {len(late.settle_s)} limits: {_line(late)}", flush=True)
    events = emerald(args.seed, args.events, longest=min(LONGEST_EVENTS, args.events))
    follows = [follow_surplus(args.seed + day, FOLLOW_H, load_meter=False) for day in range(FOLLOW_DAYS)]
    ignores = [
        follow_surplus(args.seed + day, FOLLOW_H, load_meter=False, follow=False)
        for day in range(FOLLOW_DAYS)
    ]
    result = {
        "limits": len(limits.settle_s),
        "settle_p50_s": round(percentile(limits.settle_s, 50), 2),
        "settle_p99_s": round(percentile(limits.settle_s, 99), 2),
        "settle_max_s": round(max(limits.settle_s), 2),
        "breaches": limits.breaches,
        "ramp_excesses": limits.ramp_excesses,
        "late_meter_limits": len(late.settle_s),
        "late_meter_true_p99_s": round(percentile(late.true_settle_s, 99), 2),
        "late_meter_true_max_s": round(max(late.true_settle_s), 2),
        "emerald_events": len(events),
        "emerald_met": sum(event.met for event in events),
        "emerald_reached_max_s": round(max(event.reached_s for event in events), 2),
        "emerald_longest_s": round(max(event.duration_s for event in events)),
        "follow_drawn_wh": round(sum(day.drawn_wh for day in follows)),
        "follow_beyond_surplus_wh": round(sum(day.beyond_wh for day in follows)),
        "follow_unused_wh": round(sum(day.unused_wh for day in follows)),
        "unfollowed_drawn_wh": round(sum(day.drawn_wh for day in ignores)),
        "unfollowed_beyond_surplus_wh": round(sum(day.beyond_wh for day in ignores)),
    }
    print(json.dumps(result))
    good = result["settle_p99_s"] <= SETTLED_WITHIN_S and not limits.breaches and not limits.ramp_excesses
    return 0 if good and result["emerald_met"] == len(events) else 1


def _line(figures: Figures) -> str:
    return (
        f"metered inside after {percentile(figures.settle_s, 50):.2f} s (p50), "
        f"{percentile(figures.settle_s, 99):.2f} s (p99); truly after "
        f"{percentile(figures.true_settle_s, 99):.2f} s (p99); {figures.breaches} breaches, "
        f"{figures.ramp_excesses} rises above the ramp, {figures.pauses} pauses"
    )


if __name__ == "__main__":
    sys.exit(main())
