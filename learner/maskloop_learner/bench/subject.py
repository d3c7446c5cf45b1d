"""What is measured: a model, an image, a prompt and noise, all from one seed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from maskloop_learner.model.backbones import BackboneSpec
from maskloop_learner.model.bases import BackboneError, Bases
from maskloop_learner.model.medclipseg import MedCLIPSeg, Noise
from maskloop_learner.model.start import build_start

WORDS = 12
"""Tokens of the prompt, with its start and end."""
HEAD_NOISE = 0.02


@dataclass(frozen=True)
class Subject:
    """A model and what it is asked."""

    model: MedCLIPSeg
    weights: str
    """Where the towers' weights are from."""
    image: Tensor
    """[1, 3, size, size], as the towers are fed."""
    ids: Tensor
    """[1, context]"""

    def noise(self, samples: range) -> Noise:
        """Noise of these samples, the same for every mode."""
        generators = [torch.Generator().manual_seed(k) for k in samples]
        return [
            (
                torch.stack([torch.randn(text, generator=g) for g in generators]),
                torch.stack([torch.randn(vision, generator=g) for g in generators]),
            )
            for text, vision in self.model.noise_shapes()
        ]


def make_subject(spec: BackboneSpec, *, bases: Bases | None = None, seed: int = 0) -> Subject:
    """A model of this backbone, on learnt towers where they are there and on random ones elsewhere."""
    try:
        model = build_start(spec, seed=seed, start="pretrained", bases=bases)
    except BackboneError:
        model = build_start(spec, seed=seed, start="random")
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        # Adapters and head as after some training: biases that are all zero would hide an error.
        for parameter in [*model.pvl_adapters.parameters(), *model.head.parameters()]:
            parameter.add_(torch.randn(parameter.shape, generator=g) * HEAD_NOISE * parameter.std(correction=0))
    model.forget_towers()
    ids = torch.zeros((1, spec.context), dtype=torch.long)
    # Ids rather than words: no vocabulary is needed. The largest id is the end token of a CLIP.
    ids[0, :WORDS] = torch.randint(1, spec.vocabulary - 2, (WORDS,), generator=g)
    ids[0, WORDS - 1] = spec.vocabulary - 1
    image = torch.randn((1, 3, spec.image_size, spec.image_size), generator=g)
    return Subject(model.eval(), "random" if model.base.startswith("random:") else model.base[:12], image, ids)
