"""What an answer that the model wrote is worth: functions from answers to figures, the higher the better."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from studio.config.train import TrainConfig
from studio.errors import RewardError
from studio.worker.rewards import builtin, person
from studio.worker.rewards.answers import Answers, Reward

FUNCTIONS: dict[str, Callable[[TrainConfig, Path], Reward]] = {
    "exact_match": lambda config, run_dir: builtin.exact_match,
    "number_match": lambda config, run_dir: builtin.number_match,
    "format_match": lambda config, run_dir: builtin.format_match(config.reward_pattern or ""),
    "length": lambda config, run_dir: builtin.length(config.reward_length),
    "reward_model": lambda config, run_dir: _scored(config, run_dir),
}


def build(config: TrainConfig, run_dir: Path) -> dict[str, Reward]:
    """The rewards of a run by the names that the charts show.

    Raises:
        RewardError: a name, a file, a function or a pattern that does not serve, or code that is not trusted.
        ModelError: a reward model that does not load.
    """
    return {name.replace(".py:", "."): _named(name, config, run_dir) for name in config.reward_funcs}


def _named(name: str, config: TrainConfig, run_dir: Path) -> Reward:
    if name in FUNCTIONS:
        return FUNCTIONS[name](config, run_dir)
    if not config.trust_reward_code:
        raise RewardError(f"reward_funcs: {name} is code: read it, then set trust_reward_code: true")
    return person.load(name, Path(config.dataset_dir))


def _scored(config: TrainConfig, run_dir: Path) -> Reward:
    from studio.worker.rewards import scored

    return scored.load(config, run_dir)


__all__ = ["FUNCTIONS", "Answers", "Reward", "build"]
