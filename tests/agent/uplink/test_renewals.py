import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.uplink.renewals import FORGET_AFTER_S, RenewalTimes


@pytest.mark.parametrize(
    ("sent_s", "answers", "expected_s"),
    [
        ([], 1, [None]),
        ([1.0], 2, [1.0, None]),
        ([1.0, 21.0], 2, [1.0, 21.0]),
        ([1.0, 21.0], 1, [1.0]),
        ([1.0, 1.0 + FORGET_AFTER_S], 1, [1.0]),
        ([1.0, 1.1 + FORGET_AFTER_S], 1, [1.1 + FORGET_AFTER_S]),
    ],
)
def test_the_oldest_unanswered_renewal_is_answered(
    sent_s: list[float], answers: int, expected_s: list[float | None]
) -> None:
    times = RenewalTimes()
    for now_s in sent_s:
        times.sent("job-1", 1, now_s)
    assert [times.answered("job-1", 1) for _ in range(answers)] == expected_s


def test_jobs_and_epochs_are_apart() -> None:
    times = RenewalTimes()
    times.sent("job-1", 1, 5.0)
    assert times.answered("job-1", 2) is None
    assert times.answered("job-2", 1) is None
    assert times.answered("job-1", 1) == 5.0


def test_jobs_that_are_gone_are_forgotten() -> None:
    times = RenewalTimes()
    times.sent("job-1", 1, 5.0)
    times.sent("job-2", 1, 6.0 + FORGET_AFTER_S)
    assert times.answered("job-1", 1) is None


@given(st.lists(st.tuples(st.floats(0.01, 50), st.booleans()), max_size=50))
def test_a_lease_never_counts_from_after_the_renewal_it_answers(events: list[tuple[float, bool]]) -> None:
    """Answers come in order and some never; the start taken is never later than the true one."""
    times, now_s = RenewalTimes(), 0.0
    for wait_s, answered in events:
        now_s += wait_s
        times.sent("job-1", 1, now_s)
        if answered:
            taken_s = times.answered("job-1", 1)
            assert taken_s is not None
            assert now_s - FORGET_AFTER_S <= taken_s <= now_s
