"""What one forward pass costs on paper, layer by layer: parameters, multiply-adds, memory access.

Every tensor operation of the pass is seen as PyTorch dispatches it, so a concatenation inside a block counts as well as
a layer. It falls under one of three heads:

*Products* (convolutions, transposed convolutions, linear layers, matrix products) have multiply-adds and the memory
access cost of Eq. (1) of the VoVNet paper, h·w·(c_i + c_o) + k²·c_i·c_o, which is the elements of input, output and
weight. That reading serves every product:

    strided             N·(h_i·w_i·c_i + h_o·w_o·c_o) + k²·c_i·c_o: all of the input, even where a kernel skips some
    grouped             the weight is k²·c_i·c_o / groups
    transposed          as strided; its multiply-adds go by input positions, N·h_i·w_i·k²·c_i·c_o / groups
    linear              k = 1 and a position is a row
    two activations     (attention) the second factor stands in the place of the weight

The weight is read once for the whole batch of N images. The least cost with the same multiply-adds, kernel, groups and
maps follows from c_i + c_o ≥ 2·√(c_i·c_o): it is 2·√(input·output elements) + weight elements, reached where input and
output have equally many elements. For the convolution of Eq. (1) this is the paper's 2·√(h·w·B/k²) + B/(h·w).

*Everything else* that touches memory (concatenation, pooling, norm, addition, activation, copies) reads its inputs and
writes its output; done in place it does so too. Views are free. Biases and the parameters and statistics of a norm are
not counted, as in Eq. (1). Attention counts as its plain matrix products and softmax, a recurrent layer as the products
of its steps, each of which reads the weight, not as a fused kernel.

*Uncounted* operations are those with no known arithmetic, listed by name. What they read and write is counted, weights
included.
"""

from __future__ import annotations

import contextlib
import copy
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

Shape = tuple[int, ...]

# Where input and weight stand among the arguments of a product.
_PRODUCTS = {"convolution": (0, 1), "mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2)}
_PRODUCTS |= {"mv": (1, 0), "addmv": (2, 1), "dot": (0, 1)}

# Operations by name, without "aten::" and the "_" of in place. What PyTorch itself tags as pointwise needs no entry.
_NO_PRODUCT = re.compile(
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
_FREE = re.compile(  # allocates, or looks at a tensor another way though its schema does not call it a view
    r"""(new_)?empty\w* | _local_scalar_dense | _linalg_check_errors | _reshape_alias | _unsafe_view | as_strided
    | unsafe_(chunk|split\w*) | lift_fresh | resize | set | (un)?squeeze | t | transpose""",
    re.VERBOSE,
)
_SELECTS = re.compile("embedding|gather|masked_select|_?(unsafe_)?index(_select)?")  # reads only what it writes
_OVERWRITES = re.compile("copy|fill|zero|(new_)?(full|ones|zeros)(_like)?")  # does not read its first argument


@dataclass(frozen=True)
class Cost:
    """Counts of one layer or of a whole model, for the batch that was given; they add up.

    `memory_access_cost` (Eq. 1) and its lower bound, and `other_elements` (read and written by all that is no product),
    are in elements. `batch_norm_elements` are the outputs of batch norms; the FLOPs column of the paper's Table 4 is
    `multiply_adds + batch_norm_elements`.
    """

    parameters: int = 0
    multiply_adds: int = 0
    memory_access_cost: int = 0
    memory_access_bound: float = 0.0
    other_elements: int = 0
    batch_norm_elements: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Cost)))

    @property
    def flops(self) -> int:
        """Two for each multiply-add; what norms, activations and pools compute is left out."""
        return 2 * self.multiply_adds

    @property
    def memory_access_ratio(self) -> float | None:
        """Memory access cost over its lower bound, at least 1; None without a product."""
        return self.memory_access_cost / self.memory_access_bound if self.memory_access_bound else None

    def flops_per_byte(self, element_bytes: int) -> float | None:
        """Arithmetic intensity if every operation reads from and writes to memory; None where no element moves."""
        elements = self.memory_access_cost + self.other_elements
        return self.flops / (elements * element_bytes) if elements else None


@dataclass(frozen=True, kw_only=True)
class LayerCost(Cost):
    """What one call of one module costs by itself, without the modules inside it.

    path: as in `named_modules()`, "" for the model itself. kind: class name. A module called twice has two of these,
    its parameters in the first; one that holds parameters and was never called has one without shapes.
    """

    path: str
    kind: str
    input_shapes: tuple[Shape, ...] = ()
    output_shapes: tuple[Shape, ...] = ()


@dataclass(frozen=True)
class ModelCost:
    """The layers in the order of their calls, and their sum.

    uncounted: operation → number of calls whose arithmetic has no rule here. note: how the counts were had where shapes
    alone did not give them, else None.
    """

    kind: str
    input_shapes: tuple[Shape, ...]
    dtype: str
    layers: tuple[LayerCost, ...]
    uncounted: dict[str, int]
    note: str | None

    @property
    def total(self) -> Cost:
        return sum(self.layers, Cost())

    @property
    def element_bytes(self) -> int:
        return _dtype(self.dtype).itemsize

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain numbers, with the derived ones; ready for JSON."""
        return {
            **{key: getattr(self, key) for key in ("kind", "input_shapes", "dtype", "uncounted", "note")},
            "total": self._row(self.total),
            "layers": [self._row(layer) for layer in self.layers],
        }

    def _row(self, cost: Cost) -> dict[str, Any]:
        return asdict(cost) | {
            "flops": cost.flops,
            "memory_access_ratio": cost.memory_access_ratio,
            "flops_per_byte": cost.flops_per_byte(self.element_bytes),
        }


def count_cost(module: nn.Module, *inputs: Any, dtype: str = "float32") -> ModelCost:
    """The cost of `module(*inputs)` in eval mode; the module stays as it was.

    inputs: the shape of each argument, as (N, C, H, W), or tensors, alone or in lists and dictionaries. dtype: name of
    the number format, for FLOPs per byte. Only shapes are computed and no weights are copied. A model whose path
    depends on values (detectors with their own post-processing) is run for real on the CPU, on random numbers where
    only a shape was given, and `note` says so: what follows the values may cost more or less on another input.

    Raises ValueError for a wrong dtype, and what the model raises if it cannot take the inputs.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # slow to import

    _dtype(dtype)
    note = None
    shapes_only = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        model = _without_values(module, shapes_only)
        with shapes_only, warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torchvision calls what PyTorch has renamed
            trace = _run(model, inputs)
    except (RuntimeError, TypeError) as error:
        if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
            raise ValueError(
                f"the model must be built with values, not on the meta device, to be run: {error}"
            ) from error
        trace = _run(copy.deepcopy(module).cpu().eval(), inputs)
        note = f"run for real on the CPU, since shapes alone do not tell its path ({_first_sentence(error)})"
    root = trace.frames[0]
    return ModelCost(root.kind, root.input_shapes, dtype, trace.layers(), dict(trace.uncounted), note)


def count_parameters(module: nn.Module) -> int:
    """Trainable values: weights, biases, norm scales. Running statistics of batch norm are not parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_multiply_adds(module: nn.Module, input_size: tuple[int, int], channels: int = 3) -> int:
    """Multiply-adds of convolutions and matrix products for one image of (height, width); FLOPs are twice that.

    What the paper's tables call FLOPs is this number. See `count_cost`.
    """
    return count_cost(module, (1, channels, *input_size)).total.multiply_adds


@dataclass
class _Frame:
    """A call of a module while it lasts."""

    path: str
    module: nn.Module
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...] = ()
    cost: Cost = field(default_factory=Cost)

    @property
    def kind(self) -> str:
        return type(self.module).__name__


class _Trace(TorchDispatchMode):
    """Adds the cost of each operation to the innermost module that is being called."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.frames: list[_Frame] = []  # of all calls, in order
        self.uncounted: Counter[str] = Counter()
        self._open: list[_Frame] = []
        self._constants = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
        for path, module in model.named_modules():
            module.register_forward_pre_hook(partial(self._enter, path), prepend=True, with_kwargs=True)
            module.register_forward_hook(self._leave)

    def _enter(self, path: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._open.append(_Frame(path, module, _shapes((args, kwargs))))
        self.frames.append(self._open[-1])

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._open.pop().output_shapes = _shapes(output)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        namespace, _, name = func.name().split(".")[0].partition("::")
        name = name.removesuffix("_") if namespace == "aten" else func.name()
        if not (func.is_view or _FREE.fullmatch(name) or namespace == "prim"):
            product = name in _PRODUCTS
            cost = self._product(name, args, output) if product else self._other(func, name, args, output)
            self._open[-1].cost += cost
        return output

    @staticmethod
    def _product(name: str, args: Any, output: torch.Tensor) -> Cost:
        x, weight = (args[position] for position in _PRODUCTS[name])
        if name == "convolution":  # the weight's first dimension is that of the output, or of the input if transposed
            transposed = args[6]
            multiply_adds = (x if transposed else output).numel() * math.prod(weight.shape[1:])
        else:
            multiply_adds = output.numel() * x.shape[-1]
        ends = x.numel(), output.numel()
        access, bound = sum(ends) + weight.numel(), 2 * math.sqrt(math.prod(ends)) + weight.numel()
        return Cost(multiply_adds=multiply_adds, memory_access_cost=access, memory_access_bound=bound)

    def _other(self, func: Any, name: str, args: Any, output: Any) -> Cost:
        counted = torch.Tag.pointwise in func.tags or bool(_NO_PRODUCT.fullmatch(name))
        if not counted:
            self.uncounted[func.name().split(".")[0]] += 1
        outputs = _tensors(output)
        if "norm" in name or "max_pool" in name or name == "log_sigmoid_forward":
            outputs = outputs[:1]  # the rest is saved for a backward pass
        written = sum(tensor.numel() for tensor in outputs)
        inputs = _tensors(args[1:] if _OVERWRITES.fullmatch(name) else args)
        if counted:
            inputs = [tensor for tensor in inputs if id(tensor) not in self._constants]
        else:  # its weights may be all that it works with
            inputs += _packed(args)
        read = sum(tensor.numel() for tensor in inputs)
        batch_norm = written if "batch_norm" in name else 0
        return Cost(
            other_elements=written + (written if _SELECTS.fullmatch(name) else read), batch_norm_elements=batch_norm
        )

    def layers(self) -> tuple[LayerCost, ...]:
        """A row for every call that cost something, then for the modules whose parameters no call accounts for."""
        called = {id(frame.module) for frame in self.frames}
        idle = [_Frame(path, module, ()) for path, module in self.model.named_modules() if id(module) not in called]
        seen: set[int] = set()
        rows = []
        for frame in (*self.frames, *idle):
            own = {id(tensor): tensor.numel() for tensor in frame.module.parameters(recurse=False)}
            parameters = sum(count for key, count in own.items() if key not in seen)
            seen |= own.keys()
            cost = frame.cost + Cost(parameters=parameters)
            if cost != Cost():
                counts = vars(cost) | {"input_shapes": frame.input_shapes, "output_shapes": frame.output_shapes}
                rows.append(LayerCost(path=frame.path, kind=frame.kind, **counts))
        return tuple(rows)


def _run(model: nn.Module, inputs: Sequence[Any]) -> _Trace:
    dtype = next((tensor.dtype for tensor in model.parameters() if tensor.is_floating_point()), torch.float32)
    generator = torch.Generator().manual_seed(0)

    def ready(value: Any) -> Any:
        if isinstance(value, (tuple, list)) and value and all(isinstance(size, int) for size in value):
            return torch.rand(*value, dtype=dtype, generator=generator)
        return tree_map_only(torch.Tensor, torch.Tensor.cpu, value)

    arguments = [ready(value) for value in inputs]
    trace = _Trace(model)
    with torch.no_grad(), _unfused(), trace:
        model(*arguments)
    return trace


def _without_values(module: nn.Module, shapes_only: contextlib.AbstractContextManager[Any]) -> nn.Module:
    """A copy in eval mode, for the CPU, whose parameters and buffers take no memory."""
    stand_ins: dict[int, Any] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        with shapes_only:
            empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
        stand_ins[id(tensor)] = nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(module, stand_ins).eval()


@contextlib.contextmanager
def _unfused() -> Iterator[None]:
    """Within, attention and (by oneDNN) LSTM are the products that they are made of."""
    mkldnn: Any = torch.backends.mkldnn  # its type does not tell that it can be set
    fast, onednn = torch.backends.mha.get_fastpath_enabled(), mkldnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    mkldnn.enabled = False
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        mkldnn.enabled = onednn


def _first_sentence(error: Exception) -> str:
    return str(error).partition("\n")[0].partition(". ")[0]


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _packed(value: Any) -> list[torch.Tensor]:
    """Weights and biases of quantised layers, which are handed on as objects of TorchScript."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    with unset_fake_temporarily():  # they have values and cannot be unpacked without
        return _tensors([leaf.__getstate__() for leaf in tree_leaves(value) if isinstance(leaf, torch.ScriptObject)])


def _shapes(value: Any) -> tuple[Shape, ...]:
    return tuple(tuple(tensor.shape) for tensor in _tensors(value))


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f'dtype must name a PyTorch number format such as "float32" or "bfloat16", got {name!r}')
    return dtype
