"""Phantoms: the same seed gives the same image, masks answer their prompts, and no prompt says where."""

import re

import numpy as np
import pytest

from maskloop_learner.pretrain.phantoms import LEAST_AREA, MAKERS, SIDES, Phantom, make_phantom, make_scene
from maskloop_learner.pretrain.shapes import Canvas, blob, fade, smooth, spline
from maskloop_learner.pretrain.stream import make_groups
from maskloop_learner.pretrain.words import (
    FINDINGS,
    IMAGES,
    PARTS,
    PARTS_OF,
    all_words,
    article,
    usual_prompt,
    word_prompt,
)

PLACES = re.compile(
    r"\b(left|right|upper|lower|top|bottom|central|centre|center|middle|corner|anterior|north|south|east|west|at)\b"
)
ANATOMY = ("left ventric", "right ventric", "LV", "RV", "left ventricular", "right ventricular")


def phantoms(modality: str, count: int, *, seed: int = 0) -> list[Phantom]:
    """Several of one modality."""
    rng = np.random.default_rng(seed)
    return [make_phantom(rng, modality) for _ in range(count)]


@pytest.mark.parametrize("modality", MAKERS)
def test_a_seed_determines_pixels_masks_and_words(modality: str) -> None:
    """Twice the same generator, twice the same phantom; another seed gives another."""
    first, again, other = (phantoms(modality, 2, seed=seed)[1] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image, again.image)
    assert [prompt for prompt, _ in first.questions] == [prompt for prompt, _ in again.questions]
    for (_, mask), (_, same) in zip(first.questions, again.questions, strict=True):
        np.testing.assert_array_equal(mask, same)
    assert first.image.shape != other.image.shape or (first.image != other.image).any()


@pytest.mark.parametrize("modality", MAKERS)
def test_every_modality_gives_images_that_show_something(modality: str) -> None:
    """RGB uint8 of a size in bounds, not of one colour, with masks of the image's size."""
    for phantom in phantoms(modality, 8):
        height, width = phantom.image.shape[:2]
        assert phantom.image.dtype == np.uint8
        assert phantom.image.shape == (height, width, 3)
        assert SIDES[0] <= min(height, width) <= max(height, width) <= SIDES[1]
        assert phantom.image.std() > 4
        assert phantom.questions
        for prompt, mask in phantom.questions:
            assert mask.dtype == np.bool_, prompt
            assert mask.shape == (height, width), prompt
            assert not mask.any() or mask.sum() >= LEAST_AREA, prompt
            assert mask.mean() < 0.95, prompt


@pytest.mark.parametrize("modality", MAKERS)
def test_prompts_never_say_where(modality: str) -> None:
    """Neither in the wordings of a modality's own parts nor in any other."""
    rng = np.random.default_rng(1)
    prompts = [word_prompt(rng, part, modality) for part in PARTS for _ in range(12)]
    prompts += [prompt for phantom in phantoms(modality, 6) for prompt, _ in phantom.questions]
    for prompt in prompts:
        bare = prompt
        for name in ANATOMY:
            bare = re.sub(name, "", bare, flags=re.IGNORECASE)
        assert not PLACES.search(bare.lower()), prompt


def test_what_is_absent_has_an_empty_mask_and_comes_in_some_images_only() -> None:
    """Findings, and nothing else, are asked for where they are not."""
    rng = np.random.default_rng(2)
    for modality in MAKERS:
        scenes = [make_scene(rng, modality) for _ in range(40)]
        empty = {name for scene in scenes for name, mask in scene.parts.items() if not mask.any()}
        shown = {name for scene in scenes for name, mask in scene.parts.items() if mask.any()}
        assert empty <= FINDINGS, modality
        assert empty <= shown, f"{modality}: never shown, always denied"


def test_the_parts_of_a_modality_are_those_that_it_shows() -> None:
    """All of them, and no others."""
    rng = np.random.default_rng(3)
    assert set(PARTS_OF) == set(MAKERS)
    for modality in MAKERS:
        shown = {name for _ in range(60) for name in make_scene(rng, modality).parts}
        assert shown == set(PARTS_OF[modality]), modality


def test_masks_lie_on_what_they_name() -> None:
    """Cysts are darker than the gland, bone brighter than the body, a nevus darker than skin."""
    rng = np.random.default_rng(5)

    def brightness(modality: str, part: str) -> tuple[float, float]:
        inside, outside = [], []
        for _ in range(30):
            scene = make_scene(rng, modality)
            mask = scene.parts.get(part)
            if mask is not None and mask.any():
                inside.append(scene.image[mask].mean())
                outside.append(scene.image[~mask].mean())
        assert inside, part
        return float(np.mean(inside)), float(np.mean(outside))

    for modality, part, brighter in (
        ("breast ultrasound", "cyst", False),
        ("breast ultrasound", "breast lesion", False),
        ("abdominal CT", "spine", True),
        ("chest X-ray", "lungs", False),
        ("dermoscopy", "skin lesion", False),
        ("fluorescence", "nuclei", True),
        ("T1 MRI", "white matter", True),
        ("FLAIR MRI", "white matter lesions", True),
    ):
        inside, outside = brightness(modality, part)
        assert (inside > outside) is brighter, (part, inside, outside)


def test_parts_of_a_head_do_not_overlap() -> None:
    """White and grey matter, ventricles and tumor are told apart."""
    rng = np.random.default_rng(6)
    for kind in ("T1 MRI", "T2 MRI", "FLAIR MRI"):
        for _ in range(5):
            parts = make_scene(rng, kind).parts
            told = [parts[n] for n in ("white matter", "grey matter", "ventricles", "brain tumor") if n in parts]
            assert np.sum(told, axis=0).max() == 1


def test_an_unknown_modality_is_named() -> None:
    """With those that there are."""
    with pytest.raises(ValueError, match=r"modality must be one of .*endoscopy.*, got 'sonar'"):
        make_scene(np.random.default_rng(0), "sonar")


def test_every_modality_has_names_and_articles() -> None:
    """Usual wordings read as English."""
    assert set(MAKERS) == set(IMAGES)
    assert usual_prompt("breast lesion", "breast ultrasound") == "tumor in a breast ultrasound"
    assert usual_prompt("polyp", "endoscopy") == "polyp in an endoscopy image"
    assert usual_prompt("white matter", "T1 MRI") == "white matter in a T1-weighted brain MRI"
    assert [article(kind) for kind in ("X-ray", "ultrasound", "ultrasound image", "CT scan")] == [
        "an ",
        "",
        "an ",
        "a ",
    ]
    assert set(FINDINGS) <= set(PARTS)


def test_all_words_hold_every_token_of_every_prompt() -> None:
    """Else a word of a prompt would stay a random row of the table."""
    from maskloop_learner.model.backbones import NANO
    from maskloop_learner.model.construction import build_tokenizer

    tokenizer = build_tokenizer(NANO)
    known = set(tokenizer(all_words()).flatten().tolist())
    rng = np.random.default_rng(7)
    prompts = [word_prompt(rng, part, kind) for kind, parts in PARTS_OF.items() for part in parts for _ in range(8)]
    assert set(tokenizer(prompts).flatten().tolist()) <= known


def test_a_blob_is_one_at_its_centre_and_zero_on_its_border() -> None:
    """A plain circle has the radius asked for."""
    canvas = Canvas(100, 120)
    depth = blob(canvas, np.random.default_rng(0), centre=(0.5, 0.6), radius=0.25)
    assert depth[50, 60] == pytest.approx(1, abs=0.05)
    assert float((depth > 0).sum()) == pytest.approx(np.pi * 25**2, rel=0.03)
    assert fade(depth, 0.1).min() == 0
    assert fade(depth, 0.1).max() == 1


def test_splines_sum_to_one_and_noise_has_its_size() -> None:
    """A constant stays one; the deviation is about 1 on average over many draws."""
    np.testing.assert_allclose(spline(50, 7).sum(axis=1), 1, rtol=1e-5)
    rng = np.random.default_rng(0)
    spread = np.std([smooth(Canvas(64, 64), rng, 8) for _ in range(50)])
    assert 0.7 < spread < 1.3


def test_a_batch_is_determined_by_its_number_and_fits_the_model() -> None:
    """Groups of different modalities, masks and images in 0..1, at least one question with an answer."""
    groups, again = make_groups(1, 5, size=64), make_groups(1, 5, size=64)
    assert len({group.modality for group in groups}) == len(groups)
    for group, same in zip(groups, again, strict=True):
        assert group.prompts == same.prompts
        assert bool((group.images == same.images).all())
        assert bool((group.masks == same.masks).all())
        assert group.images.shape[1:] == (3, 64, 64)
        assert 1 <= len(group.prompts) <= len(group.names) == len(set(group.names))
        assert group.masks.shape == (len(group.images), len(group.names), 64, 64)
        assert group.known.shape == group.masks.shape[:2]
        assert 0 <= float(group.images.min()) <= float(group.images.max()) <= 1
        assert 0 <= float(group.masks.min()) <= float(group.masks.max()) <= 1
        assert bool(group.known.any())
        assert set(group.names) <= set(PARTS_OF[group.modality])
    assert make_groups(1, 6, size=64)[0].prompts != groups[0].prompts
