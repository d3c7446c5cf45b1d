"""The mask head: patch tokens grow into a feature map that the prompt reads."""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from maskloop_learner.model.blocks import Affine, affine, normed
from maskloop_learner.model.threads import one_thread


class ScaleBlock(nn.Module):
    """Doubles height and width of a feature map, keeping its channels.

    Channels come last throughout: the transposed convolution is then one matrix product, and all is several
    times faster on a CPU than with channels first. The parameters are those of the published block.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(dim, dim, kernel_size=2, stride=2)
        self.conv2 = nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim, bias=False)
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, 2H, 2W, C]."""
        b, h, w, c = x.shape
        kernel = self.conv1.weight.permute(2, 3, 1, 0).reshape(4 * c, c)
        bias = cast(Tensor, self.conv1.bias).repeat(4)
        x = F.gelu(affine(x, Affine(kernel, bias))).view(b, h, w, 2, 2, c)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c)
        # A permuted view of this kind is what torch calls channels-last memory: nothing is copied.
        x = F.conv2d(x.permute(0, 3, 1, 2), self.conv2.weight, padding=1, groups=c)
        return normed(x.permute(0, 2, 3, 1), self.norm)


class MaskHead(nn.Module):
    """Logits of a mask from patch tokens and a prompt's vector."""

    def __init__(self, dim: int, *, upscales: int) -> None:
        super().__init__()
        self.upscale = nn.Sequential(*(ScaleBlock(dim) for _ in range(upscales)))
        self.mask_head = nn.Sequential(
            nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim)
        )

        self.reset()

    def reset(self) -> None:
        """First weights that let prompts differ: torch's own shrink a vector of length 1 below the biases,
        so that two prompts' queries differ by 2 %, and the mask then starts as the same for all labels."""
        linears = [layer for layer in self.mask_head if isinstance(layer, nn.Linear)]
        dim = linears[0].in_features
        for layer, deviation in zip(linears, (2**0.5, (2 / dim) ** 0.5, 1 / dim), strict=True):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def forward(self, patches: Tensor, text: Tensor, *, grid: tuple[int, int], size: int) -> Tensor:
        """`patches` [B, gh*gw, D] and `text` [B, D], of any length -> logits [B, size, size]."""
        b, _, dim = patches.shape
        grown: Tensor = self.upscale(F.normalize(patches, dim=-1).reshape(b, *grid, dim))
        with one_thread():
            query: Tensor = self.mask_head(F.normalize(text, dim=-1))
        _, h, w, _ = grown.shape
        logits = (grown.reshape(b, h * w, dim) @ query.to(grown.dtype).unsqueeze(2)).reshape(b, 1, h, w)
        if (h, w) != (size, size):
            logits = F.interpolate(logits, (size, size), mode="bilinear", align_corners=False)
        return logits.squeeze(1)
