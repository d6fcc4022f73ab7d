"""Work that needs torch, done by a worker's module in a process of its own, on the CPU, that ends with this one."""

from __future__ import annotations

import asyncio
import os
import sys

from studio.errors import ServingError
from studio.runs.process import die_with_parent
from studio.settings import ROOT


class ErrandFailed(ServingError):
    """The last thing that the process said."""


async def run(
    module: str, *arguments: str, given: str = "", timeout_s: float | None = None, threads: int | None = None
) -> None:
    """Have `python -m MODULE ARGUMENTS` done, with `given` as its input and by so many threads. Cancelling ends it.

    Raises:
        ErrandFailed: it ended with an error.
        TimeoutError: it took longer than `timeout_s`.
    """
    settings = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}  # the GPU belongs to the server
    if threads:
        settings["OMP_NUM_THREADS"] = str(threads)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, cwd=ROOT, env={**os.environ, **settings}, preexec_fn=die_with_parent,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout_s):
            _, said = await process.communicate(given.encode())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    if process.returncode:
        raise ErrandFailed(
            next(reversed(said.decode(errors="replace").strip().splitlines()), f"code {process.returncode}")
        )
