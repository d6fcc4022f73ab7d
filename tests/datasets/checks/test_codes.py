import ast
from collections.abc import Iterator
from pathlib import Path

from studio.datasets import checks
from studio.datasets.checks import CODES, REPAIRS
from studio.datasets.checks.characters import RULES
from studio.datasets.placeholders import CODES_OF

ROOM = Path(checks.__file__).parents[1]
# where a call to these has the code
PLACES = {"Misfit": 0, "RowError": 2, "describe": 0, "repetition": 0, "_note": 0}
TOKENS = {"too_long", "answer_cut_off", "no_trained_token", "tools_left_out"}


def raised() -> set[str]:
    """Every code that the room gives to a fault or a finding."""
    trees = [ast.parse(path.read_text("utf-8")) for path in (*ROOM.glob("*/*.py"), ROOM / "loading.py")]
    return {code for tree in trees for node in ast.walk(tree) for code in codes_in(node)}


def codes_in(node: ast.AST) -> Iterator[str]:
    if not isinstance(node, ast.Call):
        return
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    place = PLACES.get(name, len(node.args))
    given = [*node.args[place : place + 1], *(word.value for word in node.keywords if word.arg == "code")]
    # an empty code is none: what is raised so is "unreadable"
    yield from (code.value for code in given if isinstance(code, ast.Constant) and code.value)


def test_the_table_has_every_code_that_is_raised_and_no_other() -> None:
    assert {"missing_field", "role_order", "nan_literal", "mixed_shapes", "duplicate_rows"} <= raised()
    assert raised() | {"unreadable"} | set(CODES_OF.values()) | {rule.code for rule in RULES} | TOKENS == set(CODES)


def test_every_finding_has_words_in_both_languages() -> None:
    for code in CODES.values():
        assert code.severity in ("fatal", "warning", "info")
        assert all((*code.en, *code.zh))
        assert code.en.advice.endswith(".")
        assert code.zh.advice.endswith("。")


def test_every_repair_is_offered_by_a_finding_and_the_other_way_round() -> None:
    assert {code.repair for code in CODES.values()} - {""} == set(REPAIRS)
    assert all(repair.en and repair.zh for repair in REPAIRS.values())
