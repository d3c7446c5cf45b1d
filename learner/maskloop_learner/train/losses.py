"""What training minimises: image-wise soft Dice and cross entropy of the mask, plus a patch-text contrast."""

from torch import Tensor
from torch.nn import functional as F

DICE_WEIGHT = 0.5
ENTROPY_WEIGHT = 0.5
CONTRAST_WEIGHT = 0.1


def dice_loss(logits: Tensor, target: Tensor, *, smooth: float = 1.0) -> Tensor:
    """1 - soft Dice, per row. Both [B, H, W], `target` in 0..1 -> [B] in 0..1.

    Per image, not per image row as in the published training: that one drives empty rows, not masks.
    `smooth` pixels make an empty target with an empty prediction a loss of 0.
    """
    p = logits.sigmoid()
    overlap = (p * target).sum(dim=(1, 2))
    total = p.sum(dim=(1, 2)) + target.sum(dim=(1, 2))
    return 1 - (2 * overlap + smooth) / (total + smooth)


def entropy_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy in nats, mean over pixels, per row. Both [B, H, W] -> [B]."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(1, 2))


def contrast_loss(patches: Tensor, text: Tensor, *, temperature: float) -> Tensor:
    """Soft patch-text contrast, a scalar. `patches` [B, T, D] and `text` [B, D], L2-normalised.

    Row i's mean patch should be as close to text j as text i is: equal prompts are no negatives.
    """
    mean_patch = patches.mean(dim=1)
    logits = mean_patch @ text.T / temperature
    likeness = (text @ text.T).detach() / temperature
    target = F.normalize(likeness, dim=-1).softmax(dim=-1)
    image_to_text = -(target * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
    text_to_image = -(target.T * logits.T.log_softmax(dim=-1)).sum(dim=-1).mean()
    return (image_to_text + text_to_image) / 2


def segmentation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Dice and cross entropy, per row. Both [B, H, W] -> [B]."""
    return DICE_WEIGHT * dice_loss(logits, target) + ENTROPY_WEIGHT * entropy_loss(logits, target)
