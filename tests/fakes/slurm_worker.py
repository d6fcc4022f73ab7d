"""The worker of a run that SLURM runs, which has a fake worker do the job: python -m tests.fakes.slurm_worker RUN_DIR"""

import sys
from pathlib import Path

from studio.runs import slurm

slurm.WORKER = "tests.fakes.worker"
sys.exit(slurm.main(Path(sys.argv[1])))
