"""Several quantisations in one process, which spares each the seconds of the imports: … many RUN_DIR [RUN_DIR ...]"""

from __future__ import annotations

import sys
from pathlib import Path

from studio import packages
from studio.worker import imports
from studio.worker.door import Desk, serve


def main(run_dirs: list[Path]) -> None:
    """Each as its worker would do it."""
    sys.path.insert(0, str(packages.OVERLAY))
    imports.trim({"bitsandbytes"})
    from studio.config.load import load_run_config
    from studio.worker.quantizing import flow, recipes

    assert recipes.TARGETS  # imported now, so that what it brings is settled too
    imports.settle()

    def work(desk: Desk) -> bool:
        config = load_run_config(desk.run_dir / "config.yaml")
        return flow.conclude(desk, config, flow.quantise(desk, config))

    for run_dir in run_dirs:
        (run_dir / "code").write_text(str(serve(run_dir, work)))


if __name__ == "__main__":
    main([Path(word) for word in sys.argv[1:]])
