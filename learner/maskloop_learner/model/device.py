"""Which device a worker computes on."""

import torch


def find_device(name: str) -> torch.device:
    """`auto` is the first GPU if there is one, else the CPU; anything else is torch's name of a device.

    Raises ValueError for a name that torch does not know or a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:<number>, got {name!r}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} is not there: torch sees {torch.cuda.device_count()} GPUs; use cpu")
    return device
