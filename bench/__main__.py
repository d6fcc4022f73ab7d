"""Every benchmark of this folder, one after the other, each in a process of its own; each prints one table.

    python -m bench [NAME ...]

Figures are printed, never judged: the exit code only says whether each could be measured.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main(wanted: list[str]) -> int:
    """Run the benchmarks named, or all; the number of those that broke."""
    known = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    if unknown := sorted(set(wanted) - set(known)):
        print(f"There is no benchmark {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    broken = 0
    for name in wanted or known:
        print(f"\n## {name}", flush=True)
        broken += subprocess.run([sys.executable, "-m", f"bench.{name}"], cwd=HERE.parent, check=False).returncode != 0
    return broken


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
