"""Label configs that can be served, and the reason why others cannot."""

import random
import time

import pytest

from maskloop_backend.labelstudio.config import ConfigError, read_interface
from maskloop_backend.labelstudio.controls import Control, Interface, MaskKind, PromptTag

IMAGE = '<Image name="image" value="$image"/>'
SECOND = '<Image name="after" value="$after"/>'
BRUSH = (
    '<BrushLabels name="mask" toName="image"><Label value="White matter"/><Label value="Grey matter"/></BrushLabels>'
)


def view(*parts: str) -> str:
    return "<View>" + "".join(parts) + "</View>"


def mask_tag(title: str, name: str, *labels: str, image: str = "image") -> str:
    inside = "".join(f'<Label value="{label}"/>' for label in labels)
    return f'<{title} name="{name}" toName="{image}">{inside}</{title}>'


def test_one_brush_on_one_image_with_other_tags_around_it() -> None:
    config = view(
        '<Header value="Brain"/>',
        IMAGE,
        '<TextArea name="prompt" toName="image" editable="true"/>',
        f'<View style="display:flex">{BRUSH}</View>',
        '<Choices name="quality" toName="image"><Choice value="good"/></Choices>',
    )
    interface = read_interface(config)
    labels = ("White matter", "Grey matter")
    assert interface == Interface(
        (Control("brush", "mask", "image", "image", labels),), (PromptTag("prompt", "image", "image"),)
    )
    assert Interface.from_json(interface.as_json()) == interface
    assert interface.as_json()["labels"] == list(labels)


def test_an_xml_declaration_comments_case_and_aliases_do_not_matter() -> None:
    config = (
        '<?xml version="1.0" encoding="latin-1"?><!-- c --><view><image NAME="i" value="$mri_slice_1"/>'
        '<Brushlabels name="m" toname="i"><label value="é" alias="tumor"/><Label value="脳"/></Brushlabels></view>'
    )
    assert read_interface(config).controls == (Control("brush", "m", "i", "mri_slice_1", ("tumor", "脳")),)


@pytest.mark.parametrize(
    ("title", "kind"), [("BrushLabels", "brush"), ("BitmaskLabels", "bitmask"), ("polygonlabels", "polygon")]
)
def test_each_kind_of_mask_tag_is_served(title: str, kind: MaskKind) -> None:
    (control,) = read_interface(view(IMAGE, mask_tag(title, "m", "Cyst"))).controls
    assert control == Control(kind, "m", "image", "image", ("Cyst",))


def test_a_label_of_two_kinds_or_two_images_is_one_label() -> None:
    config = view(
        mask_tag("BrushLabels", "b", "Tumor", "Cyst"),
        IMAGE,
        mask_tag("PolygonLabels", "p", "Cyst", "Duct"),
        mask_tag("BrushLabels", "b2", "Cyst", image="after"),
        mask_tag("BrushLabels", "b3", "Vessel", image="after"),
        SECOND,
        '<Image name="overview" value="$overview"/>',
    )
    interface = read_interface(config)
    assert interface.labels == ("Tumor", "Cyst", "Duct", "Vessel")
    assert interface.data_keys == ("image", "after")
    assert [control.from_name for control in interface.on("after").controls] == ["b2", "b3"]


def test_prompts_are_typed_where_the_name_says_so() -> None:
    config = view(
        IMAGE,
        SECOND,
        BRUSH,
        '<Image name="plain" value="$plain"/>',
        '<TextArea name="Prompt-1" toName="image"/>',
        '<TextArea name="prompt_later" toName="after"/>',
        '<TextArea name="prompt_plain" toName="plain"/>',
        '<TextArea name="prompt_each" toName="image" perRegion="true"/>',
        '<TextArea name="report" toName="image"/>',
        '<Choices name="prompt_choice" toName="image"><Choice value="a"/></Choices>',
    )
    assert read_interface(config).prompt_tags == (PromptTag("Prompt-1", "image", "image"),)
    both = config.replace("</View>", mask_tag("BitmaskLabels", "m", "Cyst", image="after") + "</View>")
    assert read_interface(both).on("after").prompt_tags == (PromptTag("prompt_later", "after", "after"),)


@pytest.mark.parametrize(
    "extra",
    [
        '<View visibleWhen="region-selected"><Choices name="c" toName="image"><Choice value="a"/></Choices></View>',
        '<Choices name="c" toName="image" visibleWhen="no-region-selected"><Choice value="a"/></Choices>',
        '<TextArea name="note" toName="image" perRegion="true" visibleWhen="region-selected"/>',
        '<RectangleLabels name="box" toName="image"><Label value="White matter"/></RectangleLabels>',
        '<Rectangle name="r" toName="image"/><Labels name="l" toName="image"><Label value="x"/></Labels>',
        '<KeyPointLabels name="k" toName="image" smart="true"><Label value="White matter"/></KeyPointLabels>',
        '<Collapse><Panel value="More"><Header value="Help"/></Panel></Collapse><Style>.a {color: red}</Style>',
        '<Image name="s" value="$image"/><RectangleLabels name="b" toName="s"><Label value="x"/></RectangleLabels>',
        '<Image name="pages" valueList="$pages"/>',
        '<Text name="report" value="$report"/>',
        '<Brush name="b" toName="plain"/><Image name="plain" value="$plain"/>',
        '<Repeater on="$rows" indexFlag="{{idx}}"><Text name="t_{{idx}}" value="$rows[{{idx}}].text"/></Repeater>',
    ],
)
def test_what_draws_no_mask_is_left_alone(extra: str) -> None:
    assert read_interface(view(IMAGE, BRUSH, extra)) == read_interface(view(IMAGE, BRUSH))


@pytest.mark.parametrize(
    "config",
    [
        view(f"<View><View className='a'><Collapse><Panel value='x'>{IMAGE}{BRUSH}</Panel></Collapse></View></View>"),
        view(IMAGE, BRUSH.replace(">", '><View style="display:flex">', 1).replace("</Brush", "</View></Brush")),
        view(IMAGE, BRUSH.replace("<Label ", '<Header value="Matter"/><Label ', 1)),
        view(IMAGE.replace("/>", ' rotateControl="true" crossOrigin="anonymous"/>'), BRUSH),
        view(IMAGE, BRUSH.replace("toName", 'choice="multiple" maxUsages="3" toName')),
    ],
)
def test_wrappers_without_a_condition_change_nothing(config: str) -> None:
    assert read_interface(config) == read_interface(view(IMAGE, BRUSH))


WHEN = '<View visibleWhen="choice-selected" whenTagName="c" whenChoiceValue="yes">'


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (view(), "no mask tag"),
        ("", "not well-formed"),
        ("not xml", "not well-formed"),
        ("<View><Image></View>", "not well-formed"),
        (view(IMAGE, mask_tag("RectangleLabels", "r", "a")), "What it has (RectangleLabels) draws no masks"),
        (view(IMAGE, mask_tag("EllipseLabels", "r", "a"), mask_tag("VectorLabels", "v", "a")), "VectorLabels"),
        (view(IMAGE, '<Brush name="b" toName="image"/><Labels name="l" toName="image"/>'), "labels into BrushLabels"),
        (view(IMAGE, '<Polygon name="b" toName="image"/>', BRUSH), "Polygon 'b' has its labels in a tag of their own"),
        (view(IMAGE, '<Bitmask name="b" toName="image"/>'), "labels into BitmaskLabels"),
        (view(IMAGE, '<MagicWand name="w" toName="image"/>', BRUSH), "MagicWand 'w'"),
        (view(IMAGE, BRUSH, mask_tag("BrushLabels", "second", "Grey matter")), "'Grey matter' is in two BrushLabels"),
        (view(IMAGE, BRUSH, mask_tag("BitmaskLabels", "mask", "Cyst")), "Two tags are called 'mask'"),
        (view(IMAGE, IMAGE, BRUSH), "Two tags are called 'image'"),
        (
            view(IMAGE, SECOND.replace("$after", "$image"), BRUSH, mask_tag("BrushLabels", "m", "a", image="after")),
            "'after' and 'image' both show $image",
        ),
        (view('<Video name="image" value="$video"/>', BRUSH), "It shows video"),
        (view(BRUSH), "no Image"),
        (view(IMAGE, BRUSH.replace('toName="image"', 'toName="other"')), "toName='other'"),
        (view(IMAGE, SECOND, BRUSH.replace('toName="image"', 'toName="image,after"')), "mask tag of its own"),
        (view(IMAGE, BRUSH.replace('toName="image"', "")), "lacks its name or its toName"),
        (view(IMAGE, BRUSH.replace('name="mask"', "")), "lacks its name or its toName"),
        (view('<Image name="image" value="$undefined$"/>', BRUSH), "'$undefined$'"),
        (view('<Image name="image"/>', BRUSH), "value=''"),
        (view('<Image name="image" value="https://x/a.png"/>', BRUSH), "names no field"),
        (view('<Image name="image" value="https://x/$image"/>', BRUSH), "names no field"),
        (view('<Image name="image" value="$scan.url"/>', BRUSH), "inside another field"),
        (view('<Image name="image" value="$scans[0]"/>', BRUSH), "inside another field"),
        (view('<Image name="image" value="$mri-slice"/>', BRUSH), "shows no image. Rename the field"),
        (view('<Image name="image" value="$größe"/>', BRUSH), "letters a-z"),
        (view('<Image name="image" valueList="$pages"/>', BRUSH), "several pages"),
        (view(f'<Repeater on="$rows">{IMAGE}{BRUSH}</Repeater>'), "inside a Repeater"),
        (view(WHEN, IMAGE, "</View>", BRUSH), "Image 'image' is shown under a condition only (choice-selected)"),
        (view(IMAGE, WHEN, "<View>", BRUSH, "</View></View>"), "BrushLabels 'mask' is shown under a condition only"),
        (view(IMAGE, BRUSH.replace("toName", 'visibleWhen="region-selected" toName')), "'it was never asked'"),
        (view(IMAGE, '<View whenChoiceValue="yes">', BRUSH, "</View>"), "under a condition"),
        (view(IMAGE, BRUSH.replace(">", f">{WHEN}", 1).replace("</Brush", "</View></Brush")), "some of its labels"),
        (view(IMAGE, '<BrushLabels name="mask" toName="image"/>'), "no Label"),
        (view(IMAGE, mask_tag("BrushLabels", "mask", " ")), "without a value"),
        (view(IMAGE, mask_tag("PolygonLabels", "mask", "$finding")), "look into the task"),
        (view(IMAGE, '<BrushLabels name="mask" toName="image" value="$labels"/>'), "from the tasks"),
        (view(IMAGE, mask_tag("BitmaskLabels", "mask", "a", "a")), "'a' more than once"),
        ("<View>" * 200 + "</View>" * 200, "nested deeper"),
        (" " * 1_000_001, "1000001 characters"),
    ],
)
def test_what_cannot_be_served_says_why(config: str, reason: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_interface(config)
    assert reason in str(error.value)


def test_entities_are_neither_expanded_nor_loaded() -> None:
    lines = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<!DOCTYPE x [<!ENTITY l0 "lol">{lines}]><View>&l9;{IMAGE}{BRUSH}</View>'
    outside = f'<!DOCTYPE x [<!ENTITY p SYSTEM "file:///etc/passwd">]><View>&p;{IMAGE}{BRUSH}</View>'
    begun = time.monotonic()
    for config in (bomb, outside):
        with pytest.raises(ConfigError, match="document type"):
            read_interface(config)
    assert time.monotonic() - begun < 1.0


def test_a_thousand_damaged_configs_are_served_or_refused() -> None:
    """Nothing but ConfigError ever comes out, and it has words."""
    whole = view(WHEN, "</View>", IMAGE, SECOND, BRUSH, mask_tag("PolygonLabels", "p", "Cyst", image="after"))
    dice = random.Random(7)
    reasons = []
    for _ in range(1000):
        config = list(whole)
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(config))
            config[at : at + dice.choice([0, 1, 1, 8])] = dice.choice(
                ["", "<", ">", '"', "$", "&", "\0", "é", "x", "{"]
            )
        try:
            interface = read_interface("".join(config))
        except ConfigError as error:
            reasons.append(str(error))
        else:
            assert interface.labels
    assert 200 < len(reasons) < 1000
    assert min(map(len, reasons)) > 20
