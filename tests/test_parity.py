"""The model against a plain reference with the same weights and noise: outputs, losses, gradients, every short cut.

Bounds are those of float32: sums are taken in another order. The published backbones have random weights in their
real format, adapters and heads moved off their first values so that no path is trivially zero.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import reference_medclipseg as reference
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskloop_learner.bench.naive import NaiveMedCLIPSeg
from maskloop_learner.model import construction
from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.model.preprocess import IMAGENET_MEAN, IMAGENET_STD, normalise, prepare_image, shrink_image
from maskloop_learner.predict.noise import draw_noise
from maskloop_learner.train.losses import (
    CONTRAST_WEIGHT,
    DiceKind,
    contrast_loss,
    dice_loss,
    row_dice_loss,
    segmentation_loss,
)

LOGITS = 1e-4
"""Largest difference of a logit."""
GRADIENT = 1e-3
"""Largest difference of a gradient, in units of the largest entry of its tensor."""
SMALLEST_GRADIENT = 1e-6
"""Some gradients are zero by algebra (a norm's bias that shifts all keys alike): then rounding is all there is."""
BF16 = 0.05
"""Largest difference of a probability between bfloat16 and float32 products."""
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model with perturbed weights and two (image, prompt) pairs."""

    model: MedCLIPSeg
    images: Tensor
    ids: Tensor
    """[2, context]: prompts of two lengths, both padded."""
    target: Tensor
    """[2, size, size] of 0 and 1; the first mask is empty but for one row."""

    @property
    def weights(self) -> dict[str, Tensor]:
        return dict(self.model.named_parameters())

    def noise(self, *seeds: int) -> list[tuple[Tensor, Tensor]]:
        return draw_noise(self.model.noise_shapes(), seeds, CPU)

    def ask_reference(self, noise: list[tuple[Tensor, Tensor]], row: slice = slice(None)) -> tuple[Tensor, ...]:
        logits, patches, text = reference.forward(self.model.spec, self.weights, self.images[row], self.ids[row], noise)
        return logits, patches / patches.norm(dim=-1, keepdim=True), text


def make_case(model: MedCLIPSeg) -> Case:
    g = torch.Generator().manual_seed(7)
    spec = model.spec
    with torch.no_grad():
        for part in (model.pvl_adapters, model.head):
            for parameter in part.parameters():
                parameter.add_(0.005 * torch.randn(parameter.shape, generator=g))
    images = torch.randn((2, 3, spec.image_size, spec.image_size), generator=g)
    target = torch.zeros(2, spec.image_size, spec.image_size)
    target[0, 5, 3:30] = 1
    target[1, 20:70, 30:90] = 1
    ids = torch.zeros((2, spec.context), dtype=torch.int64)
    for row, length in enumerate((5, 13)):
        # A first, some middle and a last token, and zeros: the largest id is CLIP's end, zero is BERT's padding.
        ids[row, :length] = torch.randint(1000, spec.vocabulary - 1000, (length,), generator=g)
        ids[row, length - 1] = spec.vocabulary - 1
    return Case(model=model, images=images, ids=ids, target=target)


def build_tiny_bert(monkeypatch: pytest.MonkeyPatch) -> MedCLIPSeg:
    """BiomedCLIP's libraries and layers at a fraction of their widths."""
    small = {"hidden_size": 96, "intermediate_size": 192}
    monkeypatch.setattr(construction, "BERT_BASE", construction.BERT_BASE | small)
    spec = BACKBONES["biomedclip"]
    vision = {**spec.clip["vision_cfg"], "timm_model_name": "vit_tiny_patch16_224"}
    text = {**spec.clip["text_cfg"], "context_length": 40}
    clip = {**spec.clip, "embed_dim": 64, "vision_cfg": vision, "text_cfg": text}
    return MedCLIPSeg(replace(spec, clip=clip, adapter_dim=64), seed=3)


@pytest.fixture(scope="module", params=["nano", "tiny-bert", pytest.param("pubmedclip", marks=pytest.mark.slow)])
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    with pytest.MonkeyPatch.context() as patch:
        name = request.param
        yield make_case(build_tiny_bert(patch) if name == "tiny-bert" else MedCLIPSeg(BACKBONES[name], seed=3))


def loss_of(case: Case, logits: Tensor, patches: Tensor, text: Tensor, dice: DiceKind) -> Tensor:
    spec = case.model.spec
    contrast = contrast_loss(patches, text, temperature=spec.temperature, kind=spec.contrast_text)
    return segmentation_loss(logits, case.target, dice=dice).mean() + CONTRAST_WEIGHT * contrast


def reference_loss(case: Case, found: tuple[Tensor, ...], dice: DiceKind) -> Tensor:
    logits, patches, text = found
    if case.model.spec.contrast_text == "unit":
        text = text / text.norm(dim=-1, keepdim=True)
    temperature = case.model.spec.temperature
    return reference.published_loss(logits, case.target, patches, text, temperature=temperature, rows=dice == "row")


def worst(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


def test_outputs_losses_and_gradients_are_the_references(case: Case) -> None:
    """In training mode, so that a dropout of a frozen BERT would show."""
    model, noise = case.model.train(), case.noise(1, 2)
    got = model(case.images, case.ids[:, None], noise)
    want = case.ask_reference(noise)
    for mine, theirs, what in zip(got, want, ("logits", "patches", "text"), strict=True):
        assert mine.shape == theirs.shape, what
        assert worst(mine, theirs) <= LOGITS, what
    assert float(want[0].detach().std()) > 0.01
    learning = {name: p for name, p in case.weights.items() if p.requires_grad}
    kinds: tuple[DiceKind, ...] = ("image", "row")
    for dice in kinds:
        mine, theirs = loss_of(case, got.logits, got.patches, got.text, dice), reference_loss(case, want, dice)
        assert mine.item() == pytest.approx(theirs.item(), abs=1e-5)
        expected = gradients(theirs, learning)
        for name, gradient in gradients(mine, learning).items():
            bound = GRADIENT * max(float(expected[name].abs().max()), SMALLEST_GRADIENT)
            assert worst(gradient, expected[name]) <= bound, f"{dice}: {name}"
        assert sum(bool(g.any()) for g in expected.values()) >= 0.9 * len(expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["biomedclip", "clip-vit-b16", "unimedclip"])
def test_large_backbones_are_the_references(name: str) -> None:
    """The ViT-B/16 variants at full size: outputs, losses, gradients, samples of one prefix and the plain way."""
    case = make_case(MedCLIPSeg(BACKBONES[name], seed=3))
    test_outputs_losses_and_gradients_are_the_references(case)
    test_samples_of_one_prefix_are_whole_passes(case)
    test_the_plain_way_of_the_benchmark_is_the_reference_too(case)


def gradients(loss: Tensor, learning: dict[str, Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, list(learning.values()), retain_graph=True, materialize_grads=True)
    return dict(zip(learning, found, strict=True))


def test_frozen_towers_stay_as_they_are(case: Case) -> None:
    """They get no gradient, and keep out of training mode, where a BERT would drop words at random."""
    model = case.model.train()
    if model.spec.trains == "all":
        assert model.clip.training
        return
    assert not any(module.training for module in model.clip.modules())
    assert all(module.training for module in (model, model.head, model.adapter(0)))
    model.zero_grad()
    out = model(case.images, case.ids[:, None], case.noise(1, 2))
    torch.autograd.backward(loss_of(case, out.logits, out.patches, out.text, "image"))
    with_gradient = {name for name, p in case.weights.items() if p.grad is not None}
    model.zero_grad()
    assert with_gradient == {name for name in case.weights if not name.startswith("clip.")}


def test_samples_of_one_prefix_are_whole_passes(case: Case) -> None:
    """The image and the prompt are read once; five samples go through the rest together."""
    model, noise = case.model.eval(), case.noise(11, 12, 13, 14, 15)
    with torch.inference_mode():
        image, ids = case.images[1:], case.ids[1:]
        got = model.sample(model.prefix(model.look(image), model.read(ids), ids), noise).logits
        assert worst(got[0], got[1]) > 10 * LOGITS
        for k in range(5):
            alone = [(a[k : k + 1], b[k : k + 1]) for a, b in noise]
            assert worst(got[k : k + 1], case.ask_reference(alone, slice(1, 2))[0]) <= LOGITS


def test_the_mean_value_pass_is_the_reference_without_noise(case: Case) -> None:
    zero = [(torch.zeros_like(a), torch.zeros_like(b)) for a, b in case.noise(1, 2)]
    with torch.inference_mode():
        got = case.model.eval()(case.images, case.ids[:, None], None).logits
        assert worst(got, case.ask_reference(zero)[0]) <= LOGITS


def test_recomputing_activations_changes_neither_loss_nor_gradients(case: Case) -> None:
    model, noise = case.model.train(), case.noise(1, 2)
    learning = {name: p for name, p in case.weights.items() if p.requires_grad}
    found = []
    for model.checkpointing in (False, True):
        out = model(case.images, case.ids[:, None], noise)
        loss = loss_of(case, out.logits, out.patches, out.text, "image")
        torch.autograd.backward(loss)
        found.append((loss.item(), {name: p.grad for name, p in learning.items()}))
        model.zero_grad()
    model.checkpointing = False
    (plain_loss, plain), (loss_again, again) = found
    assert loss_again == pytest.approx(plain_loss, abs=1e-7)
    for name, gradient in plain.items():
        other = again[name]
        assert (gradient is None) == (other is None), name
        if gradient is not None and other is not None:
            assert worst(gradient, other) <= 1e-5 * max(float(gradient.abs().max()), SMALLEST_GRADIENT), name


def test_the_plain_way_of_the_benchmark_is_the_reference_too(case: Case) -> None:
    """What the benchmark compares with computes the same."""
    noise = case.noise(1, 2)
    with torch.inference_mode():
        found = NaiveMedCLIPSeg(case.model.eval()).forward(case.images, case.ids, noise)
        for mine, theirs, what in zip(found, case.ask_reference(noise), ("logits", "patches", "text"), strict=True):
            assert worst(mine, theirs) <= LOGITS, what


def test_bfloat16_products_stay_near(case: Case) -> None:
    question = case.images[1:], case.ids[1:, None], case.noise(1)
    with torch.inference_mode():
        exact = case.model.eval()(*question).logits.sigmoid()
        rough = copy.deepcopy(case.model).use_precision(torch.bfloat16)(*question)
    assert rough.logits.dtype == torch.float32
    difference = worst(exact, rough.logits.sigmoid())
    assert 0 < difference <= BF16


@pytest.mark.parametrize("seed", range(3))
def test_the_published_dice_is_that_of_a_library_given_no_channel(seed: int) -> None:
    """Rows are taken for classes and the first for the background, which is left out."""
    losses = pytest.importorskip("monai.losses")
    torch.manual_seed(seed)
    logits, target = 3 * torch.randn(4, 17, 23), (torch.rand(4, 17, 23) > 0.7).float()
    target[0] = 0
    library = losses.DiceLoss(include_background=False, sigmoid=True)
    torch.testing.assert_close(row_dice_loss(logits, target).mean(), library(logits, target), rtol=1e-6, atol=1e-6)
    assert abs(float(row_dice_loss(logits, target).mean() - dice_loss(logits, target).mean())) > 1e-3


def look_four_times(image: NDArray[np.uint8], size: int, y: int, x: int, channel: int) -> float:
    """One pixel of a bilinear resize without antialiasing, half-pixel centres, edges repeated: OpenCV's default."""
    height, width = image.shape[:2]
    row, column = (y + 0.5) * height / size - 0.5, (x + 0.5) * width / size - 0.5
    top, left = int(np.floor(row)), int(np.floor(column))
    down, right = row - top, column - left
    rows = [min(max(k, 0), height - 1) for k in (top, top + 1)]
    columns = [min(max(k, 0), width - 1) for k in (left, left + 1)]
    a, b, c, d = (float(image[r, k, channel]) for r in rows for k in columns)
    return (1 - down) * ((1 - right) * a + right * b) + down * ((1 - right) * c + right * d)


@pytest.mark.parametrize(("height", "width"), [(61, 47), (300, 500), (224, 224), (3, 2)])
def test_official_preprocessing_takes_four_pixels_and_exchanges_red_and_blue(height: int, width: int) -> None:
    """As the published loader: blue first, ImageNet's statistics of red first, eight bits after the resize."""
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    got = prepare_image(image, 224, "official")
    assert got.shape == (1, 3, 224, 224)
    assert got.dtype == torch.float32
    for place in range(3):
        channel = 2 - place
        for y, x in ((0, 0), (0, 223), (223, 5), (100, 101), (57, 200), (223, 223)):
            seen = look_four_times(image, 224, y, x, channel)
            value = float(got[0, place, y, x]) * IMAGENET_STD[place] + IMAGENET_MEAN[place]
            assert abs(value * 255 - seen) <= 0.5 + 1e-3
            assert value * 255 == pytest.approx(round(value * 255), abs=1e-3)


def test_official_preprocessing_aliases_as_the_published_does() -> None:
    """Stripes of one pixel in four: two looks across hit every stripe and one gap, an antialiased resize is grey."""
    stripes = np.zeros((896, 896, 3), dtype=np.uint8)
    stripes[:, 1::4] = 240
    sharp, smooth = (shrink_image(stripes, 224, antialias=wanted).float() for wanted in (False, True))
    assert look_four_times(stripes, 224, 100, 100, 0) == 120
    assert bool((sharp == 120).all())
    assert float((smooth[:, :, 2:-2] - 60).abs().max()) < 20
    assert worst(prepare_image(stripes, 224, "official"), normalise(sharp[None] / 255, "official")) == 0
    assert worst(prepare_image(stripes, 224, "clip"), normalise(smooth[None] / 255, "clip")) == 0
