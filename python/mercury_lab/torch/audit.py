"""Which torch operations compute products, which are known not to, and which are unknown."""

import functools
import re
from typing import Any

import torch

# Operations that multiply matrices, by their names in ATen or a library of operations.
PRODUCT = re.compile(
    r"""
    (aten::)?(
        _?(sparse_|scaled_|grouped_|scaled_grouped_|int_|foreach_|cslt_sparse_|sparse_semi_structured_)*
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

# Names that look like products, but only move or interpolate data.
LOOKALIKES = re.compile(
    r"aten::(_?upsample_.*|_fused_sdp_choice|_cudnn_rnn_flatten_weight|_convert_.*|linear_backward)"
)

# Operations without products, beyond elementwise ones and views.
KNOWN = re.compile(
    r"""
    aten::(
        # Creation and copies.
        empty.* | new_.* | zeros.* | ones.* | full.* | arange.* | linspace.* | logspace | eye.*
        | scalar_tensor | clone | copy_? | _to_copy | to | contiguous | lift.*
        | _local_scalar_dense | item | detach_? | alias.* | set_.* | resize_.* | tril.* | triu.*
        | constant_pad_nd | .*pad[123]d | pad | _pad.* | fill.* | zero_? | _efficientzerotensor
        | randn?.* | randint.* | randperm.* | rand_like | normal.* | uniform.* | bernoulli.*
        | multinomial | exponential_? | geometric_? | cauchy_? | log_normal_? | poisson
        | native_dropout | dropout_? | feature_dropout | alpha_dropout | one_hot | bincount
        | histc | complex | polar | tensor_split | meshgrid | cartesian_prod | combinations
        # Views, joins and selections.
        | cat | concat.* | stack | [hvd]stack | split.* | chunk | unbind.* | index.* | _index.*
        | _unsafe.* | gather | scatter.* | take.* | put_? | masked_.* | where | nonzero.* | roll
        | flip | rot90 | repeat.* | tile | expand.* | as_strided.* | unfold.* | im2col | col2im
        | fold | slice_.* | select_.* | diagonal_.* | diag.* | _?reshape.* | view.*
        | _reshape_alias | movedim | narrow.* | channel_shuffle | pixel_(un)?shuffle | unsafe_.*
        | block_diag | searchsorted | bucketize | repeat_interleave | isin | unique.* | _unique.*
        | sort | argsort | topk | msort
        # Reductions, norms, scans.
        | sum.* | mean | nan(sum|mean|median) | prod | max | min | amax | amin | aminmax | argmax
        | argmin | any | all | mode | var.* | std.* | norm.* | linalg_.*norm | _weight_norm.*
        | renorm.* | logsumexp | median | kthvalue | quantile | count_nonzero
        | cum(sum|prod|max|min)_? | _cum.* | logcumsumexp | _logcumsumexp | trace | diff | equal
        | allclose | is_.* | isclose | _has_.* | _is_.* | size | sym_.* | numel | stride | dim
        | result_type | can_cast
        # Layers.
        | .*batch_norm.* | .*layer_norm | .*group_norm | .*instance_norm | .*rms_norm.*
        | local_response_norm | cross | .*softmax.* | log_sigmoid.* | softplus | .*relu.* | gelu_?
        | silu_? | mish_? | glu | prelu | rrelu.* | elu_? | celu_? | selu_? | hardtanh_?
        | hardswish_? | hardsigmoid_? | threshold_? | softshrink | hardshrink | leaky_relu_?
        | .*pool[123]d.* | _adaptive_avg_pool.* | upsample.* | _upsample.* | grid_sampler.*
        | affine_grid_generator | interpolate | embedding.* | _embedding.* | _fused_sdp_choice
        | pixel_.* | cosine_similarity | pairwise_distance
        # Losses and the rest.
        | .*_loss.* | binary_cross_entropy.* | cross_entropy.* | _fft.* | fft_.* | stft | istft
        | lerp.* | addc(mul|div)_? | clamp.* | clip.* | nan_to_num_? | _assert.*
        | _foreach_.*(?<!mm) | _amp_.* | _fake_quantize.* | fake_quantize.* | record_stream
        | _cast.* | _?to_(sparse|dense).* | sparse_.*tensor.* | _coalesce.* | coalesce
        | _nested_tensor.* | fmod | frexp | _conj.* | conj.* | resolve_.* | real | imag
        | sgn | _pin_memory | pin_memory | is_pinned | _prelu_kernel | _thnn_.* | _dim.* | values
        | indices | special_.* | ctc.* | _ctc.* | _use_.* | _cudnn_init_dropout_state
        | float_power_? | _log_softmax | nll.* | _convert_.* | .*_backward | .*_copy | .*window
        | _fused_dropout | _masked_scale | rsub | floor_divide | _?pdist.* | dist | __(and|or)__
        | .*pad.*_sequence | _?segment_reduce | _resize_output.* | _functional_.* | _chunk_cat
        | quantize_per_tensor | _jagged_.* | _nested_view.* | _list_to_tensor
    )
    | prims::.* | profiler::.* | c10d.*::.* | _c10d_functional.*::.* | fsdp::.* | debugprims::.*
    | torchvision::(nms|roi_align|roi_pool|ps_roi_align|ps_roi_pool)
    """,
    re.VERBOSE,
)


@functools.cache
def classify(func: Any) -> str:
    """Returns `product`, `known` (no product) or `unknown`."""
    schema = getattr(func, "_schema", None)
    name = schema.name if schema is not None else f"higher_order::{func}"
    if LOOKALIKES.fullmatch(name):
        return "known"
    if PRODUCT.fullmatch(name):
        return "product"
    if KNOWN.fullmatch(name):
        return "known"
    if schema is None:
        return "unknown"
    if torch.Tag.pointwise in func.tags or is_view(schema):
        return "known"
    return "unknown"


def is_view(schema: Any) -> bool:
    """Whether all results of an operation share memory with its arguments, or are no tensors."""
    results = schema.returns
    return all(
        str(result.type) not in ("Tensor", "List[Tensor]") or result.alias_info is not None for result in results
    )
