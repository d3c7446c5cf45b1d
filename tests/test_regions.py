"""Masks go to Label Studio as brush regions and come back as masks."""

import json
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter import brush
from label_studio_sdk.label_interface import LabelInterface

from maskloop_backend.masks.regions import RegionError, from_regions, to_regions
from maskloop_backend.masks.rle import encode_rle
from maskloop_learner.pool.masks import Mask

LABELS = ["White matter", "Grey matter", "Läsion"]
CONFIG = """<View><Image name="image" value="$image"/><BrushLabels name="tag" toName="image">
<Label value="White matter"/><Label value="Grey matter"/><Label value="Läsion"/></BrushLabels>
<TextArea name="prompt" toName="image"/></View>"""


def two_masks() -> dict[str, Mask]:
    rows, columns = np.mgrid[:20, :30]
    return {"White matter": rows < columns, "Grey matter": (rows + columns) % 3 == 0}


def regions(**changes: Any) -> list[dict[str, Any]]:
    arguments: dict[str, Any] = {"from_name": "tag", "to_name": "image", "region_prefix": "v1-7"}
    return to_regions(two_masks(), **(arguments | changes))


def read(result: Any, **changes: Any) -> dict[str, Mask]:
    arguments: dict[str, Any] = {"from_name": "tag", "labels": LABELS, "width": 30, "height": 20}
    return from_regions(result, **(arguments | changes))


def changed(region: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**region, **changes}


def test_masks_come_back_through_json() -> None:
    masks = read(json.loads(json.dumps(regions(scores={"White matter": 0.25}))))
    assert list(masks) == LABELS
    for label, mask in two_masks().items():
        assert np.array_equal(masks[label], mask)
        assert masks[label].dtype == np.bool_
    assert masks["Läsion"].shape == (20, 30)
    assert not masks["Läsion"].any()


def test_regions_are_valid_for_label_studio_and_repeatable() -> None:
    made = regions(scores={"White matter": np.float32(0.25)})
    assert LabelInterface(CONFIG).validate_prediction({"result": made, "score": 0.5}, return_errors=True) == []
    assert made == regions(scores={"White matter": 0.25})
    assert [region.get("score") for region in made] == [0.25, None]
    ids = {region["id"] for region in [*made, *regions(region_prefix="v1-8"), *regions(region_prefix="v2-7")]}
    assert len(ids) == 6
    values = brush.decode_rle(made[0]["value"]["rle"])
    assert set(np.unique(values).tolist()) == {0, 255}


def test_an_empty_mask_makes_no_region() -> None:
    masks = {"White matter": np.zeros((20, 30), dtype=bool), "Grey matter": np.ones((20, 30), dtype=bool)}
    made = to_regions(masks, from_name="tag", to_name="image", region_prefix="v1-7")
    assert [region["value"]["brushlabels"] for region in made] == [["Grey matter"]]
    assert not any(mask.any() for mask in read([]).values())


def test_regions_of_a_label_are_united_and_other_tags_left_out() -> None:
    left, right = np.zeros((2, 20, 30), dtype=bool)
    left[:, :9], right[5:, 20:] = True, True
    made = [
        region
        for number, mask in enumerate((left, right))
        for region in to_regions({"Läsion": mask}, from_name="tag", to_name="image", region_prefix=str(number))
    ]
    made.append({"id": "t", "type": "textarea", "from_name": "prompt", "value": {"text": ["a lesion"]}})
    made.append(changed(regions()[0], from_name="other"))
    made.append({"id": "u", "type": "brush", "from_name": "tag", "value": {"format": "rle", "rle": [1]}})
    made.append({"id": "r", "type": "relation"})
    masks = read(made)
    assert np.array_equal(masks["Läsion"], left | right)
    assert not masks["White matter"].any()


def test_a_region_of_two_labels_counts_for_both() -> None:
    region = regions()[0]
    region["value"]["brushlabels"] = ["White matter", "Läsion"]
    masks = read([region])
    assert np.array_equal(masks["Läsion"], two_masks()["White matter"])
    assert np.array_equal(masks["White matter"], two_masks()["White matter"])
    assert masks["Läsion"] is not masks["White matter"]


def test_a_turned_view_does_not_turn_the_mask() -> None:
    """Label Studio writes the pixels of the unturned image, whatever the annotator looked at."""
    masks = read([changed(region, image_rotation=90) for region in regions()])
    assert np.array_equal(masks["White matter"], two_masks()["White matter"])


def value(**changes: Any) -> dict[str, Any]:
    return {"value": {**regions()[0]["value"], **changes}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"original_width": 31}, "original_width is 31, the image has 30.*draw it again"),
        ({"original_width": 20, "original_height": 30}, "original_width is 20, the image has 30"),
        ({"original_height": None}, "original_height is None"),
        ({"value": None}, "no brush mask"),
        (value(format="png"), "no brush mask"),
        ({"value": {"brushlabels": ["Läsion"]}}, "no brush mask"),
        (value(rle=[]), "cut short.*draw it again"),
        (value(rle=regions()[0]["value"]["rle"][:40]), "cut short"),
        (value(rle="AAAA"), "got str"),
        (value(rle=encode_rle(np.ones((30, 31), dtype=bool))), "3720 values"),
        (value(brushlabels=[]), "no label"),
        (value(brushlabels=["Tumor"]), r"'Tumor' is not in the label config \(White matter, Grey matter, Läsion\)"),
        (value(brushlabels=[["Läsion"]]), "not in the label config"),
    ],
)
def test_bad_regions_are_named_with_reason_and_fix(changes: dict[str, Any], reason: str) -> None:
    region = changed(regions()[0], id="r77", **changes)
    with pytest.raises(RegionError, match=rf"^region 'r77': .*{reason}"):
        read([regions()[1], region])


def test_what_is_no_region_is_refused() -> None:
    with pytest.raises(RegionError, match="must be an object, got str"):
        read(["brush"])
