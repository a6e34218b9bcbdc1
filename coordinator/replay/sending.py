"""Pieces of a checkpoint that travel ahead of their job, and whether it is stopped once they are there.

The same rule as in production (`coordinator.core.prestage`): the move is judged again by the rate at which
the pieces crossed and by what is left of the window; one that is not worth it any more is given up.
"""

from math import inf

from coordinator.core import feasibility
from coordinator.core.feasibility import Infeasible, Move
from coordinator.core.policy import PlannerSettings
from coordinator.model.decision import Decision
from coordinator.replay.course import Course, Sending
from coordinator.replay.world import World
from sterna.units import BITS_PER_BYTE


def still_worth_it(
    course: Course, sending: Sending, now_s: float, *, world: World, settings: PlannerSettings
) -> bool:
    """Judge a move again when its pieces have arrived; those must be noted at the destination already."""
    if sending.window_end_at is None:
        return True
    took_s = now_s - sending.since_s
    goodput_bps = BITS_PER_BYTE * sending.size_bytes / took_s if took_s > 0.0 else inf
    # Goodput is what arrived: the share that the link loses is in it already.
    link_bps = goodput_bps / settings.eta
    left_s = (sending.window_end_at - world.at(now_s)).total_seconds()
    return _is_feasible(course, link_bps, left_s, world=world, settings=settings)


def needed(
    course: Course, decision: Decision, now_s: float, *, world: World, settings: PlannerSettings
) -> bool:
    """Tell whether pieces are to travel ahead of a move that has just been decided."""
    if not world.ahead_if_needed or decision.window_end_at is None or not decision.reserved_bps:
        return True
    left_s = (decision.window_end_at - world.at(now_s)).total_seconds()
    return not _is_feasible(course, decision.reserved_bps, left_s, world=world, settings=settings)


def _is_feasible(
    course: Course, link_bps: float, left_s: float, *, world: World, settings: PlannerSettings
) -> bool:
    """Judge a stop now, with all that the destination does not hold, `left_s` before its window ends."""
    task, costs = course.task, world.costs
    answer = feasibility.assess(
        Move(
            checkpoint_bytes=task.stop_bytes(course.holds(course.bound_for or "")),
            link_bps=link_bps,
            seal_s=costs.store_s(task.seal_bytes),
            load_s=costs.store_s(task.checkpoint_bytes),
            downtime_s=costs.downtime_s,
            until_window_end_s=left_s,
            job_power_w=task.power_w,
            source_power_w=task.power_w,
            destination_power_w=task.power_w,
        ),
        settings.tolerance,
    )
    return not isinstance(answer, Infeasible)
