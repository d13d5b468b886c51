"""Which torch operations compute products, which are known not to, and which are unknown."""

import functools
import re
from typing import Any

import torch

# Operations that multiply matrices, by their names in ATen or a library of operations.
PRODUCT = re.compile(
    r"""
    (aten::)?(
        _?(sparse_|scaled_|grouped_|scaled_grouped_|int_|foreach_|cslt_sparse_
            |sparse_semi_structured_)*
            (add|badd|addb|b|sp|h)?(mm|bmm)(_activation|_v2|_search)?_?
        | (add)?mv_? | v?dot | addr_? | inner | outer | ger | kron | bilinear | _trilinear
        | chain_matmul | tensordot | .*matmul.* | .*einsum.* | linalg_multi_dot | linalg_vecdot
        | .*linear | .*conv(olution)?(_?depthwise)?(_?transpose)?[123]?d?(_.*)?
        | .*(lstm|gru|rnn).* | .*attention.* | .*cdist.* | _transformer_encoder_layer_fwd
        | s?spaddmm | smm | .*weight_int[48]pack_mm.* | sparse_sampled_addmm
    )
    | quantized(_decomposed)?::.* | torchvision::deform_conv2d | xformers.*::.*
    | flash_attn.*::.* | higher_order::flex.*
    """,
    re.VERBOSE,
)

# Namespaces without products: communication, profiling, assertions.
KNOWN_NAMESPACES = frozenset(
    (
        "prims debugprims profiler fsdp c10d c10d_functional _c10d_functional "
        "_c10d_functional_autograd"
    ).split()
)

TORCHVISION = frozenset("nms roi_align roi_pool ps_roi_align ps_roi_pool".split())

# ATen's operations without products, beyond elementwise ones, views, and operations in place. An
# operation
# of a later release is reported until it is entered here.
KNOWN = frozenset(
    """
    __and__ __or__ _adaptive_avg_pool2d _adaptive_avg_pool3d _add_relu
    _amp_foreach_non_finite_check_and_unscale _amp_update_scale _batch_norm_impl_index
    _batch_norm_no_update _batch_norm_with_update _batch_norm_with_update_functional _chunk_cat
    _coalesce _coalesced _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo
    _convert_weight_to_int4pack _convert_weight_to_int4pack_for_cpu _ctc_loss _cudnn_ctc_loss
    _cudnn_init_dropout_state _cudnn_rnn_flatten_weight _dim_arange _efficientzerotensor
    _embedding_bag _embedding_bag_forward_only _fake_quantize_learnable_per_channel_affine
    _fake_quantize_learnable_per_tensor_affine
    _fake_quantize_per_tensor_affine_cachemask_tensor_qparams _fft_c2c _fft_c2r _fft_r2c
    _foreach_abs _foreach_acos _foreach_add _foreach_addcdiv _foreach_addcmul _foreach_asin
    _foreach_atan _foreach_ceil _foreach_clamp_max _foreach_clamp_min _foreach_clone
    _foreach_cos _foreach_cosh _foreach_div _foreach_erf _foreach_erfc _foreach_exp
    _foreach_expm1 _foreach_floor _foreach_frac _foreach_lerp _foreach_lgamma _foreach_log
    _foreach_log10 _foreach_log1p _foreach_log2 _foreach_max _foreach_maximum _foreach_minimum
    _foreach_mul _foreach_neg _foreach_norm _foreach_pow _foreach_powsum _foreach_reciprocal
    _foreach_round _foreach_rsqrt _foreach_sigmoid _foreach_sign _foreach_sin _foreach_sinh
    _foreach_sqrt _foreach_sub _foreach_tan _foreach_tanh _foreach_trunc _foreach_zero
    _functional_assert_async _functional_assert_scalar _functional_sym_constrain_range
    _functional_sym_constrain_range_for_size _fused_dropout _fused_rms_norm _fused_sdp_choice
    _index_put_impl _is_all_true _is_any_true _jagged_to_padded_dense_forward _log_softmax
    _logcumsumexp _masked_scale _masked_softmax _native_batch_norm_legit
    _native_batch_norm_legit_functional _native_batch_norm_legit_no_training
    _pack_padded_sequence _pad_circular _pad_enum _pad_packed_sequence
    _padded_dense_to_jagged_forward _pin_memory _prelu_kernel _reshape_from_tensor
    _resize_output _safe_softmax _softmax _sparse_log_softmax _sparse_softmax _to_copy _to_dense
    _to_sparse _to_sparse_bsc _to_sparse_bsr _to_sparse_csc _to_sparse_csr
    _to_sparse_semi_structured _unique _unique2 _unsafe_index _unsafe_index_put
    _unsafe_masked_index _unsafe_masked_index_put_accumulate _unsafe_view _upsample_bicubic2d_aa
    _upsample_bilinear2d_aa _upsample_lanczos2d_aa _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm _weight_norm_interface
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d adaptive_max_pool3d affine_grid_generator all alpha_dropout amax amin
    aminmax any arange argmax argmin argsort as_strided_scatter avg_pool1d avg_pool2d avg_pool3d
    bartlett_window batch_norm batch_norm_elemt batch_norm_gather_stats
    batch_norm_gather_stats_with_counts batch_norm_stats batch_norm_update_stats bernoulli
    binary_cross_entropy binary_cross_entropy_with_logits bincount blackman_window block_diag
    bucketize cartesian_prod cat cauchy channel_shuffle clone col2im combinations complex concat
    concatenate constant_pad_nd copy cosine_embedding_loss cosine_similarity count_nonzero cross
    cross_entropy_loss ctc_loss cudnn_batch_norm cummax cummin cumprod cumsum diag diag_embed
    diagflat diagonal_scatter diff dropout dstack embedding embedding_bag embedding_renorm empty
    empty_like empty_permuted empty_quantized empty_strided exponential eye
    fake_quantize_per_channel_affine fake_quantize_per_channel_affine_cachemask
    fake_quantize_per_tensor_affine fake_quantize_per_tensor_affine_cachemask feature_dropout
    fft_fft fft_fft2 fft_fftfreq fft_fftn fft_fftshift fft_hfft fft_hfft2 fft_hfftn fft_ifft
    fft_ifft2 fft_ifftn fft_ifftshift fft_ihfft fft_ihfft2 fft_ihfftn fft_irfft fft_irfft2
    fft_irfftn fft_rfft fft_rfft2 fft_rfftfreq fft_rfftn fill flip floor_divide
    fractional_max_pool2d fractional_max_pool3d full full_like gather geometric glu grid_sampler
    grid_sampler_2d grid_sampler_3d group_norm hamming_window hann_window hardswish
    hinge_embedding_loss histc hstack huber_loss im2col index index_add index_fill index_put
    index_reduce index_select instance_norm isclose isin istft kaiser_window kthvalue l1_loss
    layer_norm lift linalg_matrix_norm linalg_norm linalg_vector_norm linspace log_normal
    log_sigmoid log_sigmoid_forward log_softmax logcumsumexp logspace logsumexp
    margin_ranking_loss masked_fill masked_scatter masked_select max max_pool1d
    max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d
    max_pool3d_with_indices max_unpool2d max_unpool3d mean median meshgrid min mode mse_loss
    msort multi_margin_loss multilabel_margin_loss multilabel_margin_loss_forward multinomial
    nanmean nanmedian nansum native_batch_norm native_dropout native_group_norm
    native_layer_norm new_empty new_empty_strided new_full new_ones new_zeros nll_loss
    nll_loss2d nll_loss2d_forward nll_loss_forward nll_loss_nd nonzero nonzero_numpy
    nonzero_static norm norm_except_dim normal normal_functional one_hot ones ones_like pad
    pad_sequence pairwise_distance pixel_shuffle pixel_unshuffle poisson poisson_nll_loss polar
    prelu prod put quantile quantize_per_tensor quantized_batch_norm quantized_max_pool1d
    quantized_max_pool2d quantized_max_pool3d rand rand_like randint randint_like randn
    randn_like random randperm reflection_pad1d reflection_pad2d reflection_pad3d renorm repeat
    repeat_interleave replication_pad1d replication_pad2d replication_pad3d rms_norm roll rot90
    rrelu_with_noise rrelu_with_noise_functional rsub scalar_tensor scatter scatter_add
    scatter_reduce searchsorted segment_reduce select_scatter slice_scatter smooth_l1_loss
    soft_margin_loss softmax sort sparse_bsc_tensor sparse_bsr_tensor sparse_compressed_tensor
    sparse_coo_tensor sparse_csc_tensor sparse_csr_tensor special_digamma special_erf
    special_erfc special_erfinv special_exp2 special_expit special_expm1 special_gammainc
    special_gammaincc special_gammaln special_i0 special_log1p special_log_softmax special_logit
    special_logsumexp special_multigammaln special_ndtr special_polygamma special_psi
    special_round special_sinc special_softmax special_xlogy stack std std_mean stft sum
    sum_to_size take take_along_dim tile to_dense to_sparse to_sparse_bsc to_sparse_bsr
    to_sparse_csc to_sparse_csr topk trace tril tril_indices triplet_margin_loss triu
    triu_indices uniform unique_consecutive unique_dim unique_dim_consecutive unsafe_chunk
    unsafe_split unsafe_split_with_sizes upsample_bicubic2d upsample_bilinear2d
    upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_trilinear3d var var_mean vstack where zero zeros zeros_like
    dist
    """.split()
)


@functools.cache
def classify(func: Any) -> str:
    """Returns `product`, `known` (no product) or `unknown`."""
    schema = getattr(func, "_schema", None)
    name = schema.name if schema is not None else f"higher_order::{func}"
    if is_known(name):
        return "known"
    if PRODUCT.fullmatch(name):
        return "product"
    if schema is None:
        return "unknown"
    if torch.Tag.pointwise in func.tags or is_view(schema):
        return "known"
    return "unknown"


def is_known(name: str) -> bool:
    """Whether an operation is known by its name to compute no products."""
    namespace, _, operation = name.partition("::")
    if namespace == "torchvision":
        return operation in TORCHVISION
    return namespace in KNOWN_NAMESPACES or (namespace == "aten" and operation in KNOWN)


def is_view(schema: Any) -> bool:
    """Whether all results of an operation share memory with its arguments, or are no tensors."""
    results = schema.returns
    return all(
        str(result.type) not in ("Tensor", "List[Tensor]") or result.alias_info is not None
        for result in results
    )
