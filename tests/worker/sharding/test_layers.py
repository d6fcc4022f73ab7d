"""Layers that are dealt out: on a machine without GPUs there is nothing to deal them out to."""

from __future__ import annotations

import pytest
import torch

from tests.worker.conftest import Start


@pytest.mark.skipif(torch.cuda.device_count() > 1, reason="this machine has several GPUs")
def test_one_device_is_refused(start: Start) -> None:
    worker = start(parallel_strategy="device_map")
    assert worker.wait() == 1
    assert "this training sees none: name more in devices" in worker.json("error.json")["message"]
