"""The weights that nano starts from: what the package ships is whole, fits, and knows something."""

import hashlib
import json
import math
import re
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from maskloop_learner.model.backbones import NANO
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.model.shipped import (
    MANIFEST,
    WEIGHTS,
    WeightsError,
    pack_weights,
    read_manifest,
    read_weights,
    start_from,
)
from maskloop_learner.pretrain.phantoms import MAKERS
from maskloop_learner.pretrain.recipe import (
    RECIPE,
    Concepts,
    disguise,
    learn_words,
    learning_rate,
    pretrain,
    used_tokens,
)
from maskloop_learner.pretrain.stream import Group
from maskloop_learner.pretrain.trial import measure_phantoms

LARGEST = 12_000_000


def test_the_weights_are_small_and_those_of_the_manifest() -> None:
    """At most 12 MB, half precision throughout, with the digest that the manifest names."""
    data, manifest = WEIGHTS.read_bytes(), json.loads(MANIFEST.read_text(encoding="utf-8"))
    assert len(data) == manifest["bytes"] <= LARGEST
    assert hashlib.sha256(data).hexdigest() == manifest["sha256"]
    assert {tensor.dtype for tensor in read_weights().values()} == {torch.float16}


def test_the_manifest_says_how_to_make_the_weights_and_what_they_can_do() -> None:
    """Seed, command, time, licence, data and figures."""
    manifest = read_manifest()
    assert manifest["recipe"] == RECIPE
    assert manifest["licence"] == "Apache-2.0"
    assert f"--steps {manifest['steps']} --seed {manifest['seed']}" in manifest["command"]
    assert 0 < manifest["seconds"] <= 90 * 60
    assert manifest["modalities"] == list(MAKERS)
    assert set(manifest["held_out_phantoms"]["dice"]) == set(MAKERS)
    assert re.fullmatch(r"\d+\.\d+.*", manifest["torch"])
    assert manifest["busi"]["gain_of_best"] == pytest.approx(
        manifest["busi"]["best"]["pretrained"]["pretrained"] - manifest["busi"]["best"]["random"]["random"], abs=1e-3
    )


def test_the_weights_fit_the_network() -> None:
    """No name is missing or unknown, and every parameter takes its value."""
    model, tensors = MedCLIPSeg(NANO), read_weights()
    assert dict(model.named_parameters()).keys() == tensors.keys()
    start_from(model, tensors)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.detach(), tensors[name].float()), name


def test_frozen_rows_of_words_that_no_prompt_uses_are_those_of_the_seed() -> None:
    """Only words of the phantoms' prompts have learnt."""
    manifest = read_manifest()
    model = MedCLIPSeg(NANO, seed=manifest["seed"])
    used = set(used_tokens(model).tolist())
    assert 100 < len(used) < 1000
    table, random = read_weights()["clip.token_embedding.weight"], model.clip.token_embedding.weight.detach()
    changed = set(torch.nonzero((table.float() != random).any(dim=1))[:, 0].tolist())
    assert changed <= used
    assert len(changed) > 0.9 * len(used)


@pytest.mark.slow
def test_the_first_predictions_on_new_phantoms_are_useful() -> None:
    """Of a seed that no training and no manifest has seen; far from what random weights give."""
    shipped = measure_phantoms(start_from(MedCLIPSeg(NANO), read_weights()).eval(), seed=77, count=15)
    random = measure_phantoms(MedCLIPSeg(NANO, seed=0).eval(), seed=77, count=15)
    assert sum(shipped.values()) / len(shipped) > sum(random.values()) / len(random) + 0.3
    for modality, value in shipped.items():
        assert value > random[modality] - 0.02, modality


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    """Missing, unknown and mis-shaped parameters, and a file that is not that of its manifest."""
    model, tensors = MedCLIPSeg(NANO), dict(read_weights())
    tensors["head.more"] = tensors.pop("head.mask_head.0.bias")
    with pytest.raises(WeightsError, match=r"missing head\.mask_head\.0\.bias; unknown head\.more"):
        start_from(model, tensors)
    tensors = {**read_weights(), "head.mask_head.0.bias": torch.zeros(3)}
    with pytest.raises(WeightsError, match=r"head\.mask_head\.0\.bias of shape \(3,\), not \(32,\)"):
        start_from(model, tensors)
    shutil.copy(MANIFEST, tmp_path)
    (tmp_path / WEIGHTS.name).write_bytes(WEIGHTS.read_bytes() + b"x")
    with pytest.raises(WeightsError, match=r"has SHA-256 .* its manifest says"):
        read_weights(tmp_path)


def test_weights_beyond_half_precision_are_refused() -> None:
    """An overflow would be an infinity that nobody sees."""
    model = MedCLIPSeg(NANO)
    with torch.no_grad():
        model.head.mask_head[0].bias[0] = 1e6  # type: ignore[operator]
    with pytest.raises(WeightsError, match=r"head\.mask_head\.0\.bias has values that are not finite"):
        pack_weights(model)


def test_concepts_reward_prompts_and_patches_that_agree_with_them() -> None:
    """A prompt on its own vector costs less than on another's, and patches on theirs where the mask is."""
    concepts = Concepts(32)
    vectors = F.normalize(concepts.vectors.detach(), dim=-1)
    polyp, lumen = (vectors[concepts.numbers[name]] for name in ("polyp", "lumen"))
    right = concepts.judge_text(torch.stack([polyp, lumen]), ["polyp", "lumen"])
    wrong = concepts.judge_text(torch.stack([polyp, lumen]), ["lumen", "polyp"])
    assert right.item() < wrong.item() - 1
    masks = torch.zeros((1, 2, 32, 32))
    masks[:, 0, :, :16], masks[:, 1, :, 16:] = 1.0, 1.0
    known = torch.tensor([[True, True]])
    group = Group("endoscopy", ["polyp", "lumen"], ["polyp"], torch.zeros((1, 3, 32, 32)), masks, known)
    row = torch.cat([polyp.expand(2, -1), lumen.expand(2, -1)])
    patches = row.repeat(4, 1)[None]
    right, wrong = concepts.judge_patches(patches, group), concepts.judge_patches(patches.flip(1), group)
    assert right.item() < wrong.item() - 0.3
    # What is not known is not judged.
    blind = group._replace(known=torch.tensor([[False, False]]))
    assert concepts.judge_patches(patches, blind).item() == 0


def test_words_are_told_apart_before_images_come() -> None:
    """A few steps of text alone lower the loss."""
    torch.manual_seed(0)
    model = MedCLIPSeg(NANO)
    concepts = Concepts(32)
    first = learn_words(model, concepts, seed=0, steps=1)
    assert learn_words(model, concepts, seed=0, steps=25) < first - 0.3


def test_a_training_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    """And then gives the same weights as one that never stopped."""

    class Stopped(Exception):
        pass

    def run(name: str, stop: int | None) -> dict[str, Tensor]:
        def note(step: int, loss: float, eta: float) -> None:
            assert math.isfinite(loss)
            if step == stop:
                raise Stopped

        model = pretrain(
            seed=3, steps=3, workers=0, checkpoint=tmp_path / name, checkpoint_steps=1, on_progress=note, words_steps=2
        )
        return {name: value.detach().clone() for name, value in model.named_parameters()}

    whole = run("whole", None)
    with pytest.raises(Stopped):
        run("parts", 2)
    parts = run("parts", None)
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_a_disguise_changes_one_word_at_most_and_never_the_ends() -> None:
    """Start, end and padding stay."""
    model = MedCLIPSeg(NANO)
    tokens = model.tokens(["tumor in a breast ultrasound"] * 200)
    strange = torch.tensor([40_000, 41_000])
    after = disguise(tokens, strange, torch.Generator().manual_seed(0))
    changed = (after != tokens).sum(dim=1)
    assert int(changed.max()) == 1
    assert 10 <= int(changed.sum()) <= 60
    assert torch.equal(after.argmax(dim=1), tokens.argmax(dim=1))
    assert set(after[after != tokens].tolist()) <= {40_000, 41_000}


def test_the_learning_rate_rises_then_falls() -> None:
    """To about a hundredth of its highest."""
    rates = [learning_rate(step, 1000) for step in range(1000)]
    top = rates.index(max(rates))
    assert 20 <= top <= 40
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < max(rates) / 90
