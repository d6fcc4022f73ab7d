"""Draws against the distribution that the options describe."""

from __future__ import annotations

import math

import pytest
import torch

from studio.worker.stand_in.sampling import Draw, Drawn, Sampling

SCORES = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0, -3.0]])
NOTHING = torch.zeros((1, 0), dtype=torch.long)


def drawn(sampling: Sampling, times: int = 1, before: torch.Tensor = NOTHING) -> list[Drawn]:
    taken: list[Drawn] = []
    draw = Draw(sampling, torch.device("cpu"), taken.append)
    for _ in range(times):
        scores = draw(before, SCORES.clone())
        assert int(scores.argmax()) == taken[-1].token
        assert scores.isfinite().sum() == 1
    return taken


def tokens(sampling: Sampling, times: int = 400) -> set[int]:
    return {each.token for each in drawn(sampling, times)}


def test_temperature_zero_takes_the_likeliest() -> None:
    assert tokens(Sampling(temperature=0.0), 20) == {0}


def test_a_seed_repeats_the_draws_and_another_does_not() -> None:
    first = drawn(Sampling(temperature=1.5, seed=11), 50)
    assert drawn(Sampling(temperature=1.5, seed=11), 50) == first
    assert drawn(Sampling(temperature=1.5, seed=12), 50) != first
    assert drawn(Sampling(temperature=1.5), 50) != drawn(Sampling(temperature=1.5), 50)


def test_what_is_cut_off_is_never_drawn() -> None:
    probabilities = SCORES[0].softmax(-1)
    assert tokens(Sampling(seed=0, temperature=3.0, top_k=3)) == {0, 1, 2}
    assert tokens(Sampling(seed=0, top_p=float(probabilities[:2].sum()) - 0.01)) == {0, 1}
    assert tokens(Sampling(seed=0, min_p=float(probabilities[2] / probabilities[0]) - 0.01)) == {0, 1, 2}
    assert tokens(Sampling(seed=0, temperature=3.0, top_k=0, top_p=1.0)) == set(range(6))


def test_draws_follow_the_temperature() -> None:
    counts = torch.bincount(torch.tensor([each.token for each in drawn(Sampling(temperature=2.0, seed=3), 4000)]))
    expected = (SCORES[0] / 2).softmax(-1)
    assert torch.allclose(counts / 4000, expected, atol=0.03)


def test_repetition_is_penalised_greedily_too() -> None:
    said = torch.tensor([[0]])
    assert drawn(Sampling(temperature=0.0, repetition_penalty=3.0), 1, said)[0].token == 1


def test_logprobs_are_the_models_own_whatever_is_cut_off() -> None:
    (first,) = drawn(Sampling(temperature=0.1, top_k=1, repetition_penalty=1.5, logprobs=2), 1, torch.tensor([[3]]))
    expected = SCORES[0].log_softmax(-1)
    assert first.logprob == pytest.approx(float(expected[0]))
    assert [token for token, _ in first.top] == [0, 1]
    assert first.top[1][1] == pytest.approx(float(expected[1]))


def test_the_token_itself_is_told_first_though_others_are_likelier() -> None:
    for each in drawn(Sampling(temperature=5.0, seed=1, logprobs=2), 40):
        assert each.top[0] == (each.token, each.logprob)
        assert len(each.top) == (2 if each.token < 2 else 3)


def test_no_logprobs_unless_asked() -> None:
    (first,) = drawn(Sampling(temperature=0.0))
    assert math.isnan(first.logprob)
    assert first.top == ()
