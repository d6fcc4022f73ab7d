"""What is set for the training libraries before they are imported leaves room for what a person has set."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

TRIMMED = "import os; from studio.worker import imports; imports.trim(); print(os.environ.get('PYTORCH_ALLOC_CONF'))"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "expandable_segments:True"),
        ({"PYTORCH_ALLOC_CONF": "backend:native"}, "backend:native"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}, "None"),
    ],
    ids=["nothing", "by its name", "by its older name, which is looked at where the other is not set"],
)
def test_how_memory_is_taken_is_for_a_person_to_say(given: dict[str, str], expected: str) -> None:
    kept = {name: value for name, value in os.environ.items() if "ALLOC_CONF" not in name}
    told = subprocess.run([sys.executable, "-c", TRIMMED], env={**kept, **given}, capture_output=True, text=True)
    assert told.stdout.strip() == expected, told.stderr
