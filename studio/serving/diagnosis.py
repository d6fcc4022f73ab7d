"""Why vLLM ended: the one line of its log that says so, and what a person can do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PREFIXED = re.compile(r"\] ([\w.]+(?:Error|Exception)): (.+)")
_PLAIN = re.compile(r"^(?:\([^)]*\) )?([\w.]+(?:Error|Exception)): (.+)")
_VALIDATION = re.compile(r"^\s*(?:\([^)]*\)\s*)?(Value error), (.*)")
_USAGE = re.compile(r"(api_server\.py): error: (.+)")
# the last is the engine's, whose worker was killed
_SAYS_NOTHING = ("Engine core initialization failed", "EngineCore encountered an issue", "RuntimeError: cancelled")
CAUSE_MAX_CHARS = 300
KERNEL_KILL = "the machine ran out of memory, and its kernel ended one of the server's processes"

NO_MEMORY = "Not enough memory: close other programs, lower kv_cache_memory, or choose a smaller model."
# pattern in the cause -> what to change. The first that matches counts.
HINTS: tuple[tuple[str, str], ...] = (
    (KERNEL_KILL, NO_MEMORY),
    (
        r"Address already in use",
        "Another process took the port meanwhile. Start the server again, with another port or with none given.",
    ),
    (
        r"unrecognized arguments|expected one argument|invalid choice",
        "Correct vllm_args: this vLLM has no such option.",
    ),
    (
        r"KV cache|kv_cache|larger than the available|No available memory for the cache",
        "Raise kv_cache_memory, or lower max_model_len.",
    ),
    (
        r"max_model_len|maximum model length|max seq len",
        "Lower max_model_len, or leave it empty to use the model's own limit.",
    ),
    (
        r"Free memory on device|out of memory|OutOfMemory|GPU memory utilization",
        "Stop what else uses the GPU (a training?), or lower gpu_memory_utilization.",
    ),
    (
        r"desired CPU memory|MemoryError|can't allocate memory|Cannot allocate memory|DefaultCPUAllocator",
        NO_MEMORY,
    ),
    (
        r"SafetensorError|deserializing header|invalid header|incomplete metadata",
        "A weight file is damaged: copy or download the model again.",
    ),
    (
        r"architectures? .*not supported|Invalid repository ID|does not recognize this architecture",
        "vLLM does not know this kind of model: check config.json, or choose another model.",
    ),
    (
        r"exceeds dimension size|size mismatch|shape '.*' is invalid|weight.*shape",
        "The weights do not fit the model's config.json: copy or download both again.",
    ),
    (r"lscpu", "Install lscpu (package util-linux): vLLM asks it for the processor's cores."),
    (r"C\+\+ compiler|g\+\+", "Install a C++ compiler (package g++)."),
    (
        r"LocalEntryNotFound|offline|HFValidationError|couldn't connect",
        "The model is not on this machine: give a local folder, or download it first.",
    ),
    (
        r"[Qq]uantization",
        "This quantisation cannot be served here: serve the unquantised model.",
    ),
)


def root_cause(lines: Iterable[str]) -> str:
    """The line that explains the end, as `Kind: sentence`; empty where there is none.

    The worker's word counts before the engine's, and the engine's before the API server's, which only ever says
    that something went wrong below it.
    """
    text = list(lines)
    for wanted, pattern in (
        (_of_worker, _PREFIXED),
        (_of_engine, _PREFIXED),
        (_of_anyone, _USAGE),
        (_of_anyone, _VALIDATION),
        (_of_anyone, _PREFIXED),
        (_of_anyone, _PLAIN),
    ):
        for line in filter(wanted, text):
            found = pattern.search(line)
            if found and not any(phrase in line for phrase in _SAYS_NOTHING):
                return _shortened(f"{found[1]}: {found[2].strip()}")
    return ""


def hint(cause: str) -> str:
    """What to change, for the causes that are known; empty for the others."""
    return next((advice for pattern, advice in HINTS if re.search(pattern, cause)), "")


def _shortened(cause: str) -> str:
    """Whole sentences, as many as are worth reading; the log has the rest."""
    if len(cause) <= CAUSE_MAX_CHARS:
        return cause
    start = cause[:CAUSE_MAX_CHARS]
    return start[: start.rfind(". ") + 1] or f"{start}…"


def _of_worker(line: str) -> bool:
    return line.startswith(("(Worker", "(VllmWorker"))


def _of_engine(line: str) -> bool:
    return line.startswith("(EngineCore")


def _of_anyone(line: str) -> bool:
    return True
