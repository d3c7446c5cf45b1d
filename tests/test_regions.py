"""Masks go to Label Studio as regions of three kinds and come back as masks."""

import copy
import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from label_studio_sdk.converter import brush
from label_studio_sdk.label_interface import LabelInterface

from maskloop_backend.labelstudio.config import read_interface
from maskloop_backend.labelstudio.controls import Control, MaskKind
from maskloop_backend.masks.bitmask import encode_bitmask
from maskloop_backend.masks.regions import RegionError, from_regions, to_regions
from maskloop_backend.masks.rle import encode_rle
from maskloop_learner.pool.masks import Mask

LABELS = ("White matter", "Grey matter", "Läsion")
KINDS: tuple[MaskKind, ...] = ("brush", "bitmask", "polygon")
CONFIG = """<View><Image name="image" value="$image"/><{0} name="tag" toName="image">
<Label value="White matter"/><Label value="Grey matter"/><Label value="Läsion"/></{0}>
<TextArea name="note" toName="image"/></View>"""
TITLES = {"brush": "BrushLabels", "bitmask": "BitmaskLabels", "polygon": "PolygonLabels"}


def tag(kind: MaskKind = "brush", name: str = "tag", labels: tuple[str, ...] = LABELS) -> Control:
    return Control(kind, name, "image", "image", labels)


def two_masks() -> dict[str, Mask]:
    rows, columns = np.mgrid[:20, :30]
    return {"White matter": rows < columns, "Grey matter": (rows + columns) % 3 == 0}


def regions(kind: MaskKind = "brush", **changes: Any) -> list[dict[str, Any]]:
    return to_regions(two_masks(), **({"controls": [tag(kind)], "region_prefix": "v1-7"} | changes))


def read(result: Any, *controls: Control) -> dict[str, Mask]:
    return from_regions(result, controls=controls or [tag()], width=30, height=20)


def changed(region: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**region, **changes}


@pytest.mark.parametrize("kind", ["brush", "bitmask"])
def test_masks_come_back_through_json_to_the_pixel(kind: MaskKind) -> None:
    masks = read(json.loads(json.dumps(regions(kind, scores={"White matter": 0.25}))), tag(kind))
    assert list(masks) == list(LABELS)
    for label, mask in two_masks().items():
        assert np.array_equal(masks[label], mask)
        assert masks[label].dtype == np.bool_
    assert masks["Läsion"].shape == (20, 30)
    assert not masks["Läsion"].any()


@settings(max_examples=60, deadline=None)
@given(
    mask=st.tuples(st.integers(1, 24), st.integers(1, 24)).flatmap(lambda shape: arrays(np.bool_, shape)),
    kind=st.sampled_from(["brush", "bitmask"]),
)
def test_any_mask_comes_back_to_the_pixel(mask: Mask, kind: MaskKind) -> None:
    made = to_regions({"Läsion": mask}, controls=[tag(kind)], region_prefix="v")
    assert len(made) == mask.any()
    back = from_regions(made, controls=[tag(kind)], width=mask.shape[1], height=mask.shape[0])
    assert np.array_equal(back["Läsion"], mask)


@pytest.mark.parametrize("kind", KINDS)
def test_regions_are_valid_for_label_studio_and_repeatable(kind: MaskKind) -> None:
    config = CONFIG.format(TITLES[kind])
    controls = read_interface(config).controls
    assert controls == (tag(kind),)
    made = regions(kind, controls=controls, scores={"White matter": np.float32(0.25)})
    assert LabelInterface(config).validate_prediction({"result": made, "score": 0.5}, return_errors=True) == []
    assert json.dumps(made) == json.dumps(regions(kind, scores={"White matter": 0.25}))
    assert {(region["value"][f"{kind}labels"][0], region.get("score")) for region in made} == {
        ("White matter", 0.25),
        ("Grey matter", None),
    }
    other_image = Control(kind, "tag", "after", "after", LABELS)
    all_made = [
        *made,
        *regions(kind, region_prefix="v1-8"),
        *regions(kind, region_prefix="v2-7"),
        *regions(kind, controls=[other_image]),
    ]
    assert len({region["id"] for region in all_made}) == 4 * len(made)


def test_brush_values_are_0_and_255() -> None:
    values = brush.decode_rle(regions()[0]["value"]["rle"])
    assert set(np.unique(values).tolist()) == {0, 255}


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_mask_makes_no_region(kind: MaskKind) -> None:
    masks = {"White matter": np.zeros((20, 30), dtype=bool), "Grey matter": np.ones((20, 30), dtype=bool)}
    made = to_regions(masks, controls=[tag(kind)], region_prefix="v1-7")
    assert [region["value"][f"{kind}labels"] for region in made] == [["Grey matter"]]
    assert read(made, tag(kind))["Grey matter"].all()
    assert not any(mask.any() for mask in read([], tag(kind)).values())


def test_a_label_is_drawn_with_the_first_tag_that_has_it() -> None:
    controls = [tag("polygon", "p", ("Läsion",)), tag("brush", "b", ("White matter", "Läsion"))]
    masks = {**two_masks(), "Läsion": np.ones((20, 30), dtype=bool)}
    made = to_regions(masks, controls=controls, region_prefix="v")
    assert [(region["type"], region["from_name"]) for region in made] == [("brushlabels", "b"), ("polygonlabels", "p")]


def test_kinds_of_one_label_are_united_and_other_tags_and_images_left_out() -> None:
    controls = [tag("brush", "b", ("Läsion", "White matter")), tag("bitmask", "m"), tag("polygon", "p")]
    corners = [np.zeros((20, 30), dtype=bool) for _ in controls]
    corners[0][:5, :5], corners[1][:5, 20:], corners[2][10:, 7:15] = True, True, True
    made = [
        region
        for mask, control in zip(corners, controls, strict=True)
        for region in to_regions({"Läsion": mask}, controls=[control], region_prefix="v")
    ]
    assert {region["type"] for region in made} == {"brushlabels", "bitmasklabels", "polygonlabels"}
    made.append({"id": "t", "type": "textarea", "from_name": "note", "value": {"text": ["a lesion"]}})
    made.append(changed(regions()[0], from_name="other"))
    made.append(changed(regions()[0], from_name="b", to_name="after", original_width=5))
    made.append({"id": "u", "type": "brush", "from_name": "b", "value": {"format": "rle", "rle": [1]}})
    made.append({"id": "r", "type": "relation"})
    masks = read(made, *controls)
    assert list(masks) == ["Läsion", "White matter", "Grey matter"]
    assert np.array_equal(masks["Läsion"], corners[0] | corners[1] | corners[2])
    assert not masks["White matter"].any()


def test_regions_outlive_a_change_of_their_tags_kind() -> None:
    """A tag that was made into PolygonLabels keeps its name; what was drawn with the brush still counts."""
    assert np.array_equal(read(regions("brush"), tag("polygon"))["White matter"], two_masks()["White matter"])


@pytest.mark.parametrize("kind", ["brush", "bitmask"])
def test_a_region_of_two_labels_counts_for_both(kind: MaskKind) -> None:
    region = regions(kind)[0]
    region["value"][f"{kind}labels"] = ["White matter", "Läsion"]
    masks = read([region])
    assert np.array_equal(masks["Läsion"], two_masks()["White matter"])
    assert np.array_equal(masks["White matter"], two_masks()["White matter"])
    assert masks["Läsion"] is not masks["White matter"]


@pytest.mark.parametrize("kind", ["brush", "bitmask"])
def test_a_turned_view_does_not_turn_the_mask(kind: MaskKind) -> None:
    """Label Studio writes the pixels of the unturned image, whatever the annotator looked at."""
    masks = read([changed(region, image_rotation=90) for region in regions(kind)])
    assert np.array_equal(masks["White matter"], two_masks()["White matter"])


def with_value(kind: MaskKind, **changes: Any) -> dict[str, Any]:
    return changed(regions(kind)[0], value={**regions(kind)[0]["value"], **changes})


WIDE = np.ones((20, 31), dtype=bool)


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        (changed(regions()[0], original_width=31), "original_width is 31, the image has 30.*draw it again"),
        (changed(regions()[0], original_width=20, original_height=30), "original_width is 20, the image has 30"),
        (changed(regions("polygon")[0], original_height=None), "original_height is None"),
        (changed(regions("bitmask")[0], to_name=None), "names no image"),
        (changed(regions()[0], value=None), "no brush mask"),
        (changed(regions()[0], value={"brushlabels": ["Läsion"]}), "no brush mask"),
        (with_value("brush", format="png"), "format 'png'"),
        (with_value("brush", rle=[]), "cut short.*draw it again"),
        (with_value("brush", rle=regions()[0]["value"]["rle"][:40]), "cut short"),
        (with_value("brush", rle="AAAA"), "got str"),
        (with_value("brush", rle=encode_rle(np.ones((30, 31), dtype=bool))), "3720 values"),
        (with_value("brush", brushlabels=[]), "no label"),
        (
            with_value("brush", brushlabels=["Tumor"]),
            r"'Tumor' is not in the label config \(White matter, Grey matter, Läsion\)",
        ),
        (with_value("polygon", polygonlabels=[["Läsion"]]), "not in the label config"),
        (with_value("bitmask", bitmasklabels="Läsion"), "no label"),
        (with_value("bitmask", imageDataURL=None), "a PNG in a data URL.*NoneType.*draw it again"),
        (with_value("bitmask", imageDataURL=encode_bitmask(WIDE)), "31 x 20 pixels, the image has 30 x 20"),
        (with_value("polygon", points=[[1, 2], [3, 4]]), "three or more points, got 2 points.*draw it again"),
        (with_value("polygon", points=[[1, 2], [3, 4], [512, 6]]), r"got \[512, 6\] \(pixels"),
        (with_value("polygon", closed=False), "was not closed"),
    ],
)
def test_bad_regions_are_named_with_reason_and_fix(region: dict[str, Any], reason: str) -> None:
    with pytest.raises(RegionError, match=rf"^region 'r77': .*{reason}"):
        read([regions()[1], changed(region, id="r77")])


@pytest.mark.parametrize(("result", "what"), [(["brush"], "object, got str"), ({}, "list"), (None, "list")])
def test_what_is_no_result_is_refused(result: Any, what: str) -> None:
    with pytest.raises(RegionError, match=what):
        read(result)


JUNK: list[Any] = [
    None, True, -1, 0, 3.5, 1e300, float("nan"), float("inf"), "", "x", "é" * 50, "data:image/png;base64,", [], {},
    [[]], [None], [[1, 2]] * 3, [[float("nan"), 0], [1, 1], [2, 5]], {"rle": 1}, b"x", 10**400, [["a", "b"]] * 4,
]  # fmt: skip


def damage(region: dict[str, Any], dice: random.Random) -> None:
    """Change one or two things of a region: a field, a field of its value, or within the mask itself."""
    for _ in range(dice.randint(1, 2)):
        value = region.get("value")
        where = value if isinstance(value, dict) and value and dice.random() < 0.8 else region
        key = dice.choice(sorted(where))
        held = where[key]
        if isinstance(held, list) and held and dice.random() < 0.7:
            at = dice.randrange(len(held))
            if dice.random() < 0.4:
                del held[at:]
            else:
                held[at] = dice.choice([*JUNK, dice.randrange(256)])
        elif isinstance(held, str) and held and dice.random() < 0.7:
            at = dice.randrange(len(held))
            where[key] = (
                held[:at] + dice.choice(["", "A", "/", "=", "\n", "é", "\0"]) + held[at + dice.choice([1, 9]) :]
            )
        elif dice.random() < 0.2:
            del where[key]
        else:
            where[key] = copy.deepcopy(dice.choice(JUNK))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_regions_give_a_reason_or_a_mask(kind: MaskKind) -> None:
    """Of 400 of each kind, none raises anything else than RegionError, and no neighbour changes."""
    dice = random.Random(11)
    whole = regions(kind)
    reasons = []
    for _ in range(400):
        region = copy.deepcopy(whole[0])
        damage(region, dice)
        try:
            masks = read([region], tag(kind))
        except RegionError as error:
            reasons.append(str(error))
        else:
            assert all(mask.shape == (20, 30) and mask.dtype == np.bool_ for mask in masks.values())
    assert len(reasons) > 100
    assert all(reason.startswith("region ") and len(reason) < 1000 for reason in reasons)
    assert whole == regions(kind)
