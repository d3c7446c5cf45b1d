"""The endless row of batches that nano learns from; batch number and seed alone determine a batch."""

from collections import Counter
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from maskloop_learner.model.preprocess import shrink_image, shrink_mask
from maskloop_learner.pretrain.phantoms import MAKERS, make_scene
from maskloop_learner.pretrain.shapes import Scene
from maskloop_learner.pretrain.words import FINDINGS, word_prompt
from maskloop_learner.train.augment import Augmentation, augment

WEIGHTS = {"breast ultrasound": 4.0, "thyroid ultrasound": 1.5, "T1 MRI": 1.5}
"""How often a modality comes; others 1."""
GROUPS, IMAGES, PROMPTS = 3, 4, 2
"""Modalities per batch, images of each, prompts that all images of a modality are asked."""
CHANGES = Augmentation(
    rotation=0.2, scale=0.2, shift=0.06, flip=True, gamma=0.45, bias_field=0.2, noise=0.05
)  # fmt: skip
ABSENT_SHARE = 0.3
"""How often a finding that an image lacks is asked for, where it could be."""


class Group(NamedTuple):
    """Images of one modality and prompts for them."""

    modality: str
    names: list[str]
    """[K] keys of `words.PARTS`: all that is known of any of the images, what is asked for first."""
    prompts: list[str]
    """[P] for the first P names."""
    images: Tensor
    """[B, 3, S, S] in 0..1"""
    masks: Tensor
    """[B, K, S, S] in 0..1"""
    known: Tensor
    """[B, K] bool: whether the mask is the truth for that image; else it is not to be counted."""


def make_groups(seed: int, number: int, *, size: int) -> list[Group]:
    """The batch of that number, augmented."""
    rng = np.random.default_rng([seed, number])
    weights = np.asarray([WEIGHTS.get(name, 1.0) for name in MAKERS])
    chosen = rng.choice(list(MAKERS), size=GROUPS, replace=False, p=weights / weights.sum())
    return [make_group(rng, str(modality), size=size) for modality in chosen]


def make_group(rng: Generator, modality: str, *, size: int) -> Group:
    """Images of a modality with prompts that most of them can answer."""
    scenes = [make_scene(rng, modality) for _ in range(IMAGES)]
    asked = choose_parts(rng, scenes)
    names = [*asked, *sorted({name for scene in scenes for name in scene.parts} - set(asked))]
    empty = torch.zeros((size, size), dtype=torch.uint8)
    masks = torch.stack(
        [
            torch.stack([shrink_mask(s.parts[name], size) if name in s.parts else empty for name in names])
            for s in scenes
        ]
    )
    known = torch.tensor([[name in s.parts for name in names] for s in scenes])
    for row, scene in enumerate(scenes):
        for column, name in enumerate(asked):
            if name in scene.parts and not scene.parts[name].any() and rng.random() > ABSENT_SHARE:
                known[row, column] = False
    images = torch.stack([shrink_image(scene.image, size) for scene in scenes])
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    changed, moved = augment(images.float() / 255, masks.float() / 255, CHANGES, generator)
    prompts = [word_prompt(rng, name, modality) for name in asked]
    return Group(modality, names, prompts, degrade(changed, generator), moved, known)


def choose_parts(rng: Generator, scenes: list[Scene]) -> list[str]:
    """Parts that at least half of the scenes know of: first a finding where there is one, then any."""
    counts = Counter(name for scene in scenes for name in scene.parts)
    names = sorted(name for name, count in counts.items() if 2 * count >= len(scenes)) or sorted(counts)
    findings = [name for name in names if name in FINDINGS]
    first = str(rng.choice(findings if findings and rng.random() < 0.8 else names))
    rest = [name for name in names if name != first]
    more = rng.choice(rest, size=min(PROMPTS - 1, len(rest)), replace=False).tolist() if rest else []
    return [first, *more]


def degrade(images: Tensor, generator: torch.Generator) -> Tensor:
    """As cheaper cameras see it: some images blurred, some turned grey, a few with black and white swapped."""
    out = []
    for image in images:
        blur, drab, swap = torch.rand(3, generator=generator).tolist()
        if blur < 0.3:
            image = F.avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False)
        if drab < 0.15:
            image = image.mean(dim=0, keepdim=True).expand_as(image)
        if swap < 0.04:
            image = 1 - image
        out.append(image)
    return torch.stack(out)
