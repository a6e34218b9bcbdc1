"""From the agent's values to the coordinator's and back: what the protos carry, without the protos."""

from collections.abc import Iterable
from datetime import datetime

from agent.core.joborders import HOLDABLE
from agent.model import jobs as at_site
from agent.model import orders as site_orders
from agent.model.records import JobRecord
from coordinator.model import job as at_house
from coordinator.model import orders as house_orders
from coordinator.model.job import JobReport

__all__ = ["JobReport", "order", "report"]

_PHASES = {phase: at_house.JobPhase[phase.name] for phase in at_site.JobPhase}


def report(
    record: JobRecord,
    checkpoints: Iterable[at_site.Checkpoint],
    *,
    step: int | None,
    start_step: int | None,
    reported_at: datetime,
) -> JobReport:
    """Say what a site knows of a job: `JobBook.describe`, as the coordinator reads it."""
    return JobReport(
        job_id=record.job_id,
        epoch=record.epoch,
        phase=_PHASES[record.phase],
        migration_id=record.migration_id,
        step=step,
        start_step=start_step,
        checkpoints=tuple(map(_checkpoint, checkpoints)),
        message=record.message,
        seal_s=record.seal_s,
        goodput_bps=record.goodput_bps,
        load_s=record.load_s,
        transferred_bytes=record.transferred_bytes,
        highest_epoch=record.highest_epoch,
        reported_at=reported_at,
        held_until=record.hold.until_at if record.hold is not None and record.phase in HOLDABLE else None,
        hold_sequence=record.hold_sequence,
    )


def _checkpoint(held: at_site.Checkpoint) -> at_house.Checkpoint:
    return at_house.Checkpoint(
        checkpoint_id=held.checkpoint_id,
        step=held.manifest.step,
        epoch=held.manifest.epoch,
        size_bytes=held.manifest.size_bytes,
        sealed_at=held.manifest.sealed_at,
    )


def order(order_id: str, sent: house_orders.Order) -> site_orders.Order:
    """Read an order at the site."""
    return site_orders.Order(
        order_id=order_id,
        migration_id=sent.migration_id,
        job_id=sent.job_id,
        epoch=sent.epoch,
        action=_action(sent.action),
    )


def _action(action: house_orders.Action) -> site_orders.Action:
    match action:
        case house_orders.Prepare():
            return site_orders.Prepare(
                spec=_spec(action.spec),
                checkpoint_bytes=action.checkpoint_bytes,
                expires_after_s=action.expires_after_s,
            )
        case house_orders.Start():
            return site_orders.Start(
                spec=_spec(action.spec), checkpoint_id=action.checkpoint_id, lease_ttl_s=action.lease_ttl_s
            )
        case house_orders.Stop():
            return site_orders.Stop(reason=action.reason, cancel=action.cancel)
        case house_orders.Fetch():
            return site_orders.Fetch(
                checkpoint_id=action.checkpoint_id,
                holder_site=action.holder_site,
                holder_address=action.holder_address or None,
                ticket="ticket",
                max_bps=action.max_bps,
            )
        case house_orders.Offer():
            return site_orders.Offer(
                checkpoint_id=action.checkpoint_id,
                receiver_site=action.receiver_site,
                receiver_address=action.receiver_address,
                ticket="ticket",
                max_bps=action.max_bps,
            )
        case house_orders.Release():
            return site_orders.Release(keep_checkpoints=action.keep_checkpoints)
        case house_orders.Pause():
            return site_orders.Pause(
                sequence=action.sequence, expires_after_s=action.expires_after_s, reason=action.reason
            )
        case house_orders.Resume():
            return site_orders.Resume(sequence=action.sequence)


def _spec(spec: at_house.JobSpec) -> at_site.JobSpec:
    return at_site.JobSpec(
        name=spec.name,
        argv=spec.argv,
        stop_grace_s=spec.stop_grace_s,
        on_partition=at_site.OnPartition[spec.on_partition.name],
    )
