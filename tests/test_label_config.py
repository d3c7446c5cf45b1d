"""Label configs that can be served, and the reason why others cannot."""

import time

import pytest

from maskloop_backend.labelstudio.config import ConfigError, Control, read_control

IMAGE = '<Image name="image" value="$image"/>'
BRUSH = (
    '<BrushLabels name="mask" toName="image"><Label value="White matter"/><Label value="Grey matter"/></BrushLabels>'
)


def view(*parts: str) -> str:
    return "<View>" + "".join(parts) + "</View>"


def test_one_brush_on_one_image_with_other_tags_around_it() -> None:
    config = view(
        '<Header value="Brain"/>',
        IMAGE,
        '<TextArea name="prompt" toName="image" editable="true"/>',
        f'<View style="display:flex">{BRUSH}</View>',
        '<Choices name="quality" toName="image"><Choice value="good"/></Choices>',
    )
    control = read_control(config)
    assert control == Control("mask", "image", "image", ["White matter", "Grey matter"])
    assert control.as_json() == {
        "from_name": "mask",
        "to_name": "image",
        "data_key": "image",
        "labels": ["White matter", "Grey matter"],
    }


def test_an_xml_declaration_comments_case_and_aliases_do_not_matter() -> None:
    config = (
        '<?xml version="1.0" encoding="latin-1"?><!-- c --><view><image NAME="i" value="$mri-slice_1"/>'
        '<Brushlabels name="m" toname="i"><label value="é" alias="tumor"/><Label value="脳"/></Brushlabels></view>'
    )
    assert read_control(config) == Control("m", "i", "mri-slice_1", ["tumor", "脳"])


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (view(), "no BrushLabels"),
        ("", "not well-formed"),
        ("not xml", "not well-formed"),
        ("<View><Image></View>", "not well-formed"),
        (view(IMAGE, '<PolygonLabels name="p" toName="image"><Label value="a"/></PolygonLabels>'), "PolygonLabels"),
        (view(IMAGE, '<Brush name="b" toName="image"/><Labels name="l" toName="image"/>'), "a tag of their own"),
        (view(IMAGE, BRUSH, BRUSH.replace('"mask"', '"second"')), "2 BrushLabels (mask, second)"),
        (view(IMAGE, IMAGE.replace('"image"', '"other"'), BRUSH), "2 Image tags"),
        (view('<Video name="image" value="$video"/>', BRUSH), "It shows video"),
        (view(BRUSH), "no Image"),
        (view(IMAGE, BRUSH.replace('toName="image"', 'toName="other"')), "toName='other'"),
        (view(IMAGE, BRUSH.replace('toName="image"', "")), "lacks its name or its toName"),
        (view(IMAGE, BRUSH.replace('name="mask"', "")), "lacks its name or its toName"),
        (view('<Image name="image" value="$undefined$"/>', BRUSH), "'$undefined$'"),
        (view('<Image name="image"/>', BRUSH), "value=''"),
        (view('<Image name="image" value="https://x/a.png"/>', BRUSH), "names no field"),
        (view('<Image name="image" value="https://x/$image"/>', BRUSH), "names no field"),
        (view('<Image name="image" valueList="$pages"/>', BRUSH), "several pages"),
        (view(IMAGE, '<BrushLabels name="mask" toName="image"/>'), "no Label"),
        (view(IMAGE, '<BrushLabels name="mask" toName="image"><Label value=" "/></BrushLabels>'), "without a value"),
        (view(IMAGE, '<BrushLabels name="mask" toName="image" value="$labels"/>'), "from the tasks"),
        (
            view(IMAGE, '<BrushLabels name="mask" toName="image"><Label value="a"/><Label value="a"/></BrushLabels>'),
            "'a' more than once",
        ),
        ("<View>" * 200 + "</View>" * 200, "nested deeper"),
        (" " * 1_000_001, "1000001 characters"),
    ],
)
def test_what_cannot_be_served_says_why(config: str, reason: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_control(config)
    assert reason in str(error.value)


def test_entities_are_neither_expanded_nor_loaded() -> None:
    lines = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<!DOCTYPE x [<!ENTITY l0 "lol">{lines}]><View>&l9;{IMAGE}{BRUSH}</View>'
    outside = f'<!DOCTYPE x [<!ENTITY p SYSTEM "file:///etc/passwd">]><View>&p;{IMAGE}{BRUSH}</View>'
    begun = time.monotonic()
    for config in (bomb, outside):
        with pytest.raises(ConfigError, match="document type"):
            read_control(config)
    assert time.monotonic() - begun < 1.0
