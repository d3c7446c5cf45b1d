"""The model: adapters against a slow reference, sampling, what learns and what the towers are fed."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from maskloop_learner.model.adapters import ProbabilisticCrossAttention, PVLAdapter
from maskloop_learner.model.backbones import BACKBONES, find_backbone
from maskloop_learner.model.device import find_device
from maskloop_learner.model.head import ScaleBlock
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.model.preprocess import normalise, shrink_image, shrink_mask

NANO = BACKBONES["nano"]
PROMPTS = ["white matter in a brain MRI", "grey matter in a brain MRI"]


@pytest.fixture(scope="module")
def model() -> MedCLIPSeg:
    return MedCLIPSeg(NANO, seed=3).eval()


def draw(model: MedCLIPSeg, n: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(seed)
    return [
        (torch.randn((n, *text), generator=g), torch.randn((n, *vision), generator=g))
        for text, vision in model.noise_shapes()
    ]


def reference_attention(layer: ProbabilisticCrossAttention, query: Tensor, context: Tensor, noise: Tensor) -> Tensor:
    """The published formulas, one query and one key at a time."""
    dim = query.shape[-1]
    out = torch.empty_like(query)
    for b in range(len(query)):
        for i in range(query.shape[1]):
            q = layer.q_proj(query[b, i])
            scores, values = [], []
            for j in range(context.shape[1]):
                key, value = layer.k_proj(context[b, j]), layer.v_proj(context[b, j])
                mean = F.layer_norm(key[:dim], (dim,), layer.norm_k.weight, layer.norm_k.bias)
                variance = F.softplus(key[dim:]) + 1e-6
                penalty = math.sqrt(float((q**2 @ variance) / dim))
                scores.append(float(q @ mean) / math.sqrt(dim) - layer.beta * penalty)
                centre = F.layer_norm(value[:dim], (dim,), layer.norm_v.weight, layer.norm_v.bias)
                values.append(centre + torch.sqrt(F.softplus(value[dim:]) + 1e-6) * noise[b, j])
            weights = torch.tensor(scores, dtype=query.dtype).softmax(0)
            mixed = sum((w * v for w, v in zip(weights, values, strict=True)), torch.zeros_like(values[0]))
            gate = torch.sigmoid(layer.gate)
            out[b, i] = gate * layer.out_proj(mixed) + (1 - gate) * query[b, i]
    return out


def test_adapter_equals_the_published_formulas() -> None:
    torch.manual_seed(0)
    adapter = PVLAdapter(vision_width=6, text_width=5, dim=8, beta=2.35, gate_init=0.3).double()
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    vision, text = torch.randn(2, 7, 6).double(), torch.randn(2, 4, 5).double()
    text_noise, vision_noise = torch.randn(2, 4, 8).double(), torch.randn(2, 7, 8).double()
    with torch.no_grad():
        got = adapter.part(adapter.meet(vision, text), text_noise, vision_noise)
        v, t = adapter.proj_vis_down(vision), adapter.proj_txt_down(text)
        v2 = reference_attention(adapter.two_way.cross_attn_img_to_txt, v, t, text_noise)
        t2 = reference_attention(adapter.two_way.cross_attn_txt_to_img, t, v2, vision_noise)
    torch.testing.assert_close(got[0], adapter.proj_vis_up(v2), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(got[1], adapter.proj_txt_up(t2), rtol=1e-9, atol=1e-9)


def test_gradient_is_finite_where_the_query_is_zero() -> None:
    layer = ProbabilisticCrossAttention(4, beta=2.35, gate_init=0.0)
    torch.nn.init.zeros_(layer.q_proj.weight)
    torch.nn.init.zeros_(layer.q_proj.bias)
    out = layer.mix(layer.attend(torch.randn(1, 3, 4), torch.randn(1, 2, 4)), torch.randn(1, 2, 4))
    torch.autograd.backward(out.sum())
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name


def test_scale_block_is_a_transposed_and_a_depthwise_convolution() -> None:
    torch.manual_seed(0)
    block = ScaleBlock(6)
    torch.nn.init.normal_(block.norm.weight)
    x = torch.randn(2, 3, 5, 6)
    grown = block.conv2(F.gelu(block.conv1(x.permute(0, 3, 1, 2)))).permute(0, 2, 3, 1)
    torch.testing.assert_close(block(x), block.norm(grown), rtol=1e-5, atol=1e-5)


def test_a_prefix_serves_all_samples(model: MedCLIPSeg) -> None:
    """Many samples of one prefix are what the whole model gives for each."""
    torch.manual_seed(1)
    image, noise = torch.randn(1, 3, NANO.image_size, NANO.image_size), draw(model, 3)
    tokens = model.tokens(PROMPTS[:1])
    with torch.inference_mode():
        prefix = model.prefix(model.look(image), model.read(tokens), tokens)
        together = model.sample(prefix, noise).logits
        alone = [model(image, tokens, [(a[k : k + 1], b[k : k + 1]) for a, b in noise]).logits for k in range(3)]
    assert together.shape == (3, NANO.image_size, NANO.image_size)
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert not torch.equal(together[0], together[1])


def test_rows_are_image_by_image_with_all_prompts(model: MedCLIPSeg) -> None:
    torch.manual_seed(2)
    images, noise = torch.randn(2, 3, NANO.image_size, NANO.image_size), draw(model, 4)
    with torch.inference_mode():
        rows = model(images, model.tokens(PROMPTS), noise).logits
        one = model(images[1:], model.tokens(PROMPTS[:1]), [(a[2:3], b[2:3]) for a, b in noise]).logits
    torch.testing.assert_close(rows[2:3], one, rtol=1e-4, atol=1e-5)


def test_prompts_of_one_differing_word_start_clearly_apart(model: MedCLIPSeg) -> None:
    noise = draw(model, 2)
    with torch.inference_mode():
        text = model(torch.zeros(1, 3, NANO.image_size, NANO.image_size), model.tokens(PROMPTS), noise).text
        query = F.normalize(model.head.mask_head(text), dim=-1)
    assert float(query[0] @ query[1]) < 0.95


def test_a_seed_gives_one_model_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = MedCLIPSeg(NANO, seed=1), MedCLIPSeg(NANO, seed=1), MedCLIPSeg(NANO, seed=2)
    assert torch.equal(before, torch.get_rng_state())
    pairs = list(zip(first.parameters(), second.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert sum(not torch.equal(a, c) for a, _, c in pairs) > 20


def test_the_random_word_table_does_not_learn(model: MedCLIPSeg) -> None:
    still = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert still == ["clip.token_embedding.weight"]


def test_a_long_prompt_is_cut_to_the_context(model: MedCLIPSeg) -> None:
    tokens = model.tokens(["lesion " * 200])
    assert tokens.shape == (1, 32)
    assert int(tokens.argmax()) == 31  # the end token survives


def test_unknown_backbone_and_device_name_what_there_is() -> None:
    with pytest.raises(ValueError, match="nano"):
        find_backbone("nanoo")
    with pytest.raises(ValueError, match="quantum"):
        find_device("quantum")
    with pytest.raises(ValueError, match="cuda:99"):
        find_device("cuda:99")
    assert find_device("auto").type in ("cpu", "cuda")


def test_preprocessing_ignores_gain_and_offset_and_survives_one_colour() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 100, (60, 90, 3), dtype=np.uint8)
    x = shrink_image(image, 32)[None].double() / 255
    for contrast in ("image", "local"):
        torch.testing.assert_close(normalise(x, contrast), normalise(0.5 * x + 0.3, contrast), rtol=0, atol=1e-6)
    flat = shrink_image(np.full((5, 7, 3), 200, np.uint8), 32)[None].float() / 255
    assert float(normalise(flat, "local").abs().max()) < 1e-3
    clip = normalise(torch.full((1, 3, 2, 2), 0.5), "clip")
    assert clip[0, 2, 0, 0].item() == pytest.approx((0.5 - 0.40821073) / 0.27577711)


def test_masks_shrink_to_the_share_they_cover() -> None:
    mask = np.zeros((64, 128), dtype=np.bool_)
    mask[:, :64] = True
    small = shrink_mask(mask, 16)
    assert small.shape == (16, 16)
    assert small[:, :7].min() == 255
    assert small[:, 9:].max() == 0
    assert small.float().mean().item() / 255 == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ValueError, match="RGB uint8"):
        shrink_image(np.zeros((4, 4), np.uint8), 16)
