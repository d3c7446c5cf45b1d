"""Which precision pays on which device."""

from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16"]
BF16 = ("avx512_bf16", "amx_bf16", "bf16")


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the hardware multiplies it faster than float32, else float32."""
    if precision == "fp32":
        return torch.float32
    if precision == "bf16" or (device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)):
        return torch.bfloat16
    return torch.bfloat16 if device.type == "cpu" and cpu_has_bf16() else torch.float32


def cpu_has_bf16() -> bool:
    """Whether the processor has bfloat16 products. Without them torch emulates these, several times slower."""
    # Releases of torch before this call cannot tell: then float32, which is right everywhere.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name) is True for name in BF16)
