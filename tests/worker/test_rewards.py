"""What answers are worth, one by one, and what a person's own function may do wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.config.train import TrainConfig
from studio.config.train.reward import REWARDS
from studio.errors import RewardError
from studio.worker import rewards
from studio.worker.rewards import Answers, builtin, person

README = Path(__file__).resolve().parents[2] / "data/rewards/README.md"


def answered(*texts: str, reference: str = "", ids: int = 1) -> Answers:
    count = len(texts)
    asked = [[{"role": "user", "content": f"question {index}"}] for index in range(count)]
    return Answers(asked, list(texts), [[7] * ids] * count, [reference] * count)


@pytest.mark.parametrize(
    ("answer", "reference", "worth"),
    [
        ("Paris", "Paris", 1),
        ("  Paris\n", "Paris", 1),
        ("paris", "Paris", 0),
        ("Paris.", "Paris", 0),
        ("a  b\nc", "a b c", 1),
        ("<think>London?</think>\n\nParis", "Paris", 1),
        ("London?</think>Paris", "<think>hm</think>Paris", 1),  # the prompt opened the thoughts
        ("<think>Paris", "Paris", 0),  # cut off before the answer began
        ("", "Paris", 0),
        ("巴黎", "巴黎", 1),
    ],
)
def test_exact_match(answer: str, reference: str, worth: float) -> None:
    assert builtin.exact_match(answered(answer, reference=reference)) == [worth]


@pytest.mark.parametrize(
    ("answer", "reference", "worth"),
    [
        ("It is 12.", "12", 1),
        ("12.0", "12", 1),
        ("1,234 apples", "1234", 1),
        ("1,2,3", "3", 1),
        ("$5.50", "5.5", 1),
        ("−3", "-3", 1),  # the minus of typesetters
        ("10-5", "5", 1),
        ("10-5", "-5", 0),
        ("x = -5", "-5", 1),
        ("(-5)", "-5", 1),
        (".5", "0.5", 1),
        ("１２", "12", 1),  # full width
        ("12 then 13\n#### 14 apples, not 15", "#### 14", 1),
        (r"so \boxed{7}, which is 3 more than 4", "7", 1),
        (r"\boxed{\frac{1}{2}}", "0.5", 1),
        (r"\boxed{x}, so 4", "4", 1),
        ("3/4", "0.75", 1),
        ("1/0", "0", 1),
        ("1e3", "1000", 1),
        ("1/3", "0.33333333", 1),
        ("<think>first 9</think>It is 8", "8", 1),
        ("no number", "8", 0),
        ("8", "no number", 0),
        ("9" * 5000, "9", 0),
        ("", "", 0),
    ],
)
def test_number_match(answer: str, reference: str, worth: float) -> None:
    assert builtin.number_match(answered(answer, reference=reference)) == [worth]


def test_format_match_looks_for_the_pattern_anywhere_and_across_lines() -> None:
    reward = builtin.format_match(r"^<think>.+</think>\s*\S")
    texts = ("<think>a\nb</think>\nc", "<think>a</think>", "c", "x<think>a</think>c")
    assert reward(answered(*texts)) == [1, 0, 0, 0]
    with pytest.raises(RewardError, match=r"reward_pattern is not a regular expression: .* in '\('"):
        builtin.format_match("(")


@pytest.mark.parametrize(("ids", "worth"), [(0, 0), (5, 0.5), (10, 1), (15, 0.5), (20, 0), (99, 0)])
def test_length(ids: int, worth: float) -> None:
    assert builtin.length(10)(answered("x", ids=ids)) == [worth]


def write(data_dir: Path, text: str) -> Path:
    (data_dir / "rewards").mkdir(exist_ok=True)
    (data_dir / "rewards/mine.py").write_text(text)
    return data_dir


def test_a_function_is_given_what_it_names(tmp_path: Path) -> None:
    write(
        tmp_path,
        "def texts(questions, answers, references): return [float(q + a + r == 'question 0xy') for q, a, r in"
        " zip(questions, answers, references)]\n"
        "def as_in_trl(prompts, completions, **rest): return [len(p) + len(c[0]['content']) + len(rest) for p, c in"
        " zip(prompts, completions)]\n"
        "def tokens(completion_ids, bonus=1): return [sum(ids) + bonus for ids in completion_ids]\n",
    )
    given = answered("x", reference="y", ids=2)
    assert person.load("mine.py:texts", tmp_path)(given) == [1]
    assert person.load("mine.py:as_in_trl", tmp_path)(given) == [1 + 1 + 4]
    assert person.load("mine.py:tokens", tmp_path)(given) == [15]


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path: Path) -> None:
    write(
        tmp_path,
        "import numpy, torch\n"
        "def array(answers): return numpy.array([0.5] * len(answers))\n"
        "def tensor(answers): return torch.tensor([1.5] * len(answers))\n"
        "def truth(answers): return [bool(answer) for answer in answers]\n",
    )
    assert person.load("mine.py:array", tmp_path)(answered("a", "b")) == [0.5, 0.5]
    assert person.load("mine.py:tensor", tmp_path)(answered("a", "b")) == [1.5, 1.5]
    assert person.load("mine.py:truth", tmp_path)(answered("a", "")) == [1, 0]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return None", "returned None: return a list with one figure an answer"),
        ("return [1.0]", "returned 1 figures for 3 answers: return one for each"),
        (
            "return [1, None, 1]",
            "returned None, which is no finite figure, at the prompt 'question 1' with the answer 'b'",
        ),
        ("return [1, 2, float('nan')]", "returned nan, which is no finite figure, at the prompt 'question 2'"),
        ("return [float('inf')] * 3", "returned inf, which is no finite figure, at the prompt 'question 0'"),
        ("return ['good'] * 3", "returned 'good', which is no finite figure"),
        (
            "return [1 / (answer != 'c') for answer in answers]",
            "failed: mine.py, line 2: ZeroDivisionError: .*; at the prompt 'question 2' with the answer 'c'",
        ),
        ("import json; json.loads('{')", "failed: mine.py, line 2: JSONDecodeError"),
        ("raise SystemError", "failed: mine.py, line 2: SystemError"),
        ("exit(3)", "failed: mine.py, line 2: SystemExit: 3"),
    ],
)
def test_what_a_function_gets_wrong_is_told(tmp_path: Path, body: str, told: str) -> None:
    write(tmp_path, f"def reward(answers):\n    {body}\n")
    with pytest.raises(RewardError, match=rf"mine.py:reward {told}"):
        person.load("mine.py:reward", tmp_path)(answered("a", "b", "c"))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("mine.py:nothing", "def reward(answers): pass\nLIMIT = 3\n", "has no function 'nothing'; it has reward"),
        ("mine.py:LIMIT", "LIMIT = 3\n", "LIMIT in mine.py is no function but 3"),
        ("mine.py:reward", "from math import *\n", "reward in mine.py is no function but None"),
        ("mine.py:reward", "def reward(answers:\n", r"mine.py is not Python: line 1: "),
        ("mine.py:reward", "reward = '\0'\n", r"mine.py is not Python: .*null"),
        ("mine.py:reward", "import no_such_module\ndef reward(answers): pass\n", "does not load: mine.py, line 1: Mod"),
        ("mine.py:reward", "def reward(answer): pass\n", "wants answer, but a reward is given questions, answers, "),
        ("mine.py:reward", "def reward(words, **rest): pass\n", "wants words, but a reward is given"),
        ("mine.py:reward", "reward = max\n", "does not say what it takes: wrap it"),
        ("mine.py:reward", "exit()\ndef reward(answers): pass\n", "does not load: mine.py, line 1: SystemExit"),
        ("other.py:reward", "", "there is no Python file other.py in .*; there is mine.py"),
        ("../mine.py:reward", "", "is not a name inside"),
        ("/etc/passwd:reward", "", "is not a name inside"),
        (":reward", "", "is not a name inside"),
    ],
)
def test_what_cannot_be_loaded_is_told(tmp_path: Path, name: str, text: str, told: str) -> None:
    with pytest.raises(RewardError, match=told):
        person.load(name, write(tmp_path, text))


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    mine = write(tmp_path, "def reward(answers): return [1]\n") / "rewards/mine.py"
    mine.rename(tmp_path / "outside.py")
    mine.symlink_to(tmp_path / "outside.py")
    with pytest.raises(RewardError, match="is not a name inside"):
        person.load("mine.py:reward", tmp_path)


def config(folder: Path, *names: str, **keys: object) -> TrainConfig:
    known = {"stage": "grpo", "dataset": ("demo",), "dataset_dir": str(folder), "reward_funcs": names}
    return TrainConfig.model_construct(**{**TrainConfig(dataset="demo").model_dump(), **known, **keys})


def test_the_rewards_of_a_run_are_named_as_charts_show_them(tmp_path: Path) -> None:
    write(tmp_path, "def reward(answers): return [3] * len(answers)\n")
    trusted = config(tmp_path, "exact_match", "mine.py:reward", "length", trust_reward_code=True)
    built = rewards.build(trusted, tmp_path)
    assert list(built) == ["exact_match", "mine.reward", "length"]
    assert built["mine.reward"](answered("a")) == [3]
    with pytest.raises(RewardError, match=r"mine.py:reward is code: read it, then set trust_reward_code: true"):
        rewards.build(config(tmp_path, "mine.py:reward"), tmp_path)


def test_every_reward_that_can_be_chosen_is_there() -> None:
    assert tuple(rewards.FUNCTIONS) == REWARDS


def test_the_example_of_the_readme_works(tmp_path: Path) -> None:
    example = README.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    (tmp_path / "rewards").mkdir()
    (tmp_path / "rewards/brief.py").write_text(example)
    reward = person.load("brief.py:brief", tmp_path)
    assert reward(answered("Paris", "It is Paris", "London", reference="Paris")) == [1, pytest.approx(1 / 3), 0]
