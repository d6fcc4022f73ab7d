from bench import gpu_train

LOG = """started in 5.7 s: imports 4.79, data 0.00, tokenising 0.21, model 0.10, trainer 0.21, first step 0.39
computed by attention: varlen
computed by kernels: plain (they need a GPU)
computed by attention: varlen
"""


def test_the_start_is_read_from_the_workers_log() -> None:
    parts = "imports 4.79, data 0.00, tokenising 0.21, model 0.10, trainer 0.21, first step 0.39"
    assert gpu_train.started(LOG) == (5.7, parts)


def test_each_way_is_named_once() -> None:
    assert gpu_train.ways(LOG) == ["attention: varlen", "kernels: plain (they need a GPU)"]


def test_speed_leaves_out_the_first_steps() -> None:
    ended = [(100.0, 0), *((110.0 + 2 * step, 1000 * step) for step in range(1, 12))]  # the first took ten seconds
    assert list(gpu_train._speed(ended)) == ["500", "500", "2000", "1,000"]


def test_speed_is_that_of_most_steps() -> None:
    ended = [(2.0 * step + 9 * (step > 10), 1000 * step) for step in range(12)]  # one is recorded
    assert list(gpu_train._speed(ended)) == ["500", "286", "2000", "1,000"]
