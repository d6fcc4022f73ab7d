"""How a training may go on: which checkpoint, what may change, and what is said of it."""

import json

import pytest

from studio.config.train import TrainConfig
from studio.errors import ConfigError, NotResumable
from studio.runs import resumption
from studio.runs.store import Store
from tests.checkpoints import make_checkpoint

USUAL = {"dataset": "identity", "per_device_train_batch_size": 2, "gradient_accumulation_steps": 8}


@pytest.fixture
def make(tmp_path):
    """A run that was stopped, with checkpoints at these steps, each of them with this in its manifest."""

    def make(*steps, manifest=None, reason="stopped", **keys):
        run = Store(tmp_path / "saves").create(TrainConfig(**{**USUAL, **keys}))
        record = {"code": 0, "signal": None, "reason": reason, "at": 1.0}
        (run.path / "exit.json").write_text(json.dumps(record))
        for step in steps:
            make_checkpoint(run.path / f"checkpoints/checkpoint-{step}", step, manifest, max_steps=40)
        return run

    return make


def test_the_newest_checkpoint_goes_on_with_nothing_to_say(make):
    run = make(10, 20)
    found = resumption.judge(run)
    assert (found.step, found.warnings) == (20, ())
    internal = {"resume_from_checkpoint": "checkpoints/checkpoint-20", "resumed_from": run.id}
    assert found.config == run.config.model_copy(update=internal)


def test_a_damaged_newest_one_is_passed_over_and_said(make):
    run = make(10, 20, 30)
    for step in (20, 30):
        (run.path / f"checkpoints/checkpoint-{step}/model.safetensors").unlink()
    found = resumption.judge(run)
    assert found.step == 10
    assert [warning[:24] for warning in found.warnings] == ["checkpoint-20 is damaged", "checkpoint-30 is damaged"]


def test_a_checkpoint_is_chosen_by_its_step(make):
    assert resumption.judge(make(10, 20), step=10).step == 10


def test_one_that_is_not_there_or_damaged_is_refused_with_those_that_are(make):
    run = make(10, 20)
    with pytest.raises(NotResumable, match="no checkpoint of step 15: it has those of 10, 20"):
        resumption.judge(run, step=15)
    (run.path / "checkpoints/checkpoint-20/model.safetensors").unlink()
    with pytest.raises(NotResumable, match=r"model.safetensors is missing.*whole ones are those of 10"):
        resumption.judge(run, step=20)


def test_without_a_whole_one_the_damage_is_told(make):
    run = make(10)
    (run.path / "checkpoints/checkpoint-10/model.safetensors").unlink()
    with pytest.raises(NotResumable, match=r"no complete checkpoint .*model.safetensors is missing"):
        resumption.judge(run)


@pytest.mark.parametrize(
    "changes",
    [
        {"logging_steps": 5, "save_steps": 7, "save_minutes": 3, "save_total_limit": 1, "run_name": "again"},
        {"parallel_strategy": "ddp", "nproc_per_node": 1},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4},
    ],
    ids=["habits", "one process", "the same rows"],
)
def test_what_makes_no_difference_is_not_spoken_of(make, changes):
    found = resumption.judge(make(20), **changes)
    assert found.warnings == ()
    assert found.config.model_dump() | changes == found.config.model_dump()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gradient_accumulation_steps": 16}, "rows 320 to 640 of the order are left out"),
        ({"per_device_train_batch_size": 1}, "rows 160 to 320 of the order are seen again"),
        ({"cutoff_len": 99}, "cutoff_len: the rows or their order are others"),
        ({"dataset": "identity,other"}, "rows may be seen again and others never"),
        ({"seed": 7}, "seed: the rows or their order"),
        ({"max_steps": 90}, "the learning rate jumps at step 20"),
        ({"num_train_epochs": 9}, "num_train_epochs: the schedule is that of the new length"),
        ({"learning_rate": 1e-6}, "the learning rate is that of the new schedule from step 20 on"),
        ({"lora_dropout": 0.2}, "what is learnt changes at step 20"),
        ({"bf16": False}, "differ by rounding"),
    ],
    ids=["larger", "smaller", "cut", "data", "seed", "steps", "epochs", "rate", "dropout", "precision"],
)
def test_what_follows_from_a_change_is_said(make, changes, words):
    [warning] = resumption.judge(make(20), **changes).warnings
    assert words in warning


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lora_rank": 3}, "lora_rank: the weights of the checkpoint would not fit"),
        ({"finetuning_type": "full"}, "start a new training instead"),
        ({"optim": "sgd"}, "take scope no_optimizer or weights"),
        ({"max_steps": 20}, ""),
        ({"max_steps": 15}, "step 20 is behind it and 15 is the last"),
        ({"num_train_epochs": 1}, "step 20 is behind it and 14 is the last"),
    ],
    ids=["rank", "method", "optimizer", "the same end", "steps", "epochs"],
)
def test_what_cannot_be_is_refused_with_the_way_out(make, changes, words):
    run = make(20)
    if not words:
        assert resumption.judge(run, **changes).step == 20
        return
    with pytest.raises(NotResumable, match=words):
        resumption.judge(run, **changes)


def test_all_that_is_refused_is_said_at_once(make):
    with pytest.raises(NotResumable, match=r"lora_rank.*optim.*max_steps"):
        resumption.judge(make(20), lora_rank=3, optim="sgd", max_steps=2)


def test_a_completed_training_needs_more_to_do(make):
    run = make(40, reason="completed")
    with pytest.raises(NotResumable, match="40 is the last: say a larger max_steps"):
        resumption.judge(run)
    assert resumption.judge(run, max_steps=50).step == 40


def test_another_optimizer_may_begin_anew(make):
    found = resumption.judge(make(20), scope="no_optimizer", optim="sgd")
    assert found.config.resume_scope == "no_optimizer"
    assert found.warnings == ("the optimizer's states begin anew at step 20",)


def test_scopes_say_what_begins_anew(make):
    run = make(20)
    assert resumption.judge(run, scope="no_scheduler").warnings == (
        "the schedule begins anew at step 20, over the steps that are left",
    )
    assert len(resumption.judge(run, scope="weights").warnings) == 2


def test_weights_alone_go_on_with_the_scope_of_that_name(make):
    run = make(20, manifest={"weights_only": True})
    with pytest.raises(NotResumable, match="take scope weights"):
        resumption.judge(run)
    assert resumption.judge(run, scope="weights").step == 20


def test_a_followed_schedule_is_not_set_from_outside(make):
    run = make(20, lr_scheduler_type="reduce_lr_on_plateau", val_size=0.1)
    with pytest.raises(NotResumable, match="take scope no_scheduler or weights"):
        resumption.judge(run, learning_rate=1e-6)
    assert resumption.judge(run, scope="no_scheduler", learning_rate=1e-6).config.learning_rate == 1e-6


def test_more_processes_accumulate_less(make):
    found = resumption.judge(make(20), parallel_strategy="ddp", nproc_per_node=4)
    assert found.config.gradient_accumulation_steps == 2
    assert "gradient_accumulation_steps 8 becomes 2, so that a step is of 16 rows as before" in found.warnings
    assert "processes: 4 instead of 1" in found.warnings[-1]


def test_fewer_processes_accumulate_more(make):
    manifest = {"world_size": 4, "strategy": "ddp", "batch": 64}
    run = make(20, manifest=manifest, parallel_strategy="ddp", nproc_per_node=4)
    assert resumption.judge(run, nproc_per_node=2).config.gradient_accumulation_steps == 16
    found = resumption.judge(run, parallel_strategy="single", nproc_per_node=None)
    assert found.config.gradient_accumulation_steps == 32


def test_rows_that_cannot_be_dealt_out_are_refused_with_the_numbers_that_fit(make):
    with pytest.raises(NotResumable, match="to 3 processes of 2 rows each: take one of 1, 2, 4, 8 processes"):
        resumption.judge(make(20), parallel_strategy="ddp", nproc_per_node=3)


def test_a_person_may_set_the_rows_of_a_step(make):
    change = {"parallel_strategy": "ddp", "nproc_per_node": 3, "gradient_accumulation_steps": 4}
    found = resumption.judge(make(20), **change)
    assert "a step is of 24 rows where it was of 16" in found.warnings[0]


@pytest.fixture
def sharded(make):
    manifest = {"world_size": 2, "strategy": "zero2", "batch": 32}
    return lambda **keys: make(20, manifest=manifest, parallel_strategy="zero2", nproc_per_node=2, **keys)


def test_the_optimizer_of_another_kind_of_strategy_begins_anew(sharded):
    run = sharded()
    with pytest.raises(NotResumable, match="ddp cannot read the optimizer's states of zero2"):
        resumption.judge(run, parallel_strategy="ddp")
    with pytest.raises(NotResumable, match="zero3 cannot read"):
        resumption.judge(run, parallel_strategy="zero3")
    for scope in ("no_optimizer", "weights"):
        assert resumption.judge(run, scope=scope, parallel_strategy="ddp").step == 20
    assert resumption.judge(run, parallel_strategy="zero1", nproc_per_node=4).step == 20


def test_only_some_optimizers_are_dealt_out_anew(sharded):
    run = sharded(optim="sgd")
    with pytest.raises(NotResumable, match="the states of sgd are not dealt out anew to 4 processes: keep 2"):
        resumption.judge(run, nproc_per_node=4)
    assert resumption.judge(run, nproc_per_node=4, scope="no_optimizer").step == 20


def test_a_hostfile_counts_the_processes(make, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("first slots=2\nsecond slots=2\n")
    found = resumption.judge(make(20), parallel_strategy="ddp", hostfile=str(hosts))
    assert found.config.gradient_accumulation_steps == 2


def test_changes_are_checked_as_a_configuration_is(make):
    with pytest.raises(ConfigError, match="learning_rat"):
        resumption.judge(make(20), learning_rat=1)
    with pytest.raises(ConfigError, match="is set by the studio"):
        resumption.judge(make(20), resumed_from="x")


def test_states_on_an_nvme_disk_are_not_taken(make):
    keys = {"parallel_strategy": "zero3", "offload_optimizer": "nvme", "nvme_path": "/disk"}
    run = make(10, manifest={"strategy": "zero3", "world_size": 2, "batch": 32}, **keys)
    with pytest.raises(NotResumable, match="does not bring back what was offloaded to an NVMe disk"):
        resumption.judge(run, nproc_per_node=2, gradient_accumulation_steps=8)
    assert resumption.judge(run, scope="weights", nproc_per_node=2, gradient_accumulation_steps=8).step == 10
