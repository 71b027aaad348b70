"""Training in bfloat16 or float16 with float32 weights."""

from __future__ import annotations

import torch


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The number format of the forward pass for `TrainConfig.precision`. ValueError if the device lacks it."""
    if device.type != "cuda":
        allowed = ("auto", "fp32", "bf16") if device.type == "cpu" else ("auto", "fp32")
        if precision not in allowed:
            raise ValueError(f"precision={precision} needs a CUDA GPU; on {device.type} use precision={allowed[-1]}")
        return torch.bfloat16 if precision == "bf16" else torch.float32
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def make_scaler(dtype: torch.dtype, device: torch.device) -> torch.amp.GradScaler:
    """A loss scaler. It is switched off unless `dtype` is float16, the only format whose gradients underflow."""
    return torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)


def autocast(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    """A context in which convolutions and matrix products run in `dtype`. It does nothing for float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
