"""The batch script, and the answers of SLURM's commands. Both are also tried on a real cluster: tests/runs."""

import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from studio.parallel import slurm
from studio.parallel.slurm import Batch, Job, Node, Place

BATCH = Batch(Path("/saves/my run"), Path("/studio"), "/studio/python", "studio.worker.launch", 2, None)
JOB = Job("7", "job", "PENDING", "Priority", "gpu", "", "", 0)
NOW = datetime(2026, 11, 22, 12, 0)
SHOWN = (
    "JobId=7 JobName=a b=c UserId=root(0) JobState=NODE_FAIL Reason=NodeDown ExitCode=9:15 StartTime=Unknown "
    "Partition=main NodeList=(null) BatchHost=one Command=/tmp/a b"
)


def _directives(batch: Batch, node: Node) -> list[str]:
    text = slurm.script(batch, node)
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).stderr == ""
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]


@pytest.mark.parametrize(
    ("processes", "node", "further", "share"),
    [
        (None, Node(64, 8), (), ["--gres=gpu:8", "--cpus-per-task=64"]),
        (2, Node(64, 8), (), ["--gres=gpu:2", "--cpus-per-task=16"]),
        (None, Node(16, 0), (), ["--cpus-per-task=2"]),
        (8, Node(4, 0), (), ["--cpus-per-task=4"]),
        (2, Node(64, 8), ("--gres=gpu:a100:2",), ["--cpus-per-task=16"]),
        (2, Node(64, 8), ("--exclusive", "-G 4"), []),
    ],
    ids=["all GPUs", "some GPUs", "no GPU", "few cores", "own GPUs", "own both"],
)
def test_a_job_gets_its_share_of_the_nodes(processes, node, further, share):
    batch = Batch(**{**vars(BATCH), "processes": processes, "further": further})
    found = _directives(batch, node)
    assert [line for line in found if line.startswith(("--gres", "--cpus")) and line not in further] == share
    assert found[len(found) - len(further) :] == list(further)


def test_an_option_cannot_become_another_line_of_the_script():
    batch = Batch(**{**vars(BATCH), "partition": "gpu\nrm -rf /", "further": ("--account=a\ntouch /tmp/x",)})
    assert "--partition=gpu rm -rf /" in _directives(batch, Node(4, 0))
    assert "\nrm" not in slurm.script(batch, Node(4, 0))
    assert "\ntouch" not in slurm.script(batch, Node(4, 0))


def test_a_job_is_read_whatever_it_is_called():
    job = slurm.read_job(SHOWN)
    assert job == Job("7", "a", "NODE_FAIL", "NodeDown", "main", "", "", 9)
    assert job.is_over
    assert slurm.ending(job, ["two", "six"]) == "Nodes two and six failed while SLURM job 7 ran there."


def test_nodes_are_read_by_partition():
    lines = ["main*|16|(null)", "gpu|64|gpu:a100:8(S:0-1)", "gpu|32|gpu:2", "mixed|8|gpu:a:1,gpu:b:2,nic:1", "odd"]
    assert slurm.read_node(lines, None) == Node(16, 0)
    assert slurm.read_node(lines, "gpu") == Node(32, 2)
    assert slurm.read_node(lines, "mixed") == Node(8, 3)
    assert slurm.read_node(lines, "nowhere") == Node(1, 0)


@pytest.mark.parametrize(
    ("job", "place", "sentence"),
    [
        ({}, Place(3, 7), "SLURM job 7: 3rd of 7 in partition gpu (others come first)"),
        ({"start": "2026-11-22T14:05:00", "reason": "Resources"}, Place(1, 1),
         "SLURM job 7: 1st of 1 in partition gpu, expected start 14:05 (waiting for free nodes)"),
        ({"start": "2026-11-24T14:05:00", "reason": ""}, Place(12, 12),
         "SLURM job 7: 12th of 12 in partition gpu, expected start 2026-11-24 14:05"),
        ({"reason": "QOSMaxJobsPerUserLimit"}, None, "SLURM job 7: pending (QOSMaxJobsPerUserLimit)"),
        ({"state": "CONFIGURING", "nodes": "one"}, None, "SLURM job 7: configuring, nodes one"),
    ],
    ids=["place", "today", "later", "hidden", "booting"],
)  # fmt: skip
def test_a_waiting_job_says_how_it_stands(job, place, sentence):
    assert slurm.waiting_sentence(Job(**{**vars(JOB), **job}), place, NOW) == sentence


def test_the_place_is_that_among_those_that_wait():
    assert slurm.read_place(["5", "7", "9"], "7") == Place(2, 3)
    assert slurm.read_place(["5"], "7") is None


@pytest.mark.parametrize("state", sorted(slurm.OVER - {"COMPLETED", "FAILED"}))
def test_every_end_that_slurm_makes_has_a_sentence(state):
    assert "SLURM" in slurm.ending(Job(**{**vars(JOB), "state": state, "nodes": "one"}))
