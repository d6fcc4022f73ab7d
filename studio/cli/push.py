"""python -m studio push RUN_OR_FOLDER OWNER/NAME | FILE.yaml key=value ..."""

from __future__ import annotations

from collections.abc import Sequence

from studio.cli.export.command import Command, carry_out
from studio.config.push import PushConfig
from studio.exports import push


def main(words: Sequence[str]) -> int:
    """Upload the result of a run, or a folder, to the Hugging Face hub."""
    return carry_out(PUSH, words)


PUSH = Command(
    "push", PushConfig, push.plan, "Upload a result to the Hugging Face hub; private unless hub_private_repo=false.",
    "RUN_OR_FOLDER OWNER/NAME",
)  # fmt: skip
