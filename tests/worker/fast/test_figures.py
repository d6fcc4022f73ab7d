"""Figures that are on their way stay what they were."""

from __future__ import annotations

import pytest
import torch

from studio.worker.fast import figures


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]
)
def test_figures_arrive_as_they_were_sent(device: str) -> None:
    loss = torch.tensor(0.1, device=device, requires_grad=True)
    counted = torch.tensor(16_777_217, device=device)
    sent = figures.send({"loss": loss, "tokens": counted})
    with torch.no_grad():
        loss.zero_()
    counted += 1
    assert sent.read() == {"loss": pytest.approx(0.1), "tokens": 16_777_217}
    assert sent.read()["tokens"] == 16_777_217


def test_what_is_no_number_arrives_too() -> None:
    read = figures.send({"loss": torch.tensor(float("nan")), "grad_norm": torch.tensor(float("inf"))}).read()
    assert read["loss"] != read["loss"]
    assert read["grad_norm"] == float("inf")


def test_only_a_device_that_computes_by_itself_is_read_late() -> None:
    assert figures.are_late(torch.device("cuda", 1))
    assert not figures.are_late(torch.device("cpu"))
