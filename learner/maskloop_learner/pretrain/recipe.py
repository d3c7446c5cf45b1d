"""The training that gives nano its first weights: segmentation of phantoms and a contrast of their regions' words."""

import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from maskloop_learner.model.backbones import NANO
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.model.preprocess import normalise
from maskloop_learner.pretrain.stream import Group, make_groups
from maskloop_learner.pretrain.words import PARTS, PARTS_OF, all_words, word_prompt
from maskloop_learner.train.losses import segmentation_loss
from maskloop_learner.train.resume import read_state, write_state

RECIPE = 1
"""Raise it when the same seed would give other weights."""
RATES = (5e-4, 5e-6)
"""Learning rate after the warm-up and at the end of the cosine."""
WARMUP = 0.03
TABLE_SHARE = 0.03
"""The table's share of the learning rate. Its rows have a deviation of 0.02: at the full rate a word means
something else every ten steps, and no other layer can learn what it says."""
PATCH_WEIGHT = 0.5
TEXT_WEIGHT = 0.1
TEMPERATURE = 0.1
WORDS_STEPS, WORDS_BATCH, WORDS_FACTOR = 600, 48, 4.0
"""Of the text alone, before the first image; the factor is on the learning rate."""
LARGEST_GRADIENT = 1.0
STRANGE_SHARE = 0.15
"""How often a prompt has one of its words replaced by one that no prompt uses: what it then says must come from
the others, as with words that a project uses and the phantoms do not."""
TABLE = "clip.token_embedding.weight"


class Concepts(nn.Module):
    """One vector per part: what its patches and its prompts have in common (CLIP's contrast, arXiv 2103.00020, with
    classes for pairs). Dropped after the training."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.numbers = {name: number for number, name in enumerate(PARTS)}
        self.vectors = nn.Parameter(torch.randn(len(PARTS), dim))
        self.offsets = nn.Parameter(torch.full((len(PARTS),), -2.0))

    def judge_text(self, text: Tensor, names: list[str]) -> Tensor:
        """Cross entropy of each prompt's part. `text` [N, D], L2-normalised."""
        logits = text @ F.normalize(self.vectors, dim=-1).T / TEMPERATURE
        return F.cross_entropy(logits, torch.tensor([self.numbers[name] for name in names]))

    def judge_patches(self, patches: Tensor, group: Group) -> Tensor:
        """Segmentation loss of all parts known, patch by patch. `patches` [B * P, T, D], L2-normalised."""
        chosen = [self.numbers[name] for name in group.names]
        logits = patches @ F.normalize(self.vectors[chosen], dim=-1).T / TEMPERATURE + self.offsets[chosen]
        side, repeats = math.isqrt(patches.shape[1]), len(group.prompts)
        target = F.adaptive_avg_pool2d(group.masks, side).repeat_interleave(repeats, dim=0).flatten(0, 1)
        known = group.known.repeat_interleave(repeats, dim=0).flatten()
        each = segmentation_loss(logits.transpose(1, 2).reshape(-1, side, side), target)
        return (each * known).sum() / known.sum().clamp_min(1)


class Batches(Dataset[list[Group]]):
    """Batch number -> groups, for worker processes to make ahead."""

    def __init__(self, *, seed: int, first: int, last: int, size: int) -> None:
        self.seed, self.first, self.last, self.size = seed, first, last, size

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> list[Group]:
        return make_groups(self.seed, self.first + index, size=self.size)


def pretrain(
    *,
    seed: int,
    steps: int,
    workers: int,
    checkpoint: Path,
    checkpoint_steps: int,
    on_progress: Callable[[int, float, float], None],
    words_steps: int = WORDS_STEPS,
) -> MedCLIPSeg:
    """Train nano from random weights on phantoms, on the CPU, and return it.

    Goes on from `checkpoint` if the same training wrote it. `workers` processes make phantoms ahead; 0 makes them
    in between. `on_progress` gets the steps done, the mean loss since the last call and the seconds to go.
    Raises FloatingPointError when the loss is not finite.
    """
    model = MedCLIPSeg(NANO, seed=seed).train()
    table = model.get_parameter(TABLE).requires_grad_(True)
    used = used_rows(model)
    # torch's annotations leave this call without types.
    table.register_hook(lambda gradient: gradient * used)  # type: ignore[no-untyped-call]
    strange = torch.nonzero(used[:, 0] == 0)[:, 0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        concepts = Concepts(int(NANO.clip["embed_dim"]))
    learning = [*model.parameters(), *concepts.parameters()]
    others = [parameter for parameter in learning if parameter is not table]
    optimizer = torch.optim.Adam([{"params": others, "share": 1.0}, {"params": [table], "share": TABLE_SHARE}])
    run, done = hashlib.sha256(f"{RECIPE} {NANO!r} {seed} {steps} {words_steps}".encode()).hexdigest(), 0
    if (state := read_state(checkpoint, run=run)) is not None:
        model.load_state_dict(state["model"])
        concepts.load_state_dict(state["concepts"])
        optimizer.load_state_dict(state["optimizer"])
        done = int(state["step"])
    else:
        on_progress(0, learn_words(model, concepts, seed=seed, steps=words_steps), 0.0)
    batches = Batches(seed=seed, first=done, last=steps, size=NANO.image_size)
    loader = DataLoader(batches, batch_size=None, num_workers=workers, persistent_workers=False)
    started, losses = time.monotonic(), 0.0
    for step, groups in enumerate(loader, start=done):
        for group in optimizer.param_groups:
            group["lr"] = group["share"] * learning_rate(step, steps)
        generator = torch.Generator().manual_seed((seed << 32) + step)
        loss = find_loss(model, concepts, groups, strange, generator)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(learning, LARGEST_GRADIENT)
        if not math.isfinite(loss.item()) or not math.isfinite(norm.item()):
            raise FloatingPointError(f"step {step}: loss {loss.item()}, gradient {norm.item()}; lower RATES")
        optimizer.step()
        losses += loss.item()
        if (step + 1) % checkpoint_steps == 0 or step + 1 == steps:
            state = {"run": run, "step": step + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
            state["concepts"] = concepts.state_dict()
            write_state(checkpoint, state)
            count = (step + 1 - done - 1) % checkpoint_steps + 1
            pace = (time.monotonic() - started) / (step + 1 - done)
            on_progress(step + 1, losses / count, pace * (steps - step - 1))
            losses = 0.0
    return model.eval()


def find_loss(
    model: MedCLIPSeg, concepts: Concepts, groups: list[Group], strange: Tensor, generator: torch.Generator
) -> Tensor:
    """Segmentation of what is asked, and the contrast of patches and prompts with the concepts."""
    losses: list[Tensor] = []
    for group in groups:
        asked = len(group.prompts)
        tokens = disguise(model.tokens(group.prompts), strange, generator)
        rows = len(group.images) * asked
        noise = [
            (torch.randn((rows, *text), generator=generator), torch.randn((rows, *vision), generator=generator))
            for text, vision in model.noise_shapes()
        ]
        output = model(normalise(group.images, model.spec.preprocessing), tokens, noise)
        counted = group.known[:, :asked].flatten()
        each = segmentation_loss(output.logits, group.masks[:, :asked].flatten(0, 1))
        loss = (each * counted).sum() / counted.sum().clamp_min(1)
        loss = loss + PATCH_WEIGHT * concepts.judge_patches(output.patches, group)
        losses.append(
            loss
            + TEXT_WEIGHT
            * concepts.judge_text(F.normalize(output.text, dim=-1), group.names[:asked] * len(group.images))
        )
    return torch.stack(losses).mean()


def learn_words(model: MedCLIPSeg, concepts: Concepts, *, seed: int, steps: int) -> float:
    """Text alone: prompts of one part come together, those of others apart; the last loss.

    From random weights all prompts look alike (cosine 0.9 to 0.99), and what is asked of one image then cancels out.
    """
    rng = np.random.default_rng([seed, 2**32])
    pairs = [(part, modality) for modality, parts in PARTS_OF.items() for part in parts]
    table = model.get_parameter(TABLE)
    others = [p for name, p in model.clip.named_parameters() if not name.startswith(("visual", "token_embedding"))]
    optimizer = torch.optim.Adam(
        [{"params": [*others, *concepts.parameters()], "share": 1.0}, {"params": [table], "share": TABLE_SHARE}]
    )
    value = 0.0
    for step in range(steps):
        chosen = [pairs[i] for i in rng.integers(len(pairs), size=WORDS_BATCH)]
        tokens = model.tokens([word_prompt(rng, part, modality) for part, modality in chosen])
        text = F.normalize(model.clip.encode_text(tokens), dim=-1)
        loss = concepts.judge_text(text, [part for part, _ in chosen])
        for group in optimizer.param_groups:
            group["lr"] = WORDS_FACTOR * group["share"] * learning_rate(step, steps)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(others, LARGEST_GRADIENT)
        optimizer.step()
        value = loss.item()
    return value


def disguise(tokens: Tensor, strange: Tensor, generator: torch.Generator) -> Tensor:
    """Replace one word of some prompts by a token that no prompt uses. `tokens` [P, context]."""
    tokens = tokens.clone()
    for row, end in enumerate(tokens.argmax(dim=1).tolist()):
        chance, place, which = torch.rand(3, generator=generator).tolist()
        if chance < STRANGE_SHARE and end > 2:
            tokens[row, 1 + int(place * (end - 1))] = strange[int(which * len(strange))]
    return tokens


def used_tokens(model: MedCLIPSeg) -> Tensor:
    """Ids of all tokens that prompts for phantoms can hold, with start, end and padding."""
    return torch.tensor(sorted(set(model.tokens(all_words()).flatten().tolist())))


def used_rows(model: MedCLIPSeg) -> Tensor:
    """[vocabulary, 1]: 1 for the tokens of `used_tokens`, else 0."""
    rows = torch.zeros((len(model.get_parameter(TABLE)), 1))
    return rows.index_fill_(0, used_tokens(model), 1.0)


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine."""
    high, low = RATES
    warm = max(1, round(WARMUP * steps))
    if step < warm:
        return high * (step + 1) / warm
    return low + (high - low) * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2
