"""A studio that starts runs and then does nothing, to be killed.

python -m tests.fakes.studio RUN_DIR...
"""

import sys
import time
from pathlib import Path

from studio.runs import launchers
from studio.runs.run import Run

launchers.WORKERS["train"] = "tests.fakes.worker"
for folder in sys.argv[1:]:
    launchers.start(Run(Path(folder)))
print("started", flush=True)
time.sleep(600)
