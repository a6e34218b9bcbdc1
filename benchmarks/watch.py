"""What watchers of a fleet cost the coordinator: a look, and the messages that it makes of it.

The fleets are those of `plan_view`: ten jobs a site, all running, and as many that ended within the hour.
Between two looks every site has sent a sample and one job in a hundred has reported another step. CPU seconds
of one thread, the least of several runs; `bytes` are those on the wire.
"""

import argparse
import json
from dataclasses import replace
from itertools import count
from typing import Any

from plan import size_of, some_fleet, timed
from plan_view import lookout_of

from coordinator.core.view import open_windows
from coordinator.model.live import LiveSite
from coordinator.service import watching
from coordinator.service.operator_ports import FleetPicture

numbers = count(2)


def picture_of(lookout: Any) -> FleetPicture:
    """Return what `Desk.picture` returns, without a desk's store."""
    now, sites = lookout.sites()
    return FleetPicture(
        at=now,
        policy="sterna",
        version=next(numbers),
        state=lookout._fleet.state,
        live=lookout._live.sites,
        window_end_at=open_windows(sites, now),
        forecasts={name: site.forecast for name, site in sites.items() if site.forecast is not None},
    )


def later(live: dict[str, LiveSite]) -> dict[str, LiveSite]:
    """Return what the sites have said a second later."""
    step = next(numbers)
    return {
        name: replace(
            site,
            sample=replace(site.sample, sequence=step) if site.sample is not None else None,
            reports={
                job_id: replace(report, step=step) if number % 100 == 0 else report
                for number, (job_id, report) in enumerate(site.reports.items(), start=index)
            },
        )
        for index, (name, site) in enumerate(live.items())
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="1000x10000", help="sites x jobs")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    lookout = lookout_of(some_fleet(*size_of(given.size), seed=1))
    names = sorted(lookout._fleet.state.sites)

    def look(before: Any) -> Any:
        picture = picture_of(lookout)
        return watching._look(picture, names, before or watching._Look(picture=picture))

    first = look(None)
    lookout._live.sites = later(lookout._live.sites)
    second = look(first)
    whole, changes = watching._whole(first), watching._changes(first, second)
    figures = {
        "size": given.size,
        "jobs_shown": len(whole.jobs),
        "picture_s": timed(lambda: picture_of(lookout), given.runs)[0],
        "first_look_s": timed(lambda: look(None), given.runs)[0],
        "next_look_s": timed(lambda: look(first), given.runs)[0],
        "whole_message_s": timed(lambda: watching._whole(second).SerializeToString(), given.runs)[0],
        "changes_message_s": timed(lambda: watching._changes(first, second).SerializeToString(), given.runs)[
            0
        ],
        "whole_bytes": whole.ByteSize(),
        "changes_bytes": changes.ByteSize(),
        "changed_sites": len(changes.sites),
        "changed_jobs": len(changes.jobs),
    }
    print(
        json.dumps(
            {key: round(value, 4) if isinstance(value, float) else value for key, value in figures.items()}
        )
    )


if __name__ == "__main__":
    main()
