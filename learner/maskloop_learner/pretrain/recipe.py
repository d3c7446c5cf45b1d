"""The training that gives nano its first weights: segmentation of phantoms and a contrast of their regions' words."""

import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from maskloop_learner.model.backbones import NANO
from maskloop_learner.model.medclipseg import MedCLIPSeg, Output
from maskloop_learner.model.preprocess import normalise
from maskloop_learner.pretrain.stream import Group, make_groups
from maskloop_learner.pretrain.words import all_words
from maskloop_learner.train.losses import segmentation_loss
from maskloop_learner.train.resume import read_state, write_state

RECIPE = 1
"""Raise it when the same seed would give other weights."""
RATES = (3e-3, 2e-5)
"""Learning rate after the warm-up and at the end of the cosine."""
WARMUP = 0.03
CONTRAST = 0.2
TEMPERATURE = 0.1
LARGEST_GRADIENT = 1.0
STRANGE_SHARE = 0.15
"""How often a prompt has one of its words replaced by one that no prompt uses: what it then says must come from
the others, as with words that a project uses and the phantoms do not."""
TABLE = "clip.token_embedding.weight"


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
) -> MedCLIPSeg:
    """Train nano from random weights on phantoms, on the CPU, and return it.

    Goes on from `checkpoint` if the same training wrote it. `workers` processes make phantoms ahead; 0 makes them
    in between. `on_progress` gets the steps done, the mean loss since the last call and the seconds to go.
    Raises FloatingPointError when the loss is not finite.
    """
    model = MedCLIPSeg(NANO, seed=seed).train()
    used = used_tokens(model)
    table = model.get_parameter(TABLE).requires_grad_(True)
    mask = torch.zeros((len(table), 1)).index_fill_(0, used, 1.0)
    table.register_hook(lambda gradient: gradient * mask)
    strange = torch.nonzero(mask[:, 0] == 0)[:, 0]
    learning = list(model.parameters())
    optimizer = torch.optim.Adam(learning, lr=RATES[0])
    run, done = hashlib.sha256(f"{RECIPE} {NANO!r} {seed} {steps}".encode()).hexdigest(), 0
    if (state := read_state(checkpoint, run=run)) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = int(state["step"])
    batches = Batches(seed=seed, first=done, last=steps, size=NANO.image_size)
    loader = DataLoader(batches, batch_size=None, num_workers=workers, persistent_workers=False)
    started, losses = time.monotonic(), 0.0
    for step, groups in enumerate(loader, start=done):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        generator = torch.Generator().manual_seed((seed << 32) + step)
        loss = find_loss(model, groups, strange, generator)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(learning, LARGEST_GRADIENT)
        if not math.isfinite(loss.item()) or not math.isfinite(norm.item()):
            raise FloatingPointError(f"step {step}: loss {loss.item()}, gradient {norm.item()}; lower RATES")
        optimizer.step()
        losses += loss.item()
        if (step + 1) % checkpoint_steps == 0 or step + 1 == steps:
            state = {"run": run, "step": step + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
            write_state(checkpoint, state)
            count = (step + 1 - done - 1) % checkpoint_steps + 1
            pace = (time.monotonic() - started) / (step + 1 - done)
            on_progress(step + 1, losses / count, pace * (steps - step - 1))
            losses = 0.0
    return model.eval()


def find_loss(model: MedCLIPSeg, groups: list[Group], strange: Tensor, generator: torch.Generator) -> Tensor:
    """Segmentation of all rows whose truth is known, and the contrast between them."""
    outputs, masks, known, names = [], [], [], []
    for group in groups:
        tokens = disguise(model.tokens(group.prompts), strange, generator)
        rows = len(group.images) * len(tokens)
        noise = [
            (torch.randn((rows, *text), generator=generator), torch.randn((rows, *vision), generator=generator))
            for text, vision in model.noise_shapes()
        ]
        outputs.append(model(normalise(group.images, model.spec.contrast), tokens, noise))
        masks.append(group.masks.flatten(0, 1))
        known.append(group.known.flatten())
        names += [f"{group.modality} {name}" for name in group.names] * len(group.images)
    output = Output(*(torch.cat(parts) for parts in zip(*outputs, strict=True)))
    mask, counted = torch.cat(masks), torch.cat(known)
    each = segmentation_loss(output.logits, mask)
    seen = counted & (mask.sum(dim=(1, 2)) > 0)
    loss = (each * counted).sum() / counted.sum().clamp_min(1)
    kept = [name for name, keep in zip(names, seen.tolist(), strict=True) if keep]
    return loss + CONTRAST * region_contrast(output.patches[seen], output.text[seen], mask[seen], kept)


def region_contrast(patches: Tensor, text: Tensor, masks: Tensor, names: list[str]) -> Tensor:
    """CLIP's loss between regions and prompts (arXiv 2103.00020), where equal names are no negatives.

    `patches` [N, T, D] and `text` [N, D], L2-normalised; `masks` [N, S, S] in 0..1 are the regions.
    """
    if len(set(names)) < 2:
        return patches.sum() * 0
    grid = math.isqrt(patches.shape[1])
    share = F.adaptive_avg_pool2d(masks[:, None], grid).flatten(1) + 1e-6
    region = F.normalize((patches * share[:, :, None]).sum(dim=1), dim=-1)
    logits = region @ text.T / TEMPERATURE
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    what = torch.tensor([numbers[name] for name in names])
    same = (what[:, None] == what[None, :]).float()
    target = same / same.sum(dim=1, keepdim=True)
    to_text = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    to_image = -(target * logits.T.log_softmax(dim=1)).sum(dim=1).mean()
    return (to_text + to_image) / 2


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
    return model.tokens(all_words()).unique()


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine."""
    high, low = RATES
    warm = max(1, round(WARMUP * steps))
    if step < warm:
        return high * (step + 1) / warm
    return low + (high - low) * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2
