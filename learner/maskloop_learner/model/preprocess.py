"""From pixels of any size to the square that a model sees, the same in training and in prediction."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from maskloop_learner.model.backbones import Preprocessing
from maskloop_learner.model.threads import one_thread

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# An image of one colour has no deviation: it becomes all zeros rather than noise blown up.
LEAST_DEVIATION = 1e-2
# `local` contrast: detail is measured against its surroundings, an eighth of the side wide, and the image
# as a whole keeps half its weight. White and grey matter differ by a tenth of what brain and air do.
SURROUNDINGS = 1 / 8
WHOLE_WEIGHT = 0.5
# In flat surroundings detail is noise: below this spread, in deviations of the image, it is not blown up.
SPREAD_FLOOR = 0.2


def prepare_image(image: NDArray[np.uint8], size: int, how: Preprocessing) -> Tensor:
    """RGB [H, W, 3] uint8 -> what the towers are fed, [1, 3, size, size] float32."""
    return normalise(shrink_image(image, size, antialias=how != "official")[None].float() / 255, how)


def shrink_image(image: NDArray[np.uint8], size: int, *, antialias: bool = True) -> Tensor:
    """RGB [H, W, 3] uint8 -> [3, size, size] uint8: bilinear, aspect ignored.

    Without antialiasing each pixel is one look at the image, as the published data loader takes it.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"image must be RGB uint8 of shape (H, W, 3), got {image.dtype} {image.shape}")
    # Pillow hands out read-only arrays, which torch does not take without a warning.
    x = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1).unsqueeze(0).float()
    x = F.interpolate(x, (size, size), mode="bilinear", antialias=antialias, align_corners=False)
    return x.squeeze(0).round().clamp(0, 255).to(torch.uint8)


def shrink_mask(mask: NDArray[np.bool_], size: int) -> Tensor:
    """[H, W] bool -> [size, size] uint8: the share, of 255, of each cell that the mask covers."""
    x = torch.from_numpy(np.ascontiguousarray(mask, dtype=np.uint8)).mul(255)[None, None].float()
    x = F.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return x[0, 0].round().clamp(0, 255).to(torch.uint8)


def normalise(images: Tensor, how: Preprocessing) -> Tensor:
    """[B, 3, size, size] RGB in 0..1 float32 -> what the towers are fed.

    `image`: every image is brought to mean 0 and deviation 1; `local`: detail also stands out against its
    surroundings; `clip`: CLIP's statistics, with which the published towers were pretrained; `official`: blue and
    red exchanged, then ImageNet's statistics. With the last the released MedCLIPSeg checkpoints were trained, since
    their data loader takes OpenCV's BGR for RGB.
    """
    if how == "clip":
        return standardise(images, CLIP_MEAN, CLIP_STD)
    if how == "official":
        return standardise(images.flip(1), IMAGENET_MEAN, IMAGENET_STD)
    # Scanners and windowings differ in gain and offset; neither says anything about the tissue.
    with one_thread():
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        deviation = images.std(dim=(1, 2, 3), keepdim=True).clamp_min(LEAST_DEVIATION)
    whole = (images - mean) / deviation
    if how == "image":
        return whole
    side = 2 * int(images.shape[-1] * SURROUNDINGS / 2) + 1
    detail = whole - local_mean(whole, side)
    spread = local_mean(detail.square().mean(dim=1, keepdim=True), side).sqrt()
    return WHOLE_WEIGHT * whole + detail / (spread + SPREAD_FLOOR)


def standardise(images: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    """[B, 3, H, W] less the channels' means, by their deviations."""
    centre = images.new_tensor(mean).view(1, 3, 1, 1)
    return (images - centre) / images.new_tensor(deviation).view(1, 3, 1, 1)


def local_mean(x: Tensor, side: int) -> Tensor:
    """[B, C, H, W] -> the mean over a square around each pixel, cut at the border."""
    # Rows, then columns: the same mean for 2 * side additions per pixel rather than side * side.
    rows = F.avg_pool2d(x, (1, side), stride=1, padding=(0, side // 2), count_include_pad=False)
    return F.avg_pool2d(rows, (side, 1), stride=1, padding=(side // 2, 0), count_include_pad=False)
