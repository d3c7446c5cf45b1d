"""Training: learns, goes on after being killed as if nothing had been, stops when told, and names bad input."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskloop_learner.model.backbones import find_backbone
from maskloop_learner.model.checkpoint import load_weights, read_meta
from maskloop_learner.predict.predictor import Predictor
from maskloop_learner.train import batches, loop, schedule
from maskloop_learner.train.augment import Augmentation, augment
from maskloop_learner.train.evaluation import evaluate
from maskloop_learner.train.examples import gather_examples
from maskloop_learner.train.loop import Example, Progress, TrainingCancelled, TrainingError, train
from maskloop_learner.train.losses import DiceKind, contrast_loss, dice_loss, segmentation_loss

LABELS = ["Disc", "Square"]
PROMPTS = {"Disc": "a bright disc", "Square": "a dark square"}


def example(seed: int) -> Example:
    """A disc and a square on grey; every third image has no square. Sizes differ."""
    rng = np.random.default_rng(seed)
    height, width = (int(x) for x in rng.integers(70, 160, 2))
    y, x = np.mgrid[:height, :width]
    side = min(height, width)
    disc = np.hypot(y - rng.uniform(0.3, 0.7) * height, x - 0.28 * width) < 0.2 * side
    square = np.maximum(abs(y - rng.uniform(0.3, 0.7) * height), abs(x - 0.75 * width)) < 0.17 * side
    masks = {"Disc": disc}
    grey = 110 + 80 * disc + rng.normal(0, 8, disc.shape)
    if seed % 3:
        masks["Square"] = square
        grey -= 70 * square
    image = np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return Example(image=image, masks=masks, name=f"image-{seed}")


def run(folder: Path, **changes: Any) -> bytes:
    arguments: dict[str, Any] = {
        "examples": [example(k) for k in range(5)],
        "backbone": "nano",
        "labels": LABELS,
        "prompts": PROMPTS,
        "steps": 7,
        "batch": 2,
        "seed": 0,
        "device": "cpu",
        "checkpoint": folder / "checkpoint.pt",
        "checkpoint_steps": 3,
        "on_progress": lambda _: None,
        "should_stop": lambda: False,
    }
    return train(**arguments | changes)


@pytest.mark.slow
def test_learns_two_labels_and_tells_them_apart(tmp_path: Path) -> None:
    seen: list[Progress] = []
    weights = run(tmp_path, examples=[example(k) for k in range(8)], steps=150, batch=3, on_progress=seen.append)
    found = evaluate(
        Predictor(weights=weights, device="cpu"),
        [example(k) for k in (100, 101, 103, 104)],
        PROMPTS,
        samples=3,
        threshold=0.5,
        min_speck_area=16,
        max_hole_area=16,
    )
    assert min(found.values()) > 0.6, found
    assert [p.step for p in seen] == list(range(1, 151))
    assert all(p.steps == 150 and math.isfinite(p.loss) and p.eta >= 0 for p in seen)
    assert seen[-1].eta == 0
    assert seen[-1].loss < seen[0].loss
    meta = read_meta(weights)
    assert meta["labels"] == LABELS
    assert meta["prompts"] == PROMPTS


@pytest.mark.parametrize("killed_at", [4, 6])
def test_a_killed_training_ends_as_if_it_had_not_been(tmp_path: Path, killed_at: int) -> None:
    class Killed(BaseException):
        """Stands for SIGKILL: nothing in the loop may catch it."""

    def die(progress: Progress) -> None:
        if progress.step == killed_at:
            raise Killed

    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", on_progress=die)
    steps: list[int] = []
    torch.manual_seed(123)
    resumed = run(tmp_path / "killed", on_progress=lambda p: steps.append(p.step))
    assert steps[0] == killed_at // 3 * 3 + 1
    a, b = load_weights(whole, device="cpu"), load_weights(resumed, device="cpu")
    for (name, x), (_, y) in zip(a.named_parameters(), b.named_parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-6, msg=name)
    again = run(tmp_path / "killed", on_progress=lambda p: pytest.fail("a finished training has no step left"))
    assert again == resumed


def test_stops_within_a_step_and_keeps_what_was_learnt(tmp_path: Path) -> None:
    steps: list[int] = []
    with pytest.raises(TrainingCancelled, match="2 of 7"):
        run(tmp_path, on_progress=lambda p: steps.append(p.step), should_stop=lambda: len(steps) == 2)
    assert steps == [1, 2]
    run(tmp_path, on_progress=lambda p: steps.append(p.step))
    assert steps == list(range(1, 8))
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_or_foreign_checkpoint_starts_anew(tmp_path: Path, damage: bytes | None) -> None:
    if damage is None:
        run(tmp_path, steps=1, seed=1)
    else:
        (tmp_path / "checkpoint.pt").write_bytes(damage)
    steps: list[int] = []
    run(tmp_path, steps=2, on_progress=lambda p: steps.append(p.step))
    assert steps == [1, 2]


def test_a_loss_that_is_not_finite_names_the_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def poisoned(*args: Any, **how: Any) -> Any:
        data = gather_examples(*args, **how)
        object.__setattr__(data, "masks", data.masks.float())
        data.masks[data.names.index("image-1")] = math.nan
        return data

    monkeypatch.setattr(loop, "gather_examples", poisoned)
    with pytest.raises(TrainingError, match=r"not finite .* on image-1;"):
        run(tmp_path, batch=5)


def test_bad_input_is_named(tmp_path: Path) -> None:
    good = example(1)
    with pytest.raises(TrainingError, match="at least one"):
        run(tmp_path, examples=[])
    with pytest.raises(TrainingError, match=r"image-1: the mask of 'Disc' has size \(3, 4\)"):
        run(tmp_path, examples=[Example(good.image, {"Disc": np.zeros((3, 4), dtype=np.bool_)}, good.name)])
    with pytest.raises(TrainingError, match="'Disc' and 'Square' have the same prompt"):
        run(tmp_path, prompts={"Disc": "A thing", "Square": "a thing"})
    with pytest.raises(TrainingError, match="'Square' has no prompt"):
        run(tmp_path, prompts={"Disc": "a thing", "Square": "  "})
    with pytest.raises(TrainingError, match="at least one label"):
        run(tmp_path, labels=[])
    with pytest.raises(ValueError, match="backbone must be one of"):
        run(tmp_path, backbone="huge")


def test_an_absent_label_is_an_empty_mask_and_sizes_may_differ() -> None:
    data = gather_examples([example(3), example(4)], labels=LABELS, size=32)
    assert data.images.shape == (2, 3, 32, 32)
    assert data.masks.shape == (2, 2, 32, 32)
    assert int(data.masks[0, 1].max()) == 0
    assert int(data.masks[1, 1].max()) == 255
    assert data.digest != gather_examples([example(4), example(3)], labels=LABELS, size=32).digest


def test_every_example_is_seen_equally_often() -> None:
    seen = [k for step in range(12) for k in schedule.pick(5, step=step, batch=5, seed=3)]
    assert np.bincount(seen).tolist() == [12] * 5
    assert seen[:5] != seen[5:10]
    more = [k for step in range(6) for k in schedule.pick(3, step=step, batch=4, seed=3)]
    assert np.bincount(more).tolist() == [8] * 3


def test_learning_rate_rises_then_falls() -> None:
    spec = find_backbone("nano")
    rates = [schedule.learning_rate(spec, k, 200) for k in range(200)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(spec.learning_rates[0])
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(spec.learning_rates[1], rel=0.1)
    assert schedule.learning_rate(spec, 0, 1) > 0


def test_losses_at_known_masks() -> None:
    target = torch.zeros(2, 8, 8)
    target[0, :4] = 1
    right = (target * 2 - 1) * 30
    torch.testing.assert_close(dice_loss(right, target), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(segmentation_loss(right, target), torch.zeros(2), rtol=0, atol=1e-5)
    assert dice_loss(-right, target)[0].item() == pytest.approx(1 - 1 / 65, abs=1e-5)
    half = dice_loss(torch.zeros(2, 8, 8), target)[0].item()
    assert half == pytest.approx(1 - 33 / 65, abs=1e-5)


def test_contrast_is_least_where_patches_look_like_their_text() -> None:
    text = torch.eye(4)
    patches = text[:, None].repeat(1, 3, 1)
    matched = contrast_loss(patches, text, temperature=0.2, kind="unit")
    swapped = contrast_loss(patches.roll(1, 0), text, temperature=0.2, kind="unit")
    assert matched < swapped
    assert bool(matched.isfinite())


@pytest.mark.parametrize("flip", [False, True])
def test_augmentation_moves_image_and_mask_alike(flip: bool) -> None:
    masks = torch.zeros(6, 1, 64, 64)
    masks[:, :, 20:40, 12:30] = 1
    how = Augmentation(gamma=0, bias_field=0, noise=0, flip=flip)
    images, moved = augment(masks.repeat(1, 3, 1, 1), masks, how, torch.Generator().manual_seed(0))
    torch.testing.assert_close(images[:, :1], moved, rtol=0, atol=1e-4)
    assert not torch.allclose(moved[0], moved[1])
    areas = moved.sum(dim=(1, 2, 3))
    assert bool(((areas > 200) & (areas < 600)).all())
    centres = [float((m[0] * torch.arange(64)).sum() / m.sum()) for m in moved]
    assert (max(centres) > 34) == flip


def test_augmentation_is_a_function_of_its_generator() -> None:
    images, masks = torch.rand(2, 3, 32, 32), torch.ones(2, 1, 32, 32)

    def once(seed: int) -> torch.Tensor:
        return augment(images, masks, Augmentation(), torch.Generator().manual_seed(seed))[0]

    assert torch.equal(once(1), once(1))
    assert not torch.equal(once(1), once(2))
    assert float(once(1).min()) >= 0
    assert float(once(1).max()) <= 1


def test_many_labels_cost_no_more_than_four(tmp_path: Path) -> None:
    labels = [f"part {k}" for k in range(9)]
    sizes: list[int] = []

    def counted(logits: torch.Tensor, target: torch.Tensor, *, dice: DiceKind) -> torch.Tensor:
        sizes.append(len(logits))
        return segmentation_loss(logits, target, dice=dice)

    patch = pytest.MonkeyPatch()
    with patch.context() as m:
        m.setattr(batches, "segmentation_loss", counted)
        run(tmp_path, labels=labels, prompts={x: x for x in labels}, steps=2)
    assert sizes == [8, 8]
