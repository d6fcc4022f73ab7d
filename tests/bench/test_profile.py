import pytest

from bench import _profile

KERNELS = {
    "nvjet_tst_192x192_64x4_2x1_v_bz_coopB_TNN": "matrix products",
    "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16_128x1_tn_align8>": "matrix products",
    "void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16, float>": "matrix products",
    "void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<cutlass::bfloat16_t>": "attention",
    "fmha_cutlassB_bf16_aligned_64x64_k64_sm80": "attention",
    "_rms_norm_forward_kernel": "norm, rope, activation",
    "_triton_rope": "norm, rope, activation",
    "_swiglu_backward_kernel": "norm, rope, activation",
    "void at::native::vectorized_elementwise_kernel<4, at::native::silu_kernel>": "norm, rope, activation",
    "void at::native::multi_tensor_apply_kernel<FusedAdamMathFunctor<float, 4>>": "optimizer",
    "void at::native::multi_tensor_apply_kernel<LpNormFunctor<float, NormType::L2>>": "optimizer",
    "void kDequantizeBlockwise<__nv_bfloat16, 512, 64, 8, 2>": "4-bit weights",
    "Memcpy HtoD (Pinned -> Device)": "copies",
    "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, func_wrapper_t>>": "reductions, softmax",
    "void at::native::vectorized_elementwise_kernel<4, at::native::bfloat16_copy_kernel_cuda>": "elementwise, casts",
    "void at::native::elementwise_kernel<128, 4, at::native::CUDAFunctor_add<c10::BFloat16>>": "elementwise, casts",
    "something_new": "other",
}


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_is_known_by_its_name(name: str) -> None:
    assert _profile.class_of(name) == KERNELS[name]


def test_time_of_a_kind_is_that_of_all_its_kernels() -> None:
    named = [("nvjet_tst_64", 3.0), ("_rms_norm_forward_kernel", 1.0), ("ampere_bf16_s1688gemm", 2.0)]
    assert _profile.totals(named) == {"matrix products": 5.0, "norm, rope, activation": 1.0}


def test_idle_is_the_time_in_which_no_stream_has_a_kernel() -> None:
    assert _profile.idle([(10.0, 20.0), (0.0, 4.0), (12.0, 15.0), (21.0, 22.0)]) == 7.0


def test_products_with_an_adapter_are_told_apart_by_their_shapes() -> None:
    import torch

    wide, narrow = torch.ones(96, 96), torch.ones(96, 8)
    found = _profile.look(lambda: [wide @ wide @ narrow for _ in range(3)])
    assert found[_profile.ADAPTERS] > 0
    assert found["matrix products"] > 0
