"""A run that SLURM runs, with a fake worker for the job: python -m tests.fakes.slurm_worker RUN_DIR"""

import sys
from pathlib import Path

from studio.runs import slurm

slurm.WORKER = "tests.fakes.worker"
sys.exit(slurm.main(Path(sys.argv[1])))
