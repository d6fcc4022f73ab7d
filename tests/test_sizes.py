"""The gate on the length of functions, run on a repository of one function."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from studio.settings import ROOT

DOCSTRING = '    """One.\n\n    Two.\n    """\n'


@pytest.mark.parametrize(
    ("lines", "docstring", "told"),
    [(40, "", "longest 40"), (40, DOCSTRING, "longest 40"), (41, "", "long.py:1: crowded has 41 lines")],
)
def test_a_function_longer_than_a_screen_is_named(tmp_path: Path, lines: int, docstring: str, told: str) -> None:
    for folder in ("tools", "studio"):
        (tmp_path / folder).mkdir()
    script = tmp_path / "tools" / "sizes.py"
    script.write_text((ROOT / "tools" / "sizes.py").read_text())
    (tmp_path / "app.py").write_text("def main():\n    pass\n")
    (tmp_path / "studio" / "long.py").write_text("def crowded():\n" + docstring + "    pass\n" * (lines - 1))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert told in done.stdout + done.stderr
    assert done.returncode == (1 if lines > 40 else 0)
