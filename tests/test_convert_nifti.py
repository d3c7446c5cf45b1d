"""NIfTI slices: upright, in order, by one range, whatever way the volume lies in its file."""

import gzip
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from convert_files import convert, pixels_of, save_nifti
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.typing import NDArray

from maskloop_learner.convert.options import Axis, ConvertError, ConvertOptions

X, Y, Z = 9, 8, 7
ORIENTATIONS = ["RAS", "LPS", "LAS", "PIR", "SAR", "ASL", "IPL"]
WHOLE = (0.0, 100.0)


def head() -> NDArray[np.int16]:
    """Dark air, a body, and one bright voxel each at the patient's right, front and top."""
    voxels = np.zeros((X, Y, Z), np.int16)
    voxels[1:-1, 1:-1, 1:-1] = 50
    voxels[X - 2, 3, 3] = 100  # right
    voxels[4, Y - 2, 3] = 150  # front
    voxels[4, 3, Z - 2] = 200  # top
    return voxels


def stored_as(voxels: NDArray[Any], codes: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The same volume in another order of axes, with the affine that says so."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    affine = np.diag([2.0, 3.0, 4.0, 1.0]) @ inv_ornt_aff(turn, voxels.shape)
    return nibabel.orientations.apply_orientation(voxels, turn), affine


def place(pixels: NDArray[np.uint8], value: int) -> tuple[int, int]:
    (row,), (column,) = np.nonzero(pixels == value)
    return int(row), int(column)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_slices_are_upright_whatever_the_file_order(tmp_path: Path, codes: str) -> None:
    path = save_nifti(tmp_path / "scan.nii.gz", *stored_as(head(), codes))
    made = {
        axis: convert(path, ConvertOptions(axis=axis, percentiles=WHOLE)) for axis in ("axial", "coronal", "sagittal")
    }
    levels = {name: round(255 * value / 200) for name, value in {"right": 100, "front": 150, "top": 200}.items()}
    axial, coronal = pixels_of(made["axial"][3]), pixels_of(made["coronal"][3])
    sagittal = pixels_of(made["sagittal"][4])
    # the patient's right is on the left of the picture, front and top are up
    assert place(axial, levels["right"]) == (Y - 1 - 3, 1)
    assert place(axial, levels["front"]) == (1, X - 1 - 4)
    assert place(coronal, levels["right"]) == (Z - 1 - 3, 1)
    assert place(coronal, levels["top"]) == (1, X - 1 - 4)
    # the face looks to the left
    assert place(sagittal, levels["front"]) == (Z - 1 - 3, 1)
    assert place(sagittal, levels["top"]) == (1, Y - 1 - 3)
    # from the feet up, from the back to the front, from the left to the right
    assert [number for number, one in enumerate(made["axial"]) if levels["top"] in pixels_of(one)] == [Z - 2]
    assert [number for number, one in enumerate(made["coronal"]) if levels["front"] in pixels_of(one)] == [Y - 2]
    assert [number for number, one in enumerate(made["sagittal"]) if levels["right"] in pixels_of(one)] == [X - 2]
    assert made["axial"][0].origin["orientation"] == codes
    spacings = {axis: (one[0].origin["spacing"], one[0].origin["slice_distance"]) for axis, one in made.items()}
    assert spacings == {"axial": ([3, 2], 4), "coronal": ([4, 2], 3), "sagittal": ([4, 3], 2)}


def test_names_count_slices_and_volumes(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "sub-01_T1w.nii.gz", np.zeros((4, 4, 12), np.int16))
    pictures = convert(path)
    assert [one.name for one in pictures][:2] == ["sub-01_T1w-01.png", "sub-01_T1w-02.png"]
    assert (pictures[11].origin["frame"], pictures[11].origin["frames"]) == (12, 12)
    assert [one.origin["frame"] for one in convert(path, ConvertOptions(every=5, frames=(2, 12)))] == [2, 7, 12]
    four = save_nifti(tmp_path / "bold.nii", np.zeros((4, 4, 2, 10), np.int16))
    assert [one.name for one in convert(four)][:3] == ["bold-01-1.png", "bold-01-2.png", "bold-02-1.png"]
    third = convert(four, ConvertOptions(volume=3))
    assert [(one.name, one.origin["volume"], one.origin["volumes"]) for one in third] == [
        ("bold-03-1.png", 3, 10),
        ("bold-03-2.png", 3, 10),
    ]
    with pytest.raises(ConvertError, match="volume 11 is asked for, it has 10"):
        convert(four, ConvertOptions(volume=11))
    (flat,) = convert(save_nifti(tmp_path / "flat.nii", np.zeros((4, 5), np.int16)))
    assert (flat.name, flat.origin["frame"], flat.width, flat.height) == ("flat.png", None, 4, 5)


def test_all_slices_share_one_range(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).normal(500, 100, (20, 20, 20)).astype(np.float32)
    pictures = convert(save_nifti(tmp_path / "x.nii", voxels))
    low, high = pictures[0].origin["range"]
    assert {tuple(one.origin["range"]) for one in pictures} == {(low, high)}
    assert (low, high) == pytest.approx(np.percentile(voxels, (0.5, 99.5)), abs=1)
    expected = np.clip((voxels[:, :, 5].T[::-1, ::-1].astype(float) - low) / (high - low), 0, 1) * 255
    assert np.abs(pixels_of(pictures[5]) - expected).max() <= 0.5


def test_a_window_is_in_the_files_unit(tmp_path: Path) -> None:
    voxels = np.arange(4 * 4 * 4, dtype=np.int16).reshape(4, 4, 4)
    path = tmp_path / "scaled.nii"
    image = nibabel.Nifti1Image(voxels, np.eye(4))
    image.header.set_slope_inter(2, -30)
    nibabel.save(image, path)
    pictures = convert(path, ConvertOptions(window=(40, 60)))
    stored = nibabel.load(path)
    assert pictures[0].origin["rescale"] == {"slope": stored.dataobj.slope, "intercept": stored.dataobj.inter}
    expected = np.clip((stored.get_fdata()[:, :, 2].T[::-1, ::-1] - 10) / 60, 0, 1) * 255
    assert np.abs(pixels_of(pictures[2]) - expected).max() <= 0.5


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", ">i2", "u2", "i4", "u4", "f4", ">f4", "f8"])
def test_every_type_of_voxel_is_shown_alike(tmp_path: Path, kind: str) -> None:
    voxels = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    path = tmp_path / "x.nii"
    image = nibabel.Nifti1Image(voxels.astype(kind), np.eye(4), dtype=np.dtype(kind))
    if kind.startswith(">"):
        image.header.endianness  # noqa: B018
        image = nibabel.Nifti1Image(voxels.astype(kind[1:]), np.eye(4), image.header.as_byteswapped(">"))
    nibabel.save(image, path)
    pictures = convert(path, ConvertOptions(percentiles=WHOLE))
    expected = voxels[:, :, 3].T[::-1, ::-1] / 119 * 255
    assert np.abs(pixels_of(pictures[3]) - expected).max() <= 0.5


def test_nifti_2_and_packed_files_are_the_same(tmp_path: Path) -> None:
    voxels = head()
    nibabel.save(nibabel.Nifti2Image(voxels, np.eye(4)), tmp_path / "second.nii")
    save_nifti(tmp_path / "first.nii", voxels)
    (tmp_path / "packed").write_bytes(gzip.compress((tmp_path / "first.nii").read_bytes()))
    made = [[one.data for one in convert(tmp_path / name)] for name in ("first.nii", "second.nii", "packed")]
    assert made[0] == made[1] == made[2]


def test_colours_stay_colours(tmp_path: Path) -> None:
    voxels = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    voxels["R"], voxels["B"] = 200, np.arange(6)
    pictures = convert(save_nifti(tmp_path / "rgb.nii", voxels))
    assert pixels_of(pictures[4])[0, 0].tolist() == [200, 0, 4]
    assert (pictures[4].origin["type"], pictures[4].origin["shown_by"]) == ("RGB", "colours")


def test_voxels_that_are_no_number_are_black_and_counted(tmp_path: Path) -> None:
    voxels = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    voxels[0, 0, 1], voxels[1, 1, 1] = np.nan, np.inf
    pictures = convert(save_nifti(tmp_path / "gaps.nii", voxels))
    assert [one.origin["not_finite"] for one in pictures] == [0, 2, 0, 0]
    assert pixels_of(pictures[1])[3, 3] == 0
    assert pixels_of(pictures[1])[2, 2] == 255
    with pytest.raises(ConvertError, match="none of its voxels is a number"):
        convert(save_nifti(tmp_path / "none.nii", np.full((4, 4, 4), np.nan, np.float32)))


def test_an_orientation_that_is_not_told_is_recorded(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(head(), None)
    image.header["qform_code"] = image.header["sform_code"] = 0
    nibabel.save(image, tmp_path / "x.nii")
    (first, *_) = convert(tmp_path / "x.nii")
    assert (first.origin["orientation"], first.origin["orientation_known"]) == ("LAS", False)
    assert convert(save_nifti(tmp_path / "y.nii", head()))[0].origin["orientation_known"] is True


def test_slices_that_lean_are_not_resampled(tmp_path: Path) -> None:
    angle = np.radians(20)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    (first, *_) = pictures = convert(save_nifti(tmp_path / "x.nii", head(), affine))
    assert first.origin["oblique_degrees"] == pytest.approx(20, abs=0.01)
    plain = convert(save_nifti(tmp_path / "y.nii", head()))
    assert [one.data for one in pictures] == [one.data for one in plain]


def test_names_in_header_and_extensions_do_not_leave(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(head(), np.eye(4))
    for key in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[key] = b"Anna Miller"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Anna Miller"))
    path = tmp_path / "x.nii"
    nibabel.save(image, path)
    assert path.read_bytes().count(b"Anna Miller") == 5
    for picture in convert(path):
        assert b"Miller" not in picture.data
        assert "Miller" not in json.dumps(picture.origin)
        assert set(picture.origin) == {
            "file", "sha256", "format", "frame", "frames", "axis", "volume", "volumes", "type", "rescale", "spacing",
            "slice_distance", "orientation", "orientation_known", "oblique_degrees", "shown_by", "window", "range",
            "not_finite",
        }  # fmt: skip


def edited(path: Path, **values: Any) -> Path:
    """The file with other values in its header."""
    data = bytearray(path.read_bytes())
    header = nibabel.Nifti1Header(bytes(data[:348]), check=False)
    for key, value in values.items():
        header[key] = value
    path.write_bytes(header.binaryblock + bytes(data[348:]))
    return path


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"dim": [3, 30000, 30000, 2, 1, 1, 1, 1]}, r"\(30000, 30000, 2, 1\) voxels need .* bytes; it is cut short"),
        ({"dim": [3, 0, 8, 7, 1, 1, 1, 1]}, r"its shape is \(0, 8, 7\)"),
        ({"dim": [5, 3, 3, 3, 1, 2, 1, 1]}, r"its shape is \(3, 3, 3, 1, 2\); volumes of 2, 3 or 4 dimensions"),
        ({"datatype": 32}, "voxels of type complex64 are not read"),
        ({"datatype": 1}, "voxels of type .* are not read"),
        ({"datatype": 77}, "the NIfTI header is damaged .*77"),
        ({"vox_offset": -1e30}, r"its voxels begin at -1e\+30"),
        ({"vox_offset": np.nan}, "its voxels begin at nan"),
        ({"srow_x": [np.nan] * 4}, "does not say how its voxels lie"),
        ({"srow_x": [0] * 4}, "does not say how its voxels lie"),
        ({"magic": b"ni1"}, r"one half of a pair \(.hdr and .img\); write the two as one"),
    ],
)
def test_headers_that_cannot_be_right_are_refused(tmp_path: Path, header: dict[str, Any], reason: str) -> None:
    path = edited(save_nifti(tmp_path / "x.nii", head()), **header)
    with pytest.raises(ConvertError, match=rf"^x\.nii: .*{reason}"):
        convert(path)


def test_a_small_packed_file_that_promises_much_is_refused(tmp_path: Path) -> None:
    path = edited(save_nifti(tmp_path / "x.nii", head()), dim=[3, 4000, 4000, 100, 1, 1, 1, 1])
    packed = tmp_path / "x.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ConvertError, match="it is cut short, copy it again"):
        convert(packed)
    packed.write_bytes(gzip.compress(path.read_bytes() + bytes(10_000_000)))
    with pytest.raises(ConvertError, match="cut short"):
        convert(packed)
    with pytest.raises(ConvertError, match=r"3200\.0 megabytes, over the limit of 3000"):
        convert(packed, ConvertOptions(max_megabytes=3000))


def test_the_axis_is_one_of_three(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "x.nii", head())
    axes: list[Axis] = ["axial", "coronal", "sagittal"]
    assert [len(convert(path, ConvertOptions(axis=axis))) for axis in axes] == [Z, Y, X]
