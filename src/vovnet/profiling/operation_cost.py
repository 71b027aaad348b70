"""The cost of one tensor operation as PyTorch dispatches it. An operation belongs to one of three groups:

*Products* (convolutions, transposed or not, linear layers, matrix products) have multiply-adds, and the memory access
cost of Eq. (1) of the VoVNet paper, h·w·(c_i + c_o) + k²·c_i·c_o: the elements of input, output and weight. In general:

    strided             N·(h_i·w_i·c_i + h_o·w_o·c_o) + k²·c_i·c_o: the whole input, even if a kernel skips a part of it
    grouped             the weight has k²·c_i·c_o / groups elements
    transposed          like strided; its multiply-adds are counted per input position: N·h_i·w_i·k²·c_i·c_o / groups
    linear              k = 1, and a position is a row
    two activations     (attention) the second factor takes the role of the weight

The weight is read once for the whole batch of N images. Since c_i + c_o ≥ 2·√(c_i·c_o), the least memory access cost
for the same multiply-adds, kernel, groups and feature map sizes is 2·√(input·output elements) + weight elements. It is
reached if input and output have equally many elements. For the convolution of Eq. (1) it is the paper's bound,
2·√(h·w·B/k²) + B/(h·w) with B multiply-adds.

*All other operations* that touch memory (concatenation, pooling, norm, addition, activation, copies) read their inputs
and write their outputs, also if done in place. Views are free. Biases and the parameters and statistics of a norm are
not counted, as in Eq. (1). Attention counts as its matrix products and softmax, and a recurrent layer as the products
of its steps, each of which reads the weight. Both are counted part by part, even where PyTorch runs a fused kernel.

*Uncounted* operations have no known arithmetic and are listed by name. The elements that they read and write, weights
included, are counted.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from vovnet.profiling.cost_types import Cost

# Positions of input and weight among the arguments of a product.
_PRODUCTS = {"convolution": (0, 1), "mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2)}
_PRODUCTS |= {"mv": (1, 0), "addmv": (2, 1), "dot": (0, 1)}

# Names without "aten::" and without the "_" of in-place operations. PyTorch tags pointwise operations itself.
_MEMORY_ONLY = re.compile(
    r"""_?(adaptive_)?(avg|max)_pool[123]d(_with_indices)? | _?upsample_\w+ | \w+_pad[123]d | constant_pad_nd | im2col
    | col2im | _?native_(batch|layer|group)_norm\w* | linalg_vector_norm | norm | _(log_|safe_)?softmax | logsumexp
    | hardswish | log_sigmoid_forward | glu | _prelu_kernel | rrelu_with_noise | mean | sum | prod | std | var(_mean)?
    | all | any | cumsum | (arg)?(max|min) | amax | amin | aminmax | sort | topk | kthvalue | _?unique\w* | nonzero
    | bucketize | searchsorted | cat | stack | repeat | repeat_interleave | copy | clone | _to_copy | tril | triu | roll
    | flip | (native_)?channel_shuffle | pixel_(un)?shuffle | embedding | gather | scatter(_add)?
    | (select|slice)_scatter | masked_select | _?(unsafe_)?index(_\w+)? | arange | linspace | eye | scalar_tensor
    | rand\w* | bernoulli | (new_)?(full|ones|zeros)(_like)? | fill | zero""",
    re.VERBOSE,
)
_FREE = re.compile(  # allocates only, or is a view that its schema does not declare
    r"""(new_)?empty\w* | _local_scalar_dense | _linalg_check_errors | _reshape_alias | _unsafe_view | as_strided
    | unsafe_(chunk|split\w*) | lift_fresh | resize | set | (un)?squeeze | t | transpose""",
    re.VERBOSE,
)
_SELECTS = re.compile("embedding|gather|masked_select|_?(unsafe_)?index(_select)?")  # reads as much as it writes
_OVERWRITES = re.compile("copy|fill|zero|(new_)?(full|ones|zeros)(_like)?")  # does not read its first argument


def operation_cost(func: Any, args: Any, output: Any, constants: set[int]) -> tuple[Cost, str | None]:
    """The cost of `output = func(*args)`, and the name of the operation if its arithmetic is not known.

    func: the operator that PyTorch dispatches.
    constants: `id` of the model's parameters and buffers.
    """
    full_name = func.name().split(".")[0]
    namespace, _, name = full_name.partition("::")
    name = name.removesuffix("_") if namespace == "aten" else func.name()
    if func.is_view or _FREE.fullmatch(name) or namespace == "prim":
        return Cost(), None
    if name in _PRODUCTS:
        return _product_cost(name, args, output), None
    inputs = _tensors(args[1:] if _OVERWRITES.fullmatch(name) else args)
    if torch.Tag.pointwise in func.tags or _MEMORY_ONLY.fullmatch(name):
        inputs = [tensor for tensor in inputs if id(tensor) not in constants]
        return _memory_cost(name, inputs, _tensors(output)), None
    # Without a rule, the operation may work on nothing but its weights, so they count as well.
    inputs += _packed_weights(args)
    return _memory_cost(name, inputs, _tensors(output)), full_name


def _product_cost(name: str, args: Any, output: torch.Tensor) -> Cost:
    x, weight = (args[position] for position in _PRODUCTS[name])
    if name == "convolution":  # the first dimension of the weight is that of the output, or of the input if transposed
        transposed = args[6]
        multiply_adds = (x if transposed else output).numel() * math.prod(weight.shape[1:])
    else:
        multiply_adds = output.numel() * x.shape[-1]
    return Cost.of_product(multiply_adds=multiply_adds, read=x.numel(), written=output.numel(), weight=weight.numel())


def _memory_cost(name: str, inputs: list[torch.Tensor], outputs: list[torch.Tensor]) -> Cost:
    if "norm" in name or "max_pool" in name or name == "log_sigmoid_forward":
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

    with unset_fake_temporarily():  # these objects have values and cannot be unpacked without them
        return _tensors([leaf.__getstate__() for leaf in tree_leaves(args) if isinstance(leaf, torch.ScriptObject)])
