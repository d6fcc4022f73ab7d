"""python -m studio presets"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from studio.cli.terminal import table
from studio.config import load


def main(words: Sequence[str]) -> int:
    """List the shipped configurations with what they set."""
    argparse.ArgumentParser("python -m studio presets", description="List the shipped configurations.").parse_args(
        words
    )
    table(
        ["preset", "sets"],
        [
            [name, ", ".join(f"{key}={value}" for key, value in load.preset(name).items())]
            for name in load.preset_names()
        ],
    )
    return 0
