"""Answers to orders, and what makes an order unusable before its job is even looked at."""

import re
import signal
from collections.abc import Callable
from pathlib import Path

from agent.model.jobs import JobSpec
from agent.model.orders import Order, OrderAck, OrderResult, Prepare, Start

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def fault_of(order: Order, obstacle: Callable[[JobSpec], str] = lambda _spec: "") -> str:
    """Say what makes an order unusable, whatever the job's state; empty when nothing does.

    Parameters
    ----------
    order : Order
        As received.
    obstacle : callable
        Says why a job cannot run at this site.
    """
    if not _NAME.fullmatch(order.job_id):
        return f"job id {order.job_id!r} is not a plain name"
    spec: JobSpec | None = order.action.spec if isinstance(order.action, (Prepare, Start)) else None
    if spec is None:
        return ""
    if not spec.argv:
        return "spec: argv is empty"
    if f"SIG{spec.stop_signal or 'TERM'}" not in signal.Signals.__members__:
        return f"spec: no signal is named {spec.stop_signal!r}"
    if spec.working_dir and not Path(spec.working_dir).is_absolute():
        return "spec: working_dir is not absolute"
    found = obstacle(spec)
    return f"spec: {found}" if found else ""


def answer(order: Order, result: OrderResult, reason: str = "") -> OrderAck:
    """Return the answer to an order."""
    return OrderAck(
        order_id=order.order_id,
        migration_id=order.migration_id,
        job_id=order.job_id,
        result=result,
        reason=reason,
    )
