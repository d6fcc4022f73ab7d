"""What clients of a static batch, and of one who answers one after another, wait for."""

import pytest

from studio.serving.benchmark.generated import answers
from studio.serving.benchmark.workload import Ask

SHORT, LONG = Ask((1, 2), 2), Ask((3, 4), 3)


def batch(began: float, *tokens: float) -> dict[str, object]:
    return {"began_s": began, "token_s": list(tokens)}


def test_in_a_static_batch_who_is_done_early_waits_for_the_others() -> None:
    first, second, third, fourth = answers(
        [SHORT, LONG, SHORT, LONG], [batch(0, 1, 2, 3), batch(3, 4, 5, 6)], batch=2, clients=2
    )
    assert (first.tokens, first.ended_s, second.ended_s) == (2, 2, 3)
    # the first client asks again at 2, but its next batch only begins when the long answer is complete
    assert (third.asked_s, third.first_s) == (2, 4)
    assert (fourth.asked_s, fourth.first_s) == (3, 4)
    assert fourth.gaps_s == (1, 1)


def test_one_by_one_everybody_queues() -> None:
    found = answers([SHORT] * 3, [batch(0, 1, 2), batch(2, 3, 4), batch(4, 5, 6)], batch=1, clients=2)
    assert [answer.asked_s for answer in found] == [0, 0, 2]
    assert [answer.first_s - answer.asked_s for answer in found] == [1, 3, 3]


@pytest.mark.parametrize(("size", "kept"), [(1, 1), (2, 2), (4, 3)])
def test_what_the_time_limit_left_out_is_no_answer(size: int, kept: int) -> None:
    assert len(answers([SHORT] * 3, [batch(0, 1, 2)], batch=size, clients=size)) == kept
