"""Augmentation by modality: presets as documented, sides that prompts name, and `general` as it ever was."""

import hashlib
import logging
import math
from typing import get_args

import pytest
import torch

from maskloop_learner.settings import Modality
from maskloop_learner.train.augment import Augmentation, augment
from maskloop_learner.train.modality import PRESETS, keep_sides

SIDED = {"xray", "ct", "brain_mri", "general", "none"}


def pictures(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((4, 3, 48, 48), generator=generator), torch.zeros(4, 1, 48, 48).index_fill_(2, torch.tensor(9), 1)


def changed(name: Modality, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    return augment(*pictures(), PRESETS[name], torch.Generator().manual_seed(seed))


def test_every_modality_has_a_preset_and_gives_images_of_its_own() -> None:
    assert set(PRESETS) == set(get_args(Modality))
    found = {name: changed(name) for name in PRESETS}
    for images, masks in found.values():
        assert float(images.min()) >= 0
        assert float(images.max()) <= 1
        assert bool(images.isfinite().all())
        assert float(masks.min()) >= 0
        assert float(masks.max()) <= 1 + 1e-6
    assert len({hashlib.sha256(images.numpy().tobytes()).hexdigest() for images, _ in found.values()}) == len(PRESETS)
    torch.testing.assert_close(found["none"][0], pictures()[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", sorted(SIDED))
def test_where_a_side_matters_nothing_is_mirrored(name: Modality) -> None:
    how = PRESETS[name]
    assert not how.flip
    assert not how.upend
    assert how.rotation <= 0.1
    assert how.tint == 0


def test_only_what_has_no_up_is_turned_upside_down() -> None:
    upended = {name for name, how in PRESETS.items() if how.upend}
    assert upended == {"dermoscopy", "microscopy"}
    assert {name for name, how in PRESETS.items() if how.rotation > 1} == upended
    assert PRESETS["ultrasound"].speckle > 0


def test_general_is_what_it_was() -> None:
    """The changes that other modalities add draw no numbers here."""
    assert PRESETS["general"] == Augmentation()
    bare = Augmentation(speckle=0.0, tint=0.0, upend=False, outside="zeros")
    images, _ = augment(*pictures(), bare, torch.Generator().manual_seed(1))
    assert torch.equal(images, changed("general")[0])


def test_upending_moves_the_mask_with_the_image() -> None:
    rows = torch.zeros(16, 1, 32, 32)
    rows[:, :, 4:8] = 1
    how = Augmentation(rotation=0, scale=0, shift=0, gamma=0, bias_field=0, noise=0, upend=True)
    images, masks = augment(rows.repeat(1, 3, 1, 1), rows, how, torch.Generator().manual_seed(0))
    torch.testing.assert_close(images[:, :1], masks, rtol=0, atol=1e-4)
    tops = masks[:, 0, 4:8].mean(dim=(1, 2)).round().tolist()
    bottoms = masks[:, 0, 24:28].mean(dim=(1, 2)).round().tolist()
    assert sorted(set(tops)) == [0, 1]
    assert [a + b for a, b in zip(tops, bottoms, strict=True)] == [1] * 16


def test_grey_stays_grey_but_for_tints() -> None:
    grey = torch.rand((2, 1, 16, 16)).repeat(1, 3, 1, 1)
    for name, how in PRESETS.items():
        images, _ = augment(grey, grey[:, :1], how, torch.Generator().manual_seed(0))
        assert torch.equal(images[:, 0], images[:, 2]) == (how.tint == 0), name


@pytest.mark.parametrize(
    "text",
    ["the left lung", "Lesion, right-sided", "RUL opacity", "linke Niere", "rein droit", "a cyst at 3 o'clock"],
)
def test_a_prompt_that_names_a_side_stops_mirroring_and_says_so(text: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        kept = keep_sides(PRESETS["microscopy"], ["a nucleus", text])
    assert (kept.flip, kept.upend, kept.rotation) == (False, False, 0.1)
    assert kept.tint == PRESETS["microscopy"].tint
    assert repr(text) in caplog.text
    assert not keep_sides(Augmentation(flip=True), [text]).flip


def test_a_prompt_that_names_top_or_bottom_stops_upending_alone() -> None:
    kept = keep_sides(PRESETS["dermoscopy"], ["the upper lesion"])
    assert (kept.flip, kept.upend, kept.rotation) == (True, False, 0.1)


def test_other_words_stop_nothing(caplog: pytest.LogCaptureFixture) -> None:
    texts = ["a bright upright tumour, well linked", "copyright", "leftover dye", "rights"]
    assert keep_sides(PRESETS["microscopy"], texts) is PRESETS["microscopy"]
    assert keep_sides(PRESETS["xray"], ["left lung"]) is PRESETS["xray"]
    assert caplog.text == ""
    assert math.isclose(PRESETS["microscopy"].rotation, math.pi)
