"""Rules between the options that say how datasets are mixed, streamed and validated on."""

import pytest

from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.errors import ConfigError

MIXED = {"dataset": "a,b", "mix_strategy": "interleave_under"}
STREAMED = {"dataset": "a", "streaming": True, "max_steps": 10}


@pytest.mark.parametrize(
    "keys",
    [
        MIXED,
        {**MIXED, "interleave_probs": "0.3,0.7"},
        {**MIXED, "mix_strategy": "interleave_over", "interleave_probs": [0.1, 0.9]},
        {"dataset": "a,b,c", "mix_strategy": "interleave_under", "interleave_probs": "0.1, 0.2, 0.7"},
        STREAMED,
        {**STREAMED, "val_size": 5},
        {"dataset": "a", "eval_dataset": "b,c", "eval_steps": 5},
    ],
)
def test_what_fits_together(keys):
    config = parse(TrainConfig, keys)
    assert config.interleave_probs == tuple(config.interleave_probs)


@pytest.mark.parametrize(
    ("keys", "where", "words"),
    [
        ({"dataset": "a,b", "interleave_probs": "0.5,0.5"}, "interleave_probs", "concat takes every row once"),
        ({**MIXED, "interleave_probs": "1.0"}, "interleave_probs", "each of the 2 datasets"),
        ({**MIXED, "interleave_probs": "0.5,0.4"}, "interleave_probs", "1 in all"),
        ({**MIXED, "interleave_probs": "0,1"}, "interleave_probs", "above 0"),
        ({**MIXED, "interleave_probs": "-1,2"}, "interleave_probs", "above 0"),
        ({**MIXED, "interleave_probs": "half,half"}, "interleave_probs.0", "valid number"),
        ({**STREAMED, "max_steps": -1}, "max_steps", "after how many steps"),
        ({**STREAMED, "val_size": 0.1}, "val_size", "number of rows"),
        ({**STREAMED, "val_size": 1.5}, "val_size", "number of rows"),
        ({"dataset": "a", "eval_dataset": "b", "val_size": 0.1}, "val_size", "val_size or eval_dataset"),
        ({"dataset": "a", "eval_steps": 5}, "eval_steps", "nothing to validate on"),
        ({"dataset": "a", "preprocessing_num_workers": 0}, "preprocessing_num_workers", "greater than or equal to 1"),
        ({"dataset": "a", "buffer_size": 0}, "buffer_size", "greater than or equal to 1"),
    ],
)
def test_what_does_not_is_refused_with_a_reason(keys, where, words):
    with pytest.raises(ConfigError) as caught:
        parse(TrainConfig, keys)
    [problem] = [problem for problem in caught.value.problems if problem.where == where]
    assert words in problem.what
