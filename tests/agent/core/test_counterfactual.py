"""What the jobs would draw without a limit, also those that were sent away for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.counterfactual import Workload, counterfactual_w, followed

POWERS = st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1e4))


def test_a_job_that_was_sent_away_counts_until_the_limit_ends() -> None:
    workload = followed(Workload(), {"a": 300.0, "b": 200.0}, finished=(), limited=False)
    workload = followed(workload, {"a": 300.0}, finished=(), limited=True)
    assert counterfactual_w(800.0, workload, {"a"}) == 1000.0
    workload = followed(workload, {"a": 300.0}, finished=(), limited=False)
    assert counterfactual_w(800.0, workload, {"a"}) == 800.0


def test_a_job_that_came_to_its_own_end_does_not_count() -> None:
    workload = followed(Workload(), {"a": 300.0, "b": 200.0}, finished=(), limited=True)
    workload = followed(workload, {"a": 300.0}, finished={"b"}, limited=True)
    assert counterfactual_w(800.0, workload, {"a"}) == 800.0


@pytest.mark.parametrize(
    ("full_w", "declared_w", "expected"),
    [(None, 200.0, None), (800.0, None, None), (-900.0, 200.0, 0.0)],
    ids=["nothing known", "nothing declared", "the site would export"],
)
def test_what_is_not_known(full_w: float | None, declared_w: float | None, expected: float | None) -> None:
    workload = Workload(jobs={"gone": declared_w})
    assert counterfactual_w(full_w, workload, ()) == expected


@given(POWERS, POWERS, st.floats(0, 1e5))
def test_sending_jobs_away_never_lowers_it(
    before: dict[str, float], after: dict[str, float], others_w: float
) -> None:
    stayed = {job: power_w for job, power_w in before.items() if job in after}
    workload = followed(
        followed(Workload(), before, finished=(), limited=True), stayed, finished=(), limited=True
    )
    full_before = counterfactual_w(others_w + sum(before.values()), workload, before)
    full_after = counterfactual_w(others_w + sum(stayed.values()), workload, stayed)
    assert full_after == pytest.approx(full_before)
