"""Whether an adapter's answers are its own, in a sentence for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studio.serving.servers import Endpoint


def proof(found: Endpoint, name: str) -> str:
    """What the server has found out about its model `name`; empty for a base, which needs no proof."""
    check = found.run.server.get("checks", {}).get(name)
    return f"{name}: {sentence(check)}" if check else ""


def sentence(check: Mapping[str, Any]) -> str:
    """What server.json says of one adapter."""
    state, _, why = str(check["reference"]).partition(": ")
    if state == "failed" or check["warning"]:
        return why if state == "failed" else str(check["warning"])
    compared = {
        "ok": f", and are those of Transformers to within {check['reference_max_logprob_diff'] or 0:.3f}",
        "pending": "; they are being compared with Transformers'",
        "skipped": f"; not compared with Transformers: {why}",
    }
    moved = check["adapter_max_logprob_diff_from_base"]
    return f"its log-probabilities differ from the base's by up to {moved:.2f}{compared.get(state, '')}"
