"""Figures against ones worked out by hand."""

import pytest

from studio.serving.benchmark.demand import Demand
from studio.serving.benchmark.figures import Answer, Measured, measured, percentile, rows
from studio.serving.benchmark.workload import Case

DEMAND = Demand(memory_gb=1.5, gpu_gb=None, others_cores=0.3, kv_used=0.25, kv_blocks=64)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([3.0], 0.95, 3.0), ([1.0, 2.0], 0.5, 1.5), ([4.0, 1.0, 3.0, 2.0], 0.5, 2.5), (list(range(101)), 0.95, 95)],
    ids=["one", "two", "unsorted", "hundred"],
)
def test_percentile(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


def test_a_measurement_counts_from_the_first_question_to_the_last_token() -> None:
    answers = [
        Answer(asked_s=0.0, first_s=0.1, ended_s=0.4, tokens=4, gaps_s=(0.1, 0.1, 0.1)),
        Answer(asked_s=0.0, first_s=0.3, ended_s=0.5, tokens=2, gaps_s=(0.2,)),
        Answer(asked_s=0.4, first_s=0.6, ended_s=2.0, tokens=4, gaps_s=(0.5, 0.5, 0.4)),
    ]
    found = measured("vllm", Case(2, 16, 4), answers, DEMAND)
    assert (found.requests, found.tokens, found.seconds, found.tokens_per_s) == (3, 10, 2.0, 5.0)
    assert (found.ttft_p50_ms, found.ttft_p95_ms) == (200, 290)
    assert found.gap_p50_ms == 200
    assert (found.memory_gb, found.kv_used, found.kv_blocks, found.others_cores) == (1.5, 0.25, 64, 0.3)


def test_answers_of_one_token_have_nothing_between_tokens() -> None:
    found = measured("vllm", Case(1, 16, 1), [Answer(0.0, 0.5, 0.5, 1)], DEMAND)
    assert found.gap_p50_ms is None
    assert found.tokens_per_s == 2


def test_repeats_are_told_by_their_median_and_range() -> None:
    found = [at(speed, clients) for clients in (8, 1) for speed in (30.0, 10.0, 20.0)]
    told = rows(found)
    assert [row.measured.clients for row in told] == [1, 8]
    assert {row.measured.tokens_per_s for row in told} == {20.0}
    assert (told[0].repeats, told[0].slowest, told[0].fastest) == (3, 10.0, 30.0)
    assert told[0].to_json()["fastest"] == 30.0


def test_what_answers_the_same_load_is_side_by_side() -> None:
    found = [at(1.0, clients, variant) for variant in ("vllm", "fp8") for clients in (1, 8)]
    assert [(row.measured.clients, row.measured.variant) for row in rows(found)] == [
        (1, "vllm"), (1, "fp8"), (8, "vllm"), (8, "fp8"),
    ]  # fmt: skip


def test_a_figure_that_was_not_always_seen_is_the_middle_of_the_others() -> None:
    answers = [Answer(0.0, 0.5, 1.0, 4)]
    seen = [Demand(1.0, None, 0.0, used, 64 if used else None) for used in (None, 0.1, 0.3)]
    [row] = rows([measured("vllm", Case(1, 16, 4), answers, demand) for demand in seen])
    assert (row.measured.kv_used, row.measured.kv_blocks, row.measured.gpu_gb) == (0.2, 64, None)


def at(tokens_per_s: float, clients: int, variant: str = "vllm") -> Measured:
    answers = [Answer(0.0, 0.5, 1.0, round(tokens_per_s))]
    return measured(variant, Case(clients, 16, 4), answers, DEMAND)
