"""The network of a training run as its config asks for it: device, memory format, norms, compilation, processes."""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vovnet.engine.config import TrainConfig
from vovnet.engine.distributed import Workers
from vovnet.engine.training.schedule import micro_batches
from vovnet.errors import UsageError
from vovnet.freed_memory import keep_freed_memory
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.ghost_norm import share_passes, use_ghost_norms
from vovnet.models.layers import memory_format_of


def place(model: DetectionModel, config: TrainConfig, group: Workers) -> DetectionModel:
    """The model on the device of this process, with the memory format and the norms of the config.

    Names and values of its state dict stay the same. UsageError or ValueError if they cannot be had.
    """
    if group.device.type == "cpu":
        keep_freed_memory()
    model = model.to(group.device).to(memory_format=memory_format_of(config.channels_last))
    if config.sync_bn:
        if group.device.type != "cuda":
            raise ValueError("sync_bn=true needs CUDA GPUs; on CPU raise micro_batch_size instead")
        model = cast(DetectionModel, nn.SyncBatchNorm.convert_sync_batchnorm(model))
    if config.norm_batch_size is not None:
        _check_groups(model, config, group)
        try:
            use_ghost_norms(model, config.norm_batch_size)
        except ValueError as error:
            raise UsageError(f"norm_batch_size: {error}; set norm_batch_size=null") from None
    elif config.compile and config.norm_momentum is not None and _has_batch_norm(model):
        use_ghost_norms(model, None)  # their share can change without a new compilation
    if config.compile and config.norm_momentum is not None:
        share_passes(model, group.device)
    return model


def _check_groups(model: DetectionModel, config: TrainConfig, group: Workers) -> None:
    images, _ = micro_batches(config, group.world_size)
    if model.two_stage:
        raise UsageError(
            f"norm_batch_size is for one-stage detectors, whose loss knows groups of images; {config.model} needs "
            "norm_batch_size=null"
        )
    if images % cast(int, config.norm_batch_size):
        raise UsageError(
            f"micro_batch_size must be a multiple of norm_batch_size {config.norm_batch_size}; with batch_size "
            f"{config.batch_size} and {group.world_size} process(es) a pass holds {images} image(s)"
        )


def _has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())


def wrap(model: DetectionModel, config: TrainConfig, group: Workers) -> nn.Module:
    """What trains `model`: the model itself, or the same weights compiled, or shared by all processes, or both."""
    network: nn.Module = model
    if config.compile:
        _check_compiler(model, config, group)
        mode = "reduce-overhead" if config.compile == "graphs" else "default"
        _fill_caches(model, group.device)
        network = cast(nn.Module, torch.compile(model, mode=mode))
    return DistributedDataParallel(network) if group.world_size > 1 else network


@torch.no_grad()
def _fill_caches(model: DetectionModel, device: torch.device) -> None:
    """Let the model make its anchors. Made in a CUDA graph, they would be overwritten by the graph's next run."""
    model.eval()(torch.zeros(1, 3, *model.preprocessing.image_size, device=device))
    model.train()


def _check_compiler(model: DetectionModel, config: TrainConfig, group: Workers) -> None:
    value, device = str(config.compile).lower(), group.device
    if model.two_stage:
        raise UsageError(
            f"compile={value} is for one-stage detectors: the shapes in {config.model} change with each batch, and "
            "each would be compiled; set compile=false"
        )
    if device.type == "cuda":
        if config.compile == "graphs":
            _check_passes(model, config, group)
        if importlib.util.find_spec("triton") is None:
            raise UsageError(f"compile={value} needs triton on CUDA GPUs: pip install triton, or set compile=false")
        return
    if config.compile == "graphs":
        raise UsageError(f"compile=graphs needs a CUDA GPU; on {device.type} set compile=true or compile=false")
    compilers = (os.environ.get("CXX"), "g++", "clang++", "c++", "cl")
    if device.type == "cpu" and not any(shutil.which(name) for name in compilers if name):
        raise UsageError(f"compile={value} needs a C++ compiler on CPUs, such as g++; install one or set compile=false")


def _check_passes(model: DetectionModel, config: TrainConfig, group: Workers) -> None:
    """A CUDA graph leaves its gradients in memory of its own, which its next run overwrites: none is added up there."""
    images, passes = micro_batches(config, group.world_size)
    if passes == 1:
        return
    same = f" norm_batch_size={config.norm_batch_size or images}, which computes the same in one"
    raise UsageError(
        f"compile=graphs needs steps of one forward pass, but each has {passes} of {images} image(s): set "
        f"micro_batch_size={config.batch_size}{same if _has_batch_norm(model) else ''}, or compile=true"
    )
