import subprocess
import sys

ROOM = """
import pkgutil, importlib, sys
import studio.datasets
for module in pkgutil.iter_modules(studio.datasets.__path__):
    importlib.import_module(f"studio.datasets.{module.name}")
heavy = {"torch", "transformers", "datasets", "pandas", "pyarrow", "numpy", "gradio"}
print(sorted(heavy & sys.modules.keys()))
"""


def test_importing_the_room_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", ROOM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
