import subprocess
import sys

ROOM = """
import pkgutil, importlib, sys
import studio.datasets
for module in pkgutil.walk_packages(studio.datasets.__path__, "studio.datasets."):
    importlib.import_module(module.name)
heavy = {"torch", "transformers", "datasets", "pandas", "pyarrow", "gradio"}  # numpy (0.1 s) counts rows by the million
print(sorted(heavy & sys.modules.keys()))
"""


def test_importing_the_room_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", ROOM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
