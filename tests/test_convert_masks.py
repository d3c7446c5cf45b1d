"""Label volumes are cut exactly as their images are, or refused when they do not lie on them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convert_files import convert, pixels_of, save_nifti
from numpy.typing import NDArray
from test_convert_nifti import ORIENTATIONS, stored_as

from maskloop_learner.convert.masks import convert_mask, convert_pairs, label_values
from maskloop_learner.convert.options import Axis, ConvertError, ConvertOptions

LABELS = np.random.default_rng(3).integers(0, 4, (9, 8, 7))
LABELS[LABELS == 3] = 7


def image_of(labels: NDArray[Any]) -> NDArray[np.int16]:
    """An image whose grey values tell the label."""
    return (labels * 30).astype(np.int16)


@pytest.mark.parametrize("codes", ORIENTATIONS)
@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
def test_masks_lie_on_their_slices(tmp_path: Path, codes: str, axis: Axis) -> None:
    """Image and labels may be stored in different orders of axes."""
    image = save_nifti(tmp_path / "scan.nii.gz", *stored_as(image_of(LABELS), codes))
    labels = save_nifti(tmp_path / "seg.nii", *stored_as(LABELS.astype(np.uint8), "LPS"))
    options = ConvertOptions(axis=axis, percentiles=(0, 100), every=2)
    pairs = list(convert_pairs(image, labels, options=options))
    assert [one.name for one, _ in pairs] == [one.name for one in convert(image, options)]
    for picture, masks in pairs:
        assert list(masks) == [1, 2, 7]
        levels = np.rint(pixels_of(picture) / 255 * 7).astype(int)
        for value, mask in masks.items():
            assert mask.dtype == np.bool_
            assert np.array_equal(mask, levels == value)
    for value in (1, 7):
        single = list(convert_mask(labels, image=image, value=value, options=options))
        assert [name for name, _ in single] == [one.name for one, _ in pairs]
        assert all(np.array_equal(mask, masks[value]) for (_, mask), (_, masks) in zip(single, pairs, strict=True))
    for (_, mask), (_, masks) in zip(convert_mask(labels, image=image, options=options), pairs, strict=True):
        assert np.array_equal(mask, masks[1] | masks[2] | masks[7])


def test_values_are_listed_and_names_are_the_labels_own_without_an_image(tmp_path: Path) -> None:
    labels = save_nifti(tmp_path / "seg.nii.gz", LABELS.astype(np.float32))
    assert label_values(labels) == [1, 2, 7]
    names = [name for name, _ in convert_mask(labels, value=2)]
    assert names == [f"seg-{number}.png" for number in range(1, 8)]
    assert label_values(save_nifti(tmp_path / "none.nii", np.zeros((3, 3, 3), np.uint8))) == []


def test_one_volume_of_labels_serves_a_series(tmp_path: Path) -> None:
    series = np.stack([image_of(LABELS)] * 3, -1)
    image = save_nifti(tmp_path / "bold.nii", series)
    labels = save_nifti(tmp_path / "seg.nii", LABELS.astype(np.uint8))
    pairs = list(convert_pairs(image, labels))
    assert len(pairs) == 21
    assert pairs[0][0].name == "bold-1-1.png"
    assert all(np.array_equal(pairs[n][1][1], pairs[n + 7][1][1]) for n in range(14))
    moving = save_nifti(tmp_path / "moving.nii", np.stack([LABELS, LABELS * 0, LABELS], -1).astype(np.uint8))
    assert [any(mask.any() for mask in masks.values()) for _, masks in convert_pairs(image, moving)][6:9] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("shape", r"seg\.nii: its shape \(9, 8, 6, 1\) is not that of scan\.nii, \(9, 8, 7, 1\); resample"),
        ("origin", r"seg\.nii: its affine is not that of scan\.nii \(they differ by up to 1 millimetres\)"),
        ("fraction", r"seg\.nii: it holds 0\.5; labels are whole numbers, round it first"),
        ("nan", r"seg\.nii: it holds nan; labels are whole numbers"),
        ("many", r"seg\.nii: over 1000 different values are no labels; is it an image\?"),
        ("volumes", r"seg\.nii: its shape \(9, 8, 7, 2\) is not that of scan\.nii"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, change: str, reason: str) -> None:
    image = save_nifti(tmp_path / "scan.nii", np.zeros((20, 20, 20) if change == "many" else (9, 8, 7), np.int16))
    labels, affine = LABELS.astype(np.float32), np.eye(4)
    if change == "shape":
        labels = labels[:, :, :6]
    elif change == "origin":
        affine[0, 3] = 1
    elif change == "many":
        labels = np.arange(8000, dtype=np.float32).reshape(20, 20, 20)
    elif change == "volumes":
        labels = np.stack([labels, labels], -1)
    elif change in ("fraction", "nan"):
        labels[2, 2, 2] = 0.5 if change == "fraction" else np.nan
    mask = save_nifti(tmp_path / "seg.nii", labels, affine)
    for call in (convert_pairs(image, mask), convert_mask(mask, image=image)):
        with pytest.raises(ConvertError, match=reason):
            next(iter(call))


def test_affines_may_differ_by_roundings(tmp_path: Path) -> None:
    affine = np.diag([0.9375, 0.9375, 1.2, 1])
    affine[:3, 3] = -119.99987, -98.4, 33.3
    image = save_nifti(tmp_path / "scan.nii", np.ones((9, 8, 7), np.int16), affine)
    labels = save_nifti(tmp_path / "seg.nii", LABELS.astype(np.uint8), affine + 2e-4)
    assert len(list(convert_pairs(image, labels))) == 7


def test_a_pair_is_of_nifti_files(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    labels = save_nifti(tmp_path / "seg.nii", LABELS.astype(np.uint8))
    with pytest.raises(ConvertError, match=r"x\.png: images and label volumes in pairs are NIfTI, this is not"):
        next(iter(convert_pairs(tmp_path / "x.png", labels)))
    with pytest.raises(ConvertError, match=r"missing\.nii: it cannot be read"):
        next(iter(convert_mask(tmp_path / "missing.nii")))
