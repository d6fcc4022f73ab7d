"""Each variant as the server that it stands for."""

from pathlib import Path

from studio.config.bench import BenchConfig
from studio.serving.benchmark.variants import IDLE_STOP_MINUTES, variants

FOLDER = Path("/saves/bench-1")


def test_every_variant_differs_from_the_others_in_what_its_name_says() -> None:
    names = ("vllm", "huggingface", "fp8_per_channel", "int8", "some/int8", "generate_batch", "generate_single")
    vllm, stand_in, quantised, made, checkpoint, together, single = variants(BenchConfig(variants=names), FOLDER)
    assert (vllm.serve.infer_backend, vllm.serve.quantization) == ("vllm", None)
    assert stand_in.serve.infer_backend == "huggingface"
    assert (quantised.serve.infer_backend, quantised.serve.quantization) == ("vllm", "fp8_per_channel")
    assert (checkpoint.serve.infer_backend, checkpoint.serve.model_name_or_path) == ("vllm", "some/int8")
    assert (made.serve.infer_backend, made.serve.model_name_or_path) == ("vllm", "/saves/bench-1/int8")
    assert all(each.is_server for each in (vllm, stand_in, quantised, made, checkpoint))
    assert not any(each.is_server for each in (together, single))
    assert (together.batched, single.batched) == (True, False)


def test_a_server_has_room_for_the_load_and_stops_if_it_is_forgotten() -> None:
    [variant] = variants(
        BenchConfig(variants="vllm", concurrency=(1, 64), prompt_tokens=(100,), output_tokens=(50,), length_spread=0),
        FOLDER,
    )
    assert variant.serve.max_num_seqs == 64
    assert variant.serve.max_model_len == 150
    assert variant.serve.idle_stop_minutes == IDLE_STOP_MINUTES


def test_what_the_person_says_of_the_servers_wins() -> None:
    options = "max_num_seqs=7,max_model_len=512,dtype=float32"
    [variant] = variants(BenchConfig(variants="vllm", serve_options=options), FOLDER)
    assert (variant.serve.max_num_seqs, variant.serve.max_model_len, variant.serve.dtype) == (7, 512, "float32")
