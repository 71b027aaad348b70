"""The optimizer of a run, as in each detector's published code."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from vovnet.engine.config import OptimizerConfig, ParameterRule
from vovnet.errors import UsageError, did_you_mean
from vovnet.zoo import DetectorSpec


def make_optimizer(model: nn.Module, spec: DetectorSpec, config: OptimizerConfig) -> torch.optim.Optimizer:
    """SGD or RMSProp, with a parameter group for each pair of learning rate and weight decay.

    Weight decay leaves out vectors: norm parameters, biases, scales of L2Norm. With `decay_norms` it includes them, as
    Caffe does, but for those that the detector's `spec` exempts. Fast biases of the `spec` learn at twice the rate,
    without decay. The config's rules come before all this. Each parameter is in exactly one group.

    Raises UsageError for a rule that matches no parameter.
    """
    rules = _rules_of(model, config.rules)
    fast_ids = {id(bias) for bias in spec.fast_biases(model)}
    # The first two groups are always there and come first, as in the checkpoints of older versions.
    members: dict[tuple[float, float], list[Tensor]] = {(1.0, 1.0): [], (1.0, 0.0): []}
    for name, parameter in model.named_parameters():
        decays = parameter.ndim > 1 or (config.decay_norms and not name.startswith(spec.never_decayed))
        rate, decay = (2.0, 0.0) if id(parameter) in fast_ids else (1.0, float(decays))
        if (rule := rules.get(name)) is not None:
            rate, decay = rate if rule.rate is None else rule.rate, decay if rule.decay is None else rule.decay
        members.setdefault((rate, decay), []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decay * config.weight_decay, "rate_factor": rate}
        for (rate, decay), parameters in members.items()
    ]
    options: dict[str, Any] = {"lr": config.learning_rate, "momentum": config.momentum}
    if config.kind == "rmsprop":
        # Caffe's RMSProp has the same formula; its decay 0.99 and epsilon 1e-8 are PyTorch's defaults.
        return torch.optim.RMSprop(groups, **options, foreach=True)
    if not _has_fused_sgd(model):
        return torch.optim.SGD(groups, **options, foreach=True)
    optimizer = torch.optim.SGD(groups, **options, fused=True)
    complete_state(optimizer)
    return optimizer


@torch.no_grad()
def complete_state(optimizer: torch.optim.Optimizer) -> None:
    """Give the state of an optimizer, which may come from a checkpoint, what its next step needs.

    All of it gets the memory format of its parameter, which a resumed run may change and fused SGD insists on. Fused
    SGD allocates missing momentum in a step, and leaves it undefined if that step overflows in float16: it gets zeros.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            for name, value in state.items():
                if torch.is_tensor(value) and value.shape == parameter.shape:
                    state[name] = torch.empty_like(parameter).copy_(value)
            if group.get("fused") and group["momentum"] and state.get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _has_fused_sgd(model: nn.Module) -> bool:
    """Whether SGD is one kernel for all parameters, which also sees by itself whether a step overflowed."""
    return next(model.parameters()).is_cuda


def _rules_of(model: nn.Module, rules: Sequence[ParameterRule]) -> dict[str, ParameterRule]:
    """Parameter name → the first rule that matches it. UsageError for a rule that holds for no parameter."""
    names = [name for name, _ in model.named_parameters()]
    found: dict[str, ParameterRule] = {}
    for rule in rules:
        matched = [name for name in names if fnmatchcase(name, rule.match)]
        if not matched:
            nearest = did_you_mean(rule.match, names)
            raise UsageError(f"optimizer.rules: no parameter of the model is called {rule.match!r}{nearest}")
        if found.keys() >= set(matched):
            raise UsageError(
                f"optimizer.rules: earlier rules match all parameters that match {rule.match!r}: put it first"
            )
        found |= {name: rule for name in matched if name not in found}
    return found


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every group; a group with a "rate_factor" gets that multiple of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate_factor", 1.0)
