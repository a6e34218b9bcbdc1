"""`sterna job explain`: why a job is where it is, and what each move would take."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from coordinator.cli import deadline, render
from sterna.v1 import fleet_pb2
from sterna.v1 import operator_service_pb2 as api


def explanation(answer: api.ExplainJobResponse) -> list[RenderableType]:
    """Return the last decision, then every site as it would be judged now, each term with its limit."""
    slack = render.present(answer, "deadline_slack")
    parts: list[RenderableType] = [render.jobs_table([answer.job]), *deadline.lines(answer.job, slack), ""]
    parts += _decision(answer.decision) if answer.HasField("decision") else ["no decision yet", ""]
    if answer.now:
        parts.append(Text("judged now", style="bold underline"))
    for alternative in answer.now:
        parts += [*render.judgement(alternative, answer.job.owner_site), ""]
    return parts


def _decision(decision: fleet_pb2.Decision) -> list[RenderableType]:
    kind = render.decision_kind(decision.kind)
    towards = {"migrate": f"from {decision.source_site} to {decision.target_site}", "wait": ""}.get(
        kind, f"at {decision.target_site}"
    )
    at = render.instant(decision.decided_at)
    headline = f"last decision, {at:%Y-%m-%d %H:%M:%S} UTC, policy {decision.policy}: {kind} {towards}"
    return [
        Text(headline.rstrip(), style="bold"),
        Text(f"  {decision.reason}"),
        *_rejected(decision.alternatives),
        "",
    ]


def _rejected(alternatives: Sequence[fleet_pb2.Alternative]) -> list[RenderableType]:
    """Return a line for each site that was not chosen, and one for each reason."""
    lines: list[RenderableType] = []
    for alternative in alternatives:
        if not alternative.rejections:
            continue
        lines.append(Text(f"  not {alternative.site_id} (score {alternative.score:.1f}):"))
        lines += [Text(f"    {rejection}") for rejection in alternative.rejections]
    return lines
