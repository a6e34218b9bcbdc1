"""What watchers of the fleet are sent. A message is made anew only where something changed, for all of them.

A look at a large fleet takes a while; all watchers together share the looks, which take a bounded share of
the processor.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import is_
from typing import Generic, TypeVar

from coordinator.model.live import is_connected, report_of
from coordinator.service import operator_codec as codec
from coordinator.service.operator_ports import FleetPicture, OperatorDesk
from coordinator.service.wire import timestamp
from sterna.v1 import fleet_pb2
from sterna.v1 import operator_service_pb2 as api

LEAST_GAP_LOOKS = 9.0
"""After a look there is none for so many times as long as it took: a tenth of a processor at most."""

M = TypeVar("M", fleet_pb2.Site, fleet_pb2.Job, fleet_pb2.Migration)


@dataclass(frozen=True, slots=True)
class _Told(Generic[M]):
    """A message, and the values that it was made of: the same values make the same message."""

    causes: tuple[object, ...]
    message: M


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """The fleet at one instant, by id, in the order of the contract; the same news is the same object."""

    picture: FleetPicture
    sites: Mapping[str, _Told[fleet_pb2.Site]] = field(default_factory=dict)
    jobs: Mapping[str, _Told[fleet_pb2.Job]] = field(default_factory=dict)
    migrations: Mapping[str, _Told[fleet_pb2.Migration]] = field(default_factory=dict)


class Watched:
    """The fleet as watchers are told of it.

    Parameters
    ----------
    desk : OperatorDesk
        Who knows it.
    period_s : float
        Least time between two looks, > 0.
    """

    def __init__(self, desk: OperatorDesk, *, period_s: float) -> None:
        self._desk = desk
        self._period_s = period_s
        self._look: _Look | None = None
        self._due_s = 0.0
        self._watchers = 0

    async def messages(self, *, changes_only: bool) -> AsyncGenerator[api.WatchFleetResponse, None]:
        """Yield the fleet as it is now, then again whenever it changed, as a whole or by its changes."""
        self._watchers += 1
        try:
            look = self._looked()
            yield _whole(look)
            while True:
                before, look = look, await self._after(look)
                yield _changes(before, look) if changes_only else _whole(look)
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._look = None

    async def _after(self, look: _Look) -> _Look:
        """Return the next look; whoever comes first takes it for all."""
        while self._look is look:
            await asyncio.sleep(self._due_s - asyncio.get_running_loop().time())
            await self._desk.wait_for_change(look.picture.version)
            if self._look is look:
                return self._looked()
        return self._look or self._looked()

    def _looked(self) -> _Look:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        picture = self._desk.picture()
        self._look = _look(picture, sorted(self._desk.known_sites), self._look or _Look(picture=picture))
        ended_s = loop.time()
        self._due_s = ended_s + max(self._period_s, LEAST_GAP_LOOKS * (ended_s - began_s))
        return self._look


def _look(picture: FleetPicture, site_ids: Iterable[str], before: _Look) -> _Look:
    live = picture.live
    return _Look(
        picture=picture,
        # Every sample changes them: there is nothing cheaper to tell it by than the message.
        sites={
            site.site_id: _Told((), _known(before.sites.get(site.site_id), site))
            for site in codec.sites(site_ids, picture)
        },
        jobs={
            job.job_id: _told(
                before.jobs.get(job.job_id),
                (job, report_of(live, job.owner_site, job.job_id), is_connected(live, job.owner_site)),
                partial(codec.job, job, picture),
            )
            for job in codec.current_jobs(picture)
        },
        migrations={
            one.migration_id: _told(
                before.migrations.get(one.migration_id),
                (one, report_of(live, one.destination_site, one.job_id)),
                partial(codec.migration, one, picture),
            )
            for one in codec.current_migrations(picture)
        },
    )


def _told(before: _Told[M] | None, causes: tuple[object, ...], make: Callable[[], M]) -> _Told[M]:
    if before is not None and all(map(is_, causes, before.causes)):
        return before
    return _Told(causes, _known(before, make()))


def _known(before: _Told[M] | None, message: M) -> M:
    """Return the message that was sent before where it says the same."""
    return before.message if before is not None and before.message == message else message


def _whole(look: _Look) -> api.WatchFleetResponse:
    return _response(look, look.sites.values(), look.jobs.values(), look.migrations.values())


def _changes(before: _Look, look: _Look) -> api.WatchFleetResponse:
    message = _response(
        look,
        _changed(before.sites, look.sites),
        _changed(before.jobs, look.jobs),
        _changed(before.migrations, look.migrations),
    )
    message.left.SetInParent()
    message.left.job_ids.extend(sorted(before.jobs.keys() - look.jobs.keys()))
    message.left.migration_ids.extend(sorted(before.migrations.keys() - look.migrations.keys()))
    return message


def _changed(before: Mapping[str, _Told[M]], now: Mapping[str, _Told[M]]) -> list[_Told[M]]:
    return [
        told
        for name, told in now.items()
        if (known := before.get(name)) is None or known.message is not told.message
    ]


def _response(
    look: _Look,
    sites: Iterable[_Told[fleet_pb2.Site]],
    jobs: Iterable[_Told[fleet_pb2.Job]],
    migrations: Iterable[_Told[fleet_pb2.Migration]],
) -> api.WatchFleetResponse:
    return api.WatchFleetResponse(
        at=timestamp(look.picture.at),
        policy=look.picture.policy,
        waiting_since=timestamp(look.picture.waiting_since),
        sites=[told.message for told in sites],
        jobs=[told.message for told in jobs],
        migrations=[told.message for told in migrations],
    )
