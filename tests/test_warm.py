"""Models kept warm: over one base they share its tensors, predict as each alone does, and leave within a bound."""

import time
from pathlib import Path

import pytest
import torch
from digest_script import ask
from official_fixture import random_model
from pool_fixture import add_project
from torch import Tensor

from maskloop_learner.model.backbones import BACKBONES, BackboneError, BackboneSpec
from maskloop_learner.model.bases import Bases
from maskloop_learner.model.checkpoint import load_weights, save_weights
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.model.shared import Shelf, storages, tensors_of
from maskloop_learner.model.start import build_start
from maskloop_learner.pool.pool import Pool
from maskloop_learner.predict.predictor import Predictor
from maskloop_learner.predict.sampling import Sampling
from maskloop_learner.settings import Settings
from maskloop_queue.warm import Predictors

FEW = Sampling("monte-carlo", 4)
CPU = torch.device("cpu")


@pytest.fixture
def bases(tiny: BackboneSpec, towers: dict[str, Tensor], tmp_path: Path) -> Bases:
    """A folder with the towers of a small CLIP."""
    found = Bases(tmp_path / "backbones")
    found.add(tiny, towers, source="test")
    return found


def adapters(bases: Bases, spec: BackboneSpec, seed: int) -> bytes:
    """Weights over the folder's towers, other ones for every seed."""
    return save_weights(bases.build(spec, seed=seed), meta={})


def nano(seed: int) -> bytes:
    """Weights of the small backbone as trainings leave them: from the shipped ones on, other ones for every seed."""
    model = build_start(BACKBONES["nano"], seed=0, start="pretrained")
    with torch.no_grad():
        for weight in model.head.parameters():
            weight.mul_(1 + seed / 10)
    return save_weights(model, meta={})


def keep(pool: Pool, *weights: bytes) -> list[str]:
    return [pool.store.put("weights", data) for data in weights]


def test_models_over_one_base_share_its_tensors(pool: Pool, bases: Bases, tiny: BackboneSpec) -> None:
    """Towers are there once, prepared towers too; a further model adds its adapters and head."""
    first, second = keep(pool, adapters(bases, tiny, 1), adapters(bases, tiny, 2))
    warm = Predictors(device="cpu", bases=bases)
    a = warm.get(pool, first)
    one = warm.held_bytes()
    b = warm.get(pool, second)
    assert a.model.clip is b.model.clip
    assert a.model.towers()[0] is b.model.towers()[0]
    assert not any(name.startswith("clip.") for name, _ in b.model.named_parameters())
    own = sum(storages(tensors_of(b.model)).values())
    assert warm.held_bytes() == one + own
    assert own == sum(4 * p.numel() for p in b.model.parameters())
    towers = sum(storages(warm.shelf.get(tiny, a.model.base).tensors()).values())
    assert one == towers + own
    # As many rows of words as the real one has: the towers are by far the larger part here too.
    assert towers > 10 * own


def test_shared_towers_change_no_bit(pool: Pool, bases: Bases, tiny: BackboneSpec) -> None:
    """Models that take turns over shared towers predict what each predicts in a process of its own."""
    weights = [adapters(bases, tiny, seed) for seed in (1, 2, 3)]
    alone = [ask(Predictor(weights=data, device="cpu", bases=bases), 0, FEW) for data in weights]
    assert len(set(alone)) == 3
    digests = keep(pool, *weights)
    warm = Predictors(device="cpu", bases=bases)
    for order in ((0, 1, 2), (2, 0, 1), (1, 1, 0)):
        assert [ask(warm.get(pool, digests[k]), 0, FEW) for k in order] == [alone[k] for k in order]


def test_random_towers_are_shared_by_their_seed(pool: Pool, tiny: BackboneSpec) -> None:
    """A model that names `random:SEED` as its base stands on these towers, and on no other's."""
    weights = [save_weights(MedCLIPSeg(tiny, seed=seed), meta={}) for seed in (1, 2)]
    warm = Predictors(device="cpu")
    found = [warm.get(pool, digest) for digest in keep(pool, *weights)]
    assert [towers.base for towers in warm.shelf.held()] == ["random:1", "random:2"]
    assert [ask(p, 0, FEW) for p in found] == [ask(Predictor(weights=w, device="cpu"), 0, FEW) for w in weights]


def test_another_precision_leaves_the_first_as_it_was(pool: Pool, bases: Bases, tiny: BackboneSpec) -> None:
    """A model that casts itself to bf16 does not touch the towers of those in float32."""
    [digest] = keep(pool, adapters(bases, tiny, 1))
    warm = Predictors(device="cpu", bases=bases)
    before = ask(warm.get(pool, digest), 0, FEW)
    half = warm.get(pool, digest, "bf16")
    other = ask(half, 0, FEW)
    assert half.model.towers()[0].blocks[0].out.weight.dtype == torch.bfloat16
    assert half.model.clip is warm.get(pool, digest).model.clip
    assert ask(warm.get(pool, digest), 0, FEW) == before != other
    alone = Predictor(weights=pool.store.get("weights", digest), device="cpu", bases=bases, precision="bf16")
    assert ask(alone, 0, FEW) == other


def test_a_model_cannot_change_what_it_shares(bases: Bases, tiny: BackboneSpec) -> None:
    """Casting, unfreezing and training modes of one model stop at the shared towers."""
    shelf = Shelf(bases, device=CPU)
    data = adapters(bases, tiny, 1)
    model = load_weights(data, device="cpu", shelf=shelf)
    held = shelf.get(tiny, model.base)
    model.double().requires_grad_(True).train()
    assert {p.dtype for p in held.clip.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in held.clip.parameters())
    assert not any(module.training for module in held.clip.modules())


def test_the_least_recently_used_model_leaves_first(pool: Pool, bases: Bases, tiny: BackboneSpec) -> None:
    """The bound is on bytes; the towers stay as long as a model stands on them."""
    digests = keep(pool, *(adapters(bases, tiny, seed) for seed in range(4)))
    measure = Predictors(device="cpu", bases=bases)
    measure.get(pool, digests[0])
    one = measure.held_bytes()
    measure.get(pool, digests[1])
    room = one + 2 * (measure.held_bytes() - one)
    warm = Predictors(device="cpu", bases=bases, megabytes=room / 1e6)
    a, b, c = (warm.get(pool, digest) for digest in digests[:3])
    assert warm.get(pool, digests[0]) is a
    warm.get(pool, digests[3])
    assert warm.get(pool, digests[0]) is a, "it was used a moment ago"
    assert warm.get(pool, digests[1]) is not b, "it was used longest ago"
    assert warm.held_bytes() <= room
    assert len(warm.shelf.held()) == 1
    assert c.model.clip is a.model.clip


def test_towers_that_nobody_stands_on_leave_before_models_do(pool: Pool, bases: Bases, tiny: BackboneSpec) -> None:
    """And only when the room is needed: a model that comes back finds its towers still there."""
    first, second = keep(pool, adapters(bases, tiny, 1), adapters(bases, tiny, 2))
    [other] = keep(pool, save_weights(MedCLIPSeg(tiny, seed=9), meta={}))
    warm = Predictors(device="cpu", bases=bases, megabytes=0)
    a = warm.get(pool, first)
    assert warm.get(pool, first) is a, "the model at work stays, however small the bound"
    b = warm.get(pool, second)
    assert b.model.clip is a.model.clip
    assert list(warm._warm) == [(second, "fp32")]
    warm.get(pool, other)
    assert [towers.base for towers in warm.shelf.held()] == ["random:9"]
    assert list(warm._warm) == [(other, "fp32")]


def test_models_of_nano_share_the_rows_that_never_learn(pool: Pool) -> None:
    """Its towers learn, so they are each model's own; the 49 408 rows of words are nine tenths of it, and one."""
    weights = [nano(seed) for seed in (1, 2)]
    digests = keep(pool, *weights)
    warm = Predictors(device="cpu")
    a = warm.get(pool, digests[0])
    one = warm.held_bytes()
    b = warm.get(pool, digests[1])
    rows = a.model.clip.token_embedding.weight
    assert b.model.clip.token_embedding.weight is rows
    assert a.model.clip.visual is not b.model.clip.visual
    assert (warm.held_bytes() - one) * 5 < one
    assert [ask(p, 0, FEW) for p in (a, b)] == [ask(Predictor(weights=w, device="cpu"), 0, FEW) for w in weights]
    [other] = keep(pool, save_weights(MedCLIPSeg(BACKBONES["nano"], seed=3), meta={}))
    assert warm.get(pool, other).model.clip.token_embedding.weight is not rows, "its rows are others"


def test_a_base_that_is_missing_leaves_nothing_behind(
    pool: Pool, bases: Bases, tiny: BackboneSpec, tmp_path: Path
) -> None:
    [digest] = keep(pool, adapters(bases, tiny, 1))
    warm = Predictors(device="cpu", bases=Bases(tmp_path / "elsewhere"))
    with pytest.raises(BackboneError, match="maskloop models fetch clip-vit-b16"):
        warm.get(pool, digest)
    assert warm.held_bytes() == 0
    (tmp_path / "backbones").rename(tmp_path / "elsewhere")
    assert warm.get(pool, digest).model.base


def test_the_setting_bounds_a_workers_models(settings: Settings) -> None:
    settings.warm_models_mb = 123
    assert Predictors.of(settings).megabytes == 123


def test_a_switch_between_warm_projects_costs_nothing(pool: Pool) -> None:
    """Two projects that take turns, image by image."""
    for ls_id in (7, 8):
        add_project(pool, ls_id=ls_id)
    digests = keep(pool, nano(1), nano(2))
    warm = Predictors(device="cpu")
    loaded = [warm.get(pool, digest) for digest in digests]
    started = time.perf_counter()
    for turn in range(1000):
        assert warm.get(pool, digests[turn % 2]) is loaded[turn % 2]
    assert time.perf_counter() - started < 0.5


@pytest.mark.slow
def test_a_published_backbone_is_shared_to_the_bit(pool: Pool, tmp_path: Path) -> None:
    """OpenAI's CLIP at its real size: four models cost one base and four adapters, and predict as alone."""
    spec = BACKBONES["clip-vit-b16"]
    tensors = random_model(spec)
    named = {name.removeprefix("clip."): x for name, x in tensors.items() if name.startswith("clip.")}
    del named["logit_scale"]
    found = Bases(tmp_path / "backbones")
    found.add(spec, named, source="test")
    weights = [adapters(found, spec, seed) for seed in range(4)]
    digests = keep(pool, *weights)
    warm = Predictors(device="cpu", bases=found, megabytes=100_000)
    mine = [warm.get(pool, digest) for digest in digests]
    assert warm.held_bytes() < 1_300_000_000
    assert ask(mine[3], 0, FEW) == ask(Predictor(weights=weights[3], device="cpu", bases=found), 0, FEW)
    assert ask(mine[0], 0, FEW) == ask(Predictor(weights=weights[0], device="cpu", bases=found), 0, FEW)
