"""What training minimises: 0.5 Dice + 0.5 cross entropy of the mask + 0.1 patch-text contrast (arXiv 2602.20423)."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

DICE_WEIGHT = 0.5
ENTROPY_WEIGHT = 0.5
CONTRAST_WEIGHT = 0.1
ROW_SMOOTH = 1e-5

DiceKind = Literal["image", "row"]
"""`image`: soft Dice of each mask. `row`: as published, where a library took image rows for classes."""


def dice_loss(logits: Tensor, target: Tensor, *, smooth: float = 1.0) -> Tensor:
    """1 - soft Dice, per mask. Both [B, H, W], `target` in 0..1 -> [B] in 0..1.

    `smooth` pixels make an empty target with an empty prediction a loss of 0.
    """
    p = logits.sigmoid()
    overlap = (p * target).sum(dim=(1, 2))
    total = p.sum(dim=(1, 2)) + target.sum(dim=(1, 2))
    return 1 - (2 * overlap + smooth) / (total + smooth)


def row_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - soft Dice of each image row but the first, mean per mask. Both [B, H, W] -> [B].

    The published training computes this. An empty row costs nearly 1 until its logits are far below zero, so it
    drives the background's logits, not the mask's shape: for reproduction only.
    """
    p, t = logits.sigmoid()[:, 1:], target[:, 1:]
    overlap, total = (p * t).sum(dim=2), p.sum(dim=2) + t.sum(dim=2)
    return (1 - (2 * overlap + ROW_SMOOTH) / (total + ROW_SMOOTH)).mean(dim=1)


def entropy_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy in nats, mean over pixels, per mask. Both [B, H, W] -> [B]."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(1, 2))


def contrast_loss(patches: Tensor, text: Tensor, *, temperature: float, kind: Literal["unit", "raw"]) -> Tensor:
    """Soft patch-text contrast, a scalar. `patches` [B, T, D], L2-normalised, and `text` [B, D].

    Row i's mean patch should be as close to text j as text i is: equal prompts are no negatives. `raw` takes the
    text vectors as they are (published), `unit` L2-normalised.
    """
    return mean_contrast(patches.mean(dim=1), text, temperature=temperature, kind=kind)


def mean_contrast(mean_patch: Tensor, text: Tensor, *, temperature: float, kind: Literal["unit", "raw"]) -> Tensor:
    """`contrast_loss` of patches whose mean is taken already. Both [B, D]."""
    if kind == "unit":
        text = F.normalize(text, dim=-1)
    logits = mean_patch @ text.T / temperature
    likeness = (text @ text.T).detach() / temperature
    target = F.normalize(likeness, dim=-1).softmax(dim=-1)
    image_to_text = -(target * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
    text_to_image = -(target.T * logits.T.log_softmax(dim=-1)).sum(dim=-1).mean()
    return (image_to_text + text_to_image) / 2


def segmentation_loss(logits: Tensor, target: Tensor, *, dice: DiceKind = "image") -> Tensor:
    """Dice and cross entropy, per mask. Both [B, H, W] -> [B]."""
    of = dice_loss if dice == "image" else row_dice_loss
    return DICE_WEIGHT * of(logits, target) + ENTROPY_WEIGHT * entropy_loss(logits, target)
