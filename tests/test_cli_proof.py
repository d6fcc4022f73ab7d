"""What the terminal says of an adapter's proof."""

from __future__ import annotations

import pytest

from studio.cli.proof import sentence


@pytest.mark.parametrize(
    ("reference", "difference", "warning", "said"),
    [
        ("ok", 0.0123, "", "differ from the base's by up to 3.25, and are those of Transformers to within 0.012"),
        ("pending", None, "", "by up to 3.25; they are being compared with Transformers'"),
        ("skipped: memory is short", None, "", "by up to 3.25; not compared with Transformers: memory is short"),
        ("skipped: memory is short", None, "the adapter is untrained", "the adapter is untrained"),
        ("failed: the server ignores it", None, "hardly changes", "the server ignores it"),
    ],
)
def test_each_end_of_a_proof_is_told(reference: str, difference: float | None, warning: str, said: str) -> None:
    check = {
        "reference": reference,
        "reference_max_logprob_diff": difference,
        "warning": warning,
        "adapter_max_logprob_diff_from_base": 3.25,
    }
    assert sentence(check).endswith(said)
