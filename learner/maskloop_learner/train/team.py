"""The processes of one training: each computes some of a step's images, and all end with the same gradient."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
SIGNS = (
    "DefaultCPUAllocator: can't allocate memory",
    "could not create a primitive",
    "could not create a memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What is said of exhausted memory where no OutOfMemoryError is raised: by torch's CPU allocator, oneDNN and CUDA's
libraries. oneDNN may mean something else; then a single image fails too, and the error quotes it."""


class OutOfMemory(RuntimeError):
    """The memory does not hold what was to be computed; on every process of the team."""


class Team:
    """One process alone. What goes over several is in `train.distributed`."""

    rank = 0
    size = 1

    def share(self, count: int) -> range:
        """The numbers below `count` that are this process's."""
        return range(self.rank, count, self.size)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, the same bits on each."""
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether it is so on any process."""
        return flag

    def lead(self, flag: bool) -> bool:
        """What the first process says."""
        return flag

    def add_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace each gradient by the sum over all processes; one that a process lacks counts as zero."""
        if self.size == 1:
            return
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = self.sum(torch.cat([grad.flatten() for grad in grads]))
        for parameter, part in zip(parameters, torch.split(flat, [grad.numel() for grad in grads]), strict=True):
            parameter.grad = part.view_as(parameter)

    def attempt(self, work: Callable[[], T]) -> T:
        """Do this process's part of something. Raises OutOfMemory on all when one lacks memory for its part."""
        try:
            done, said = work(), ""
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # Not the error itself: its frames hold all that was computed so far.
            done, said = None, str(error).partition("\n")[0] or type(error).__name__
        if self.any(bool(said)):
            raise OutOfMemory(said or "another process of this training ran out of memory")
        return done  # type: ignore[return-value]


ALONE = Team()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is exhausted, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)
