"""What goes to the device in one piece arrives as it was, and what the device tells of its memory is the peak."""

from __future__ import annotations

import pytest
import torch

from studio.worker.fast import passes
from studio.worker.progress import GB, memory_gb

pytestmark = pytest.mark.gpu
DEVICE = torch.device("cuda")


def test_batches_sent_one_after_another_arrive_whole() -> None:
    laid = [
        passes.lay([{"input_ids": list(range(each, each + 300 + row)), "labels": [-100] * 50 + [7] * (250 + row)}
                    for row in range(16)])
        for each in range(20)
    ]  # fmt: skip
    busy = torch.randn(4096, 4096, device=DEVICE)
    for _ in range(20):  # the device has something to do, so that a buffer used again too early would be seen
        busy = torch.tanh(busy @ busy)
    sent = [passes.send(batch, DEVICE) for batch in laid]
    for batch, there in zip(laid, sent, strict=True):
        assert batch.keys() == there.keys()
        for name, each in batch.items():
            if not torch.is_tensor(each):
                assert there[name] == each
                continue
            assert (there[name].device.type, there[name].dtype) == ("cuda", each.dtype)
            assert torch.equal(there[name].cpu(), each), name


def test_the_peak_is_that_of_torch() -> None:
    torch.empty(1 << 24, device=DEVICE)
    peaks = [torch.cuda.max_memory_allocated(each) / GB for each in range(torch.cuda.device_count())]
    assert memory_gb() == tuple(peaks)
