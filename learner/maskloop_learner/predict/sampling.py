"""How a prediction is sampled: method, number of samples, and the named fidelities."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import torch

from maskloop_learner.predict.noise import Shapes, draw_noise, sample_seed

Method = Literal["monte-carlo", "antithetic", "mean-value"]
"""`monte-carlo`: independent noise (published); `antithetic`: noise and its negative, pair by pair, so that odd
errors cancel; `mean-value`: every value is its mean, one pass without chance."""
Fidelity = Literal["rank", "show", "exact"]


@dataclass(frozen=True)
class Sampling:
    """A method and its number of samples S. Scores of different samplings are not comparable.

    Raises ValueError when they do not go together.
    """

    method: Method
    samples: int

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {self.method!r}")
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples!r}")
        if self.method == "mean-value" and self.samples != 1:
            raise ValueError(f"method mean-value is one pass: samples must be 1, got {self.samples!r}")
        if self.method == "antithetic" and self.samples % 2:
            raise ValueError(f"method antithetic takes pairs: samples must be even, got {self.samples!r}")


PUBLISHED = Sampling("monte-carlo", 30)
FIDELITIES: Mapping[Fidelity, Sampling] = MappingProxyType(
    {"rank": Sampling("mean-value", 1), "show": PUBLISHED, "exact": PUBLISHED}
)
"""`rank`: cheap, for whole pools, where a calibration has shown that it orders images as `show` does; `show`: what a
person sees; `exact`: the same in float32 throughout."""


def draw_chunks(
    sampling: Sampling,
    *,
    shapes: Shapes,
    chunk: int,
    device: torch.device,
    version: str,
    image_digest: str,
    prompt_digest: str,
) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]] | None]:
    """The noise of each chunk of samples in order; one None for `mean-value`.

    Sample k's noise depends on version, image, prompt and k alone.
    """
    if sampling.method == "mean-value":
        yield None
        return
    paired = sampling.method == "antithetic"
    size = max(2, chunk - chunk % 2) if paired else chunk
    for start in range(0, sampling.samples, size):
        wanted = range(start, min(start + size, sampling.samples), 2 if paired else 1)
        seeds = [
            sample_seed(version=version, image_digest=image_digest, prompt_digest=prompt_digest, sample=k)
            for k in wanted
        ]
        noise = draw_noise(shapes, seeds, device)
        yield [(torch.cat([a, -a]), torch.cat([b, -b])) for a, b in noise] if paired else noise
