"""A nanny whose patience after STOP is a fraction of a second instead of minutes.

python -m tests.fakes.impatient_nanny RUN_DIR WORKER_ARG...
"""

import signal
import sys
from pathlib import Path

from studio.runs import nanny

LADDER = ((0.4, signal.SIGINT), (0.4, signal.SIGTERM), (0.4, signal.SIGKILL))

nanny.main(Path(sys.argv[1]), sys.argv[2:], stop_ladder=LADDER)
