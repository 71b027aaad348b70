"""The cost of one tensor operation as PyTorch dispatches it. An operation belongs to one of three groups:

*Products* (convolutions, transposed or not, linear layers, matrix products) have multiply-adds, and the memory access
cost of Eq. (1) of the VoVNet paper, h·w·(c_i + c_o) + k²·c_i·c_o: the elements of input, output and weight. In general:

    strided             N·(h_i·w_i·c_i + h_o·w_o·c_o) + k²·c_i·c_o: the whole input, even if a kernel skips a part of it
    grouped             the weight has k²·c_i·c_o / groups elements
    transposed          like strided; its multiply-adds are counted per input position: N·h_i·w_i·k²·c_i·c_o / groups
    linear              k = 1, and a position is a row
    two activations     (attention) the second factor takes the role of the weight
    deformable          like the convolution without offsets; the offsets and the mask are elements of other operations
    bilinear            (nn.Bilinear) the weight times the products of all pairs of inputs
    packed              (quantised, prepacked) the weight as it was before it was packed

The weight is read once for the whole batch of N images. Since c_i + c_o ≥ 2·√(c_i·c_o), the least memory access cost
for the same multiply-adds, kernel, groups and feature map sizes is 2·√(input·output elements) + weight elements. It is
reached if input and output have equally many elements. For the convolution of Eq. (1) it is the paper's bound,
2·√(h·w·B/k²) + B/(h·w) with B multiply-adds.

*All other operations* that touch memory (concatenation, pooling, also of regions, norm, addition, activation, copies)
read their inputs and write their outputs, also if done in place. Views are free. Biases and the parameters and
statistics of a norm are not counted, as in Eq. (1). Attention counts as its matrix products and softmax, and a
recurrent layer as the products of its steps, each of which reads the weight. Both are counted part by part, even where
PyTorch runs a fused kernel.

*Uncounted* operations have no known arithmetic and are listed by name. The elements that they read and write, weights
included, are counted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from vovnet.profiling.cost_types import Cost

# Positions of input and weight among the arguments of a product. A product without a weight among its tensors has it
# packed in an object or a layout of its own.
_MATRICES = {"mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2), "mv": (1, 0), "addmv": (2, 1)}
_MATRICES |= {"dot": (0, 1), "vdot": (0, 1), "addbmm": (1, 2), "_int_mm": (0, 1), "_addmm_activation": (1, 2)}
_MATRICES |= {"_scaled_mm": (0, 1), "_scaled_mm_v2": (0, 1), "_grouped_mm": (0, 1), "_scaled_grouped_mm": (0, 1)}
_LINEAR = re.compile(
    r"""mkldnn_linear | _weight_int[48]pack_mm\w* | _mixed_dtypes_linear | _sparse_semi_structured_linear
    | _dyn_quant_matmul_4bit | mkl::_mkl_linear | mkldnn::_linear_pointwise | onednn::qlinear_pointwise
    | (_?quantized|onednn|sparse)::q?linear(_(leaky_)?relu|_tanh)?(_dynamic)?(_fp16)?""",
    re.VERBOSE,
)
_CONVOLUTION = re.compile(
    r"""_?convolution(_overrideable)? | (cudnn|mkldnn|miopen)_(depthwise_)?convolution(_transpose)?(_add)?(_relu)?
    | _?conv_depthwise[23]d | _?slow_conv\w+ | _nnpack_spatial_convolution | torchvision::deform_conv2d
    | mkldnn::_convolution_(transpose_)?pointwise_?
    | _?quantized::conv(_transpose)?[123]d(_dynamic)?(_add)?(_relu)? | mkldnn_prepacked::conv2d_run""",
    re.VERBOSE,
)
_ATTENTION = re.compile(r"_scaled_dot_product_\w*attention\w*|_(flash|efficient|cudnn)_attention_forward")

# Names without "aten::" and without the "_" of in-place operations. PyTorch tags pointwise operations itself, except
# some in older versions, such as leaky_relu.
_MEMORY_ONLY = re.compile(
    r"""(_|quantized_)?(adaptive_)?(avg|max)_pool[123]d(_with_indices)? | _?upsample_\w+ | \w+_pad[123]d | im2col
    | col2im | hardswish | leaky_relu | rsub | _conj_physical
    | _?native_(batch|layer|group)_norm\w* | linalg_vector_norm | norm | _(log_|safe_)?softmax
    | _weight_norm_interface | quantize_per_\w+ | dequantize | quantized::(add|mul|cat)\w* | addr | linalg_cross
    | logsumexp | to_mkldnn | _to_dense | _to_sparse\w* | torchvision::(ps_)?roi_(align|pool)
    | constant_pad_nd | log_sigmoid_forward | glu | _prelu_kernel | rrelu_with_noise | mean | sum | prod | std
    | var(_mean)? | all | any | cumsum | (arg)?(max|min) | amax | amin | aminmax | sort | topk | kthvalue | _?unique\w*
    | nonzero | bucketize | searchsorted | cat | stack | repeat | repeat_interleave | copy | clone | _to_copy | tril
    | triu | roll | flip | (native_)?channel_shuffle | pixel_(un)?shuffle | embedding | gather | scatter(_add)?
    | (select|slice)_scatter | masked_select | _?(unsafe_)?index(_\w+)? | arange | linspace | eye | scalar_tensor
    | rand\w* | bernoulli | uniform | normal | _pack_padded_sequence | to_padded_tensor
    | (new_)?(full|ones|zeros)(_like)? | fill | zero""",
    re.VERBOSE,
)
_FREE = re.compile(  # allocates only, or is a view that its schema does not declare
    r"""(new_)?empty\w* | is_\w+ | _has_same_storage_numel | _efficientzerotensor | _local_scalar_dense
    | _linalg_check_errors | _reshape_alias | _unsafe_view | as_strided
    | unsafe_(chunk|split\w*) | detach | lift_fresh | resize | set | (un)?squeeze | t | transpose""",
    re.VERBOSE,
)
_SELECTS = re.compile("embedding|gather|masked_select|_?(unsafe_)?index(_select)?")  # reads as much as it writes
_OVERWRITES = re.compile(
    "copy|fill|zero|uniform|normal|(new_)?(full|ones|zeros)(_like)?"
)  # does not read its first argument


def operation_cost(func: Any, args: Any, output: Any, constants: set[int]) -> tuple[Cost, str | None]:
    """The cost of `output = func(*args)`, and the name of the operation if its arithmetic is not known.

    func: the operator that PyTorch dispatches.
    constants: `id` of the model's parameters and buffers.
    """
    full_name = func.name().split(".")[0]
    namespace, _, name = full_name.rpartition("::")
    name = name.removesuffix("_") if namespace == "aten" else full_name
    if namespace in ("prim", "profiler") or _FREE.fullmatch(name) or getattr(func, "is_view", False):
        return Cost(), None
    rule = _product_rule(name)
    product = rule and rule(name, args, output)
    if product is not None:
        return product, None
    inputs = _tensors(args[1:] if _OVERWRITES.fullmatch(name) else args)
    if _is_pointwise(namespace, name) or _MEMORY_ONLY.fullmatch(name):
        inputs = [tensor for tensor in inputs if id(tensor) not in constants]
        return _memory_cost(name, inputs, _tensors(output)), None
    # Without a rule, the operation may work on nothing but its weights, so they count as well.
    inputs += _packed_weights(args)
    return _memory_cost(name, inputs, _tensors(output)) + Cost(uncounted_calls=1), full_name


@cache
def _is_pointwise(namespace: str, name: str) -> bool:
    """Whether PyTorch tags an operation or its form that is not in place; many forms in place have no tag."""
    forms = (name.rpartition("::")[2], f"{name.rpartition('::')[2]}_")
    packets = [getattr(getattr(torch.ops, namespace), form, None) for form in forms]
    operators = [getattr(packet, overload) for packet in packets if packet for overload in packet.overloads()]
    return any(torch.Tag.pointwise in operator.tags for operator in operators)


@cache
def _product_rule(name: str) -> Callable[[str, Any, Any], Cost | None] | None:
    """What the product of this name costs, as a function of name, arguments and output; None if it is no product."""
    rules = ((_LINEAR, _linear_cost), (_CONVOLUTION, _convolution_cost), (_ATTENTION, _attention_cost))
    named = {"conv_tbc": _sequence_convolution_cost, "_trilinear": _trilinear_cost} | dict.fromkeys(
        _MATRICES, _matrix_cost
    )
    return named.get(name) or next((rule for names, rule in rules if names.fullmatch(name)), None)


def _matrix_cost(name: str, args: Any, output: torch.Tensor) -> Cost:
    x, weight = (args[position] for position in _MATRICES[name])
    # Products that are summed after all, in addbmm and in a group of products, have no elements of their own.
    summed = name == "addbmm" or (x.ndim == weight.ndim == 2 and output.ndim == 3)
    multiply_adds = x.numel() * weight.shape[-1] if summed else output.numel() * x.shape[-1]
    return _of_product(multiply_adds, x, output, weight.numel())


def _linear_cost(name: str, args: Any, output: torch.Tensor) -> Cost:
    x = args[0]
    return _of_product(output.numel() * x.shape[-1], x, output, x.shape[-1] * output.shape[-1])


def _sequence_convolution_cost(name: str, args: Any, output: torch.Tensor) -> Cost:
    x, weight = args[:2]  # (kernel, c_i, c_o)
    return _of_product(output.numel() * math.prod(weight.shape[:2]), x, output, weight.numel())


def _of_product(multiply_adds: int, x: torch.Tensor, output: torch.Tensor, weight: int) -> Cost:
    return Cost.of_product(multiply_adds=multiply_adds, read=x.numel(), written=output.numel(), weight=weight)


def _convolution_cost(name: str, args: Any, output: torch.Tensor) -> Cost | None:
    x, weight = args[0], args[1]
    if not isinstance(weight, torch.Tensor):
        weights = [tensor for tensor in _packed_weights([weight]) if tensor.ndim > 2]
        if not weights:
            return None
        weight = max(weights, key=torch.Tensor.numel)
    # The first dimension of the weight is that of the output, or of the input if transposed.
    transposed = args[6] if name.lstrip("_") in ("convolution", "convolution_overrideable") else "transpose" in name
    multiply_adds = (x if transposed else output).numel() * math.prod(weight.shape[1:])
    cost = _of_product(multiply_adds, x, output, weight.numel())
    if name == "torchvision::deform_conv2d":
        offset, mask, uses_mask = args[2], args[3], args[-1]
        cost += Cost(other_elements=offset.numel() + (mask.numel() if uses_mask else 0))
    return cost


def _trilinear_cost(name: str, args: Any, output: torch.Tensor) -> Cost:
    """x, weight and y, each with dimensions of size 1 inserted, are multiplied, and some dimensions are summed."""
    shapes = [list(tensor.shape) for tensor in args[:3]]
    for shape, dimensions in zip(shapes, args[3:6], strict=True):
        for dimension in sorted(dimensions):
            shape.insert(dimension, 1)
    multiply_adds = math.prod(torch.broadcast_shapes(*shapes))
    x, weight, y = (tensor.numel() for tensor in args[:3])
    return Cost.of_product(multiply_adds=multiply_adds, read=x + y, written=output.numel(), weight=weight)


def _attention_cost(name: str, args: Any, output: Any) -> Cost:
    """Of the two products and the softmax that a fused kernel computes."""
    query, key, value = args[:3]
    tokens = 1 if name.endswith("_attention_forward") else 2  # the dimension; the other of the two is the heads
    pairs = math.prod(query.shape[:-1]) * key.shape[tokens]
    outputs = math.prod(query.shape[:-1]) * value.shape[-1]
    scores = Cost.of_product(
        multiply_adds=pairs * query.shape[-1], read=query.numel(), written=pairs, weight=key.numel()
    )
    return (
        scores
        + Cost(other_elements=2 * pairs)
        + Cost.of_product(multiply_adds=pairs * value.shape[-1], read=pairs, written=outputs, weight=value.numel())
    )


def _memory_cost(name: str, inputs: list[torch.Tensor], outputs: list[torch.Tensor]) -> Cost:
    if "norm" in name or "max_pool" in name or "roi_" in name or name == "log_sigmoid_forward":
        outputs = outputs[:1]  # the others are saved for a backward pass
    read, written = (sum(tensor.numel() for tensor in tensors) for tensors in (inputs, outputs))
    return Cost(
        other_elements=written + (written if _SELECTS.fullmatch(name) else read),
        batch_norm_elements=written if "batch_norm" in name else 0,
    )


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _packed_weights(args: Any) -> list[torch.Tensor]:
    """Weights and biases of quantised layers, which are passed as objects of TorchScript."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    packed: list[Any] = [leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.ScriptObject)]
    with unset_fake_temporarily():  # these objects have values and cannot be unpacked without them
        return _tensors([leaf.__getstate__() for leaf in packed if leaf._has_method("__getstate__")])
