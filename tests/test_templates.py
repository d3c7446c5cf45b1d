"""The template language: slots, groups that vanish cleanly, escapes, and errors that say what to mend."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskloop_learner.prompts.template import (
    MissingSlot,
    TemplateError,
    as_text,
    digest,
    literal,
    parse_template,
    tidy,
)

WORDS = st.from_regex(r"[a-z]{1,8}( [a-z]{1,8})?", fullmatch=True)
SLOTS = ("finding", "size", "shape", "site", "organ")
SEPARATORS = st.sampled_from([" ", ", ", " , ", "; ", "  "])


@st.composite
def templates(draw: st.DrawFn) -> tuple[str, set[str], set[str]]:
    """A template of a leading slot and optional groups, some nested: text, slots outside groups, slots within."""
    text, optional = "{finding}", set()
    for slot in draw(st.lists(st.sampled_from(SLOTS[1:]), unique=True)):
        before, word = draw(SEPARATORS), draw(st.sampled_from(["", "with ", "in the "]))
        inside = f"{before}{word}{{{slot}}}"
        if draw(st.booleans()):
            inside += draw(SEPARATORS) + f"of[ {{{slot}2}} or] any"
            optional.add(f"{slot}2")
        text += f"[{inside}]"
        optional.add(slot)
    return text + draw(st.sampled_from(["", " in the image", ", in the image.", " image."])), {"finding"}, optional


@given(templates(), st.data())
def test_what_is_given_appears_and_the_rest_leaves_no_trace(
    made: tuple[str, set[str], set[str]], data: st.DataObject
) -> None:
    """Any part of the slots filled: those that must appear do; blanks and commas are as a person would set them."""
    text, required, optional = made
    filled = {slot: data.draw(WORDS) for slot in required}
    filled |= {slot: data.draw(WORDS) for slot in optional if data.draw(st.booleans())}
    found = parse_template(text).render(filled)
    for slot, word in filled.items():
        # A nested group goes with the group around it.
        if not slot.endswith("2") or slot[:-1] in filled:
            assert word in found
    assert found == found.strip()
    assert not re.search(r"  | [,;.]|[,;]\s*[,;.]|[,;]$|^[,;]|[{}\[\]]", found), found


@given(st.text(alphabet="ab ,;:.()!?", max_size=40))
def test_tidying_is_done_in_one_go(text: str) -> None:
    once = tidy(text)
    assert tidy(once) == once
    assert "  " not in once
    assert [c for c in once if c in "ab"] == [c for c in text if c in "ab"]


@given(st.text(alphabet="ab {}[]|,", max_size=30))
def test_any_text_is_a_template_or_told_why_not(text: str) -> None:
    """No other error than ours, whatever is typed; what was parsed renders when its slots are filled."""
    try:
        template = parse_template(text)
    except TemplateError:
        assert text.strip() == "" or set(text) & set("{}[]")
    else:
        found = template.render(dict.fromkeys(template.slots, "x"))
        assert found == tidy(found)
        assert ("x" in found) == bool(template.slots)


FACTS = [
    # As the published sheets are worded, location and looks optional.
    (
        "[{count} ][{size} ][{colour} ][{shape} ]{finding}[, located in {location} of the image]",
        {"finding": "polyp", "count": "one", "size": "small", "location": ["center", "top left"]},
        "one small polyp, located in center, top left of the image",
        "polyp",
    ),
    (
        "[{count} ][{size} ][{colour} ]{finding}[ which is a {texture}][ located in {location} of the image]",
        {"finding": "skin melanoma", "count": 1, "texture": "rough patch"},
        "1 skin melanoma which is a rough patch",
        "skin melanoma",
    ),
    (
        "A [{colour} ]melanoma lesion[ located in the {location} region].",
        {"colour": "brown", "location": "lower right"},
        "A brown melanoma lesion located in the lower right region.",
        "A melanoma lesion.",
    ),
    (
        "[{count} ][{size} ][{shape}-shaped ][{grade} ]tumor[ at the {location}] in the breast ultrasound image.",
        {"size": "small", "shape": "oval", "grade": "benign", "location": ["center", "left"]},
        "small oval-shaped benign tumor at the center, left in the breast ultrasound image.",
        "tumor in the breast ultrasound image.",
    ),
    (
        "Findings indicate a [{grade} ]tumor[ situated in the {location} area].",
        {"grade": "malignant"},
        "Findings indicate a malignant tumor.",
        "Findings indicate a tumor.",
    ),
    (
        "MRI reveals a [{kind} ]tumor[ in the {location} region]",
        {"kind": "glioma", "location": "left frontal"},
        "MRI reveals a glioma tumor in the left frontal region",
        "MRI reveals a tumor",
    ),
    (
        "[{side} ]pulmonary infection[, {n} infected areas][, {left} left lung][ and {right} right lung]",
        {"side": "Bilateral", "n": 2.0, "left": "upper"},
        "Bilateral pulmonary infection, 2 infected areas, upper left lung",
        "pulmonary infection",
    ),
]


@pytest.mark.parametrize(("text", "fields", "full", "bare"), FACTS)
def test_published_styles(text: str, fields: dict[str, object], full: str, bare: str) -> None:
    """With the given slots, and without any group."""
    template = parse_template(text)
    assert template.render(fields) == full
    assert template.render(fields, groups=False) == bare
    assert template.render({"finding": fields.get("finding", "tumor")}) == bare


@pytest.mark.parametrize(
    ("text", "fields", "wanted"),
    [
        ("{finding} in the [{organ} ]image", {"finding": "cyst"}, "cyst in the image"),
        ("{finding} in the[ {organ}] image", {"finding": "cyst"}, "cyst in the image"),
        ("the[ {size} ]tumor", {}, "the tumor"),
        ("MRI[ {kind}]-based mass", {}, "MRI-based mass"),
        ("tumor ([{size}, ]{view|axial})", {}, "tumor (axial)"),
        ("tumor ([{size}])", {}, "tumor"),
        ("tumor[, {size}[ and {shape}]], seen", {"shape": "round"}, "tumor, seen"),
        ("tumor[ [{a}] [or {b}] here], seen", {"b": "x"}, "tumor or x here, seen"),
        ("tumor[ [{a}] [or {b}] here], seen", {}, "tumor, seen"),
        ("{x|} tumor", {}, "tumor"),
        ("tumor of .5 cm", {}, "tumor of .5 cm"),
        ("ratio 3:1, [{a}]", {}, "ratio 3:1"),
        ("{{{finding}}} [[{finding}]]", {"finding": "cyst"}, "{cyst} [cyst]"),
        ("{ lesion size | small } lesion", {"lesion size": "  "}, "small lesion"),
        ("{Größe (mm)} mm mass", {"Größe (mm)": 7.5}, "7.5 mm mass"),
        ("[{a}]", {}, ""),
    ],
)
def test_groups_defaults_and_escapes(text: str, fields: dict[str, object], wanted: str) -> None:
    assert parse_template(text).render(fields) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a {size", r"'a ▸\{size'.*character 3: '\{' opens no slot"),
        ("a {b [c]}", r"▸\{b \[c\]\}.*opens no slot"),
        ("a } b", r"write '\}\}' for a brace"),
        ("a [b] {c}", r"▸\[b\].*has no slot, so it would never vanish"),
        ("a [{b}", r"▸\[\{b\}.*never closed"),
        ("a {b}]", r"\{b\}▸\].*closes nothing"),
        ("[[{a}] b]", r"'\[ \[' where groups begin"),
        ("{ |x}", r"no name; write for instance '\{size\}'"),
        (" \n ", "it is empty; write at least the name"),
    ],
)
def test_errors_mark_the_place_and_say_the_fix(text: str, said: str) -> None:
    with pytest.raises(TemplateError, match=said):
        parse_template(text)


def test_a_required_slot_is_named() -> None:
    template = parse_template("{finding} in the {organ}[ of {age}]")
    assert template.slots == ("finding", "organ", "age")
    with pytest.raises(
        MissingSlot, match=r"the slot 'organ' is empty; give it a word, a default \{organ\|word\}"
    ) as raised:
        template.render({"finding": "cyst", "organ": None})
    assert raised.value.slot == "organ"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (" a \n b ", "a b"),
        (3, "3"),
        (12.0, "12"),
        (0.25, "0.25"),
        (math.nan, ""),
        (math.inf, ""),
        (None, ""),
        (True, ""),
        ({"a": 1}, ""),
        (["left", "", 2, None], "left, 2"),
    ],
)
def test_values_as_words(value: object, text: str) -> None:
    """What is no word is empty, so that its group vanishes: never "None", "nan" or "True" in a prompt."""
    assert as_text(value) == text


def test_a_template_has_a_short_name() -> None:
    """The same on every machine: it is kept with predictions."""
    assert digest("tumor in a breast ultrasound") == "fa1400ff"


@given(st.text(alphabet="ab [](){}|,.", min_size=1).filter(lambda text: bool(text.strip())))
def test_any_text_can_be_asked_as_it_is(text: str) -> None:
    template = parse_template(literal(text))
    assert template.fixed
    assert template.render({}) == tidy(text)
