"""The reference pages say what the declarations say."""

import re

import pytest

from studio.config.load import KINDS
from studio.config.option import options
from studio.settings import ROOT
from tests.config.test_llamafactory import their_keys
from tools.reference import FATES, PAGES


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_current(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == PAGES[path](), "run `make docs`"


def test_every_option_is_on_its_page() -> None:
    told = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/options.md").read_text(), re.MULTILINE))
    declared = {option.key for kind in KINDS.values() for option in options(kind) if option.group != "internal"}
    assert told == declared


def test_every_key_of_llamafactory_is_on_its_page_with_one_fate() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\w ]+) \| (.+) \|$", (ROOT / "docs/llamafactory.md").read_text(), re.MULTILINE)
    keys = [key for key, fate, words in rows if fate in FATES and words]
    assert len(keys) == len(rows)
    assert sorted(keys) == sorted(their_keys())
