"""The machines of a training: hostfiles and commands."""

import shlex
from pathlib import Path

import pytest

from studio.errors import ConfigError
from studio.parallel.nodes import Host, command, read_hostfile


def test_a_hostfile_names_the_machines_in_order(tmp_path):
    file = tmp_path / "hosts"
    file.write_text("# the main one\nalpha slots=8\n\nbeta   slots=4  # smaller\n10.0.0.3\n")
    assert read_hostfile(file) == (Host("alpha", 8), Host("beta", 4), Host("10.0.0.3"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("alpha slots=8\nbeta slots=none", ["line 2", "'beta slots=none'", "write `host slots=8`"]),
        ("alpha slots=0", ["line 1"]),
        ("alpha 8", ["line 1", "'alpha 8'"]),
        ("alpha\nbeta\n\nalpha slots=2", ["line 4", "names alpha again, after line 1"]),
        ("one two three\nalpha slots=x", ["line 1", "line 2"]),
        ("# nobody\n", ["names no host"]),
    ],
    ids=["no number", "no slots", "no key", "twice", "several", "nobody"],
)
def test_what_is_wrong_with_a_hostfile_is_told_by_its_line(tmp_path, text, words):
    (tmp_path / "hosts").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_hostfile(tmp_path / "hosts")
    for word in words:
        assert word in str(caught.value)


def test_a_hostfile_that_cannot_be_read_is_told_of(tmp_path):
    (tmp_path / "hosts").write_bytes(b"\xff\xfe")
    for name in ("hosts", "missing", "."):
        with pytest.raises(ConfigError, match=r"hostfile: .* cannot be read"):
            read_hostfile(tmp_path / name)


def test_a_command_can_be_pasted_whatever_the_folders_are_called():
    root, run = Path("/home/ada/my studio"), Path("/data/it's $HOME/run")
    typed = command(root / ".venv/bin/python", root, run, 3, "beta")
    assert (typed.node, typed.host) == (3, "beta")
    assert shlex.split(typed.text) == [
        "cd", str(root), "&&", ".venv/bin/python", "-m", "studio", "train", str(run), "--node-rank", "3",
    ]  # fmt: skip
    assert "/usr/bin/python3" in command(Path("/usr/bin/python3"), root, run, 1).text
