"""Which decisions are news: one that says the same as the last is not stored again."""

from coordinator.model.decision import Decision


def is_news(decision: Decision, last: Decision | None) -> bool:
    """Tell whether a decision differs from the job's last one in more than its figures.

    Figures change with every tick; what was decided, for which site, and which sites would have done,
    changes when something happened.
    """
    return last is None or _gist(decision) != _gist(last)


def _gist(decision: Decision) -> tuple[object, ...]:
    sites = tuple(
        (one.site_id, one.feasible, tuple((term.name, term.satisfied) for term in one.terms))
        for one in decision.alternatives
    )
    return (decision.kind, decision.source_site, decision.target_site, decision.policy, sites)
