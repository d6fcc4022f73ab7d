"""One training by LLaMA-Factory in this process: python -m bench._llamafactory SETTINGS.json FOUND.json

It runs in the folder of packages that PYTHONPATH begins with, which has its own versions of everything.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(settings: Path, found: Path) -> None:
    """Train; leaves when each step ended, the tokens that had gone through the model by then, and the peaks in GB."""
    import torch
    import transformers
    from llamafactory.train.tuner import run_exp  # type: ignore[import-not-found]

    is_cuda = torch.cuda.is_available()
    tokens: list[torch.Tensor] = []
    steps: list[tuple[float, int]] = []
    ordinary = transformers.Trainer.training_step

    def training_step(self: Any, model: Any, inputs: Any, *rest: Any, **keys: Any) -> Any:
        tokens.append((inputs["input_ids"] != self.processing_class.pad_token_id).sum())
        return ordinary(self, model, inputs, *rest, **keys)

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]  # transformers is untyped
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if is_cuda:
                torch.cuda.synchronize()
            steps.append((time.time(), sum(int(count) for count in tokens)))

    transformers.Trainer.training_step = training_step
    run_exp(json.loads(settings.read_text()), callbacks=[Watch()])
    peaks = [torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()] if is_cuda else []
    found.write_text(json.dumps({"steps": steps, "peaks_gb": [peak / 1e9 for peak in peaks]}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
