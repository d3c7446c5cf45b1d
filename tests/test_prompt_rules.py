"""Which words ask for a label: annotator, sheet, template, name; and what is validated with instead of a location."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskloop_learner.pool.prompting import add_labels
from maskloop_learner.prompts.length import check_length
from maskloop_learner.prompts.rules import (
    Prompt,
    default_prompts,
    lesser_prompts,
    render_negative,
    resolve_prompts,
    validation_prompt,
)
from maskloop_learner.prompts.template import TemplateError, digest
from maskloop_learner.prompts.typed import split_typed

ROOT = Path(__file__).parents[1]
PLAIN = "tumor in a breast ultrasound"
RICH = "[{size} ]{finding}[ at the {location}] in a breast ultrasound"


def ask(template: str | None, label: str = "Tumor", **how: object) -> Prompt:
    templates = {} if template is None else {label: template}
    return resolve_prompts(labels=[label], templates=templates, **{"data": {}, **how})[label]  # type: ignore[arg-type]


def test_the_order_of_sources() -> None:
    """Annotator before sheet before template before name; blank words are none."""
    for template, typed, sheet, text, source in (
        (PLAIN, "a dark mass", "a sheet's mass", "a dark mass", "annotator"),
        (PLAIN, " ", "a sheet's  mass\n", "a sheet's mass", "sheet"),
        (PLAIN, None, None, PLAIN, "template"),
        ("tumor", None, None, "tumor", "default"),
        (None, None, "", "tumor", "default"),
    ):
        found = ask(template, typed=typed, sheet={"Tumor": sheet} if sheet is not None else None)
        assert (found.text, found.source) == (text, source)
        assert found.template == (f"template@{digest(PLAIN)}" if source == "template" else None)
        assert not found.located


def test_labels_may_have_brackets_in_their_names() -> None:
    """A project that nobody gave a template asks by the label's name, whatever that is."""
    for label in ("Mass [benign]", "T{1}", "[", "a]]b", "}{"):
        templates = add_labels({}, [label])
        found = resolve_prompts(labels=[label], templates=templates, data={"1": "x"})[label]
        assert (found.text, found.source) == (label.lower(), "default")
        assert lesser_prompts(label, templates) == ()


def test_slots_come_from_the_tasks_data() -> None:
    data = {"size": "small", "origin": {"file": "a.png"}, "nested.key": 3, "finding": None}
    assert ask("{size} {label}, {finding}", data=data).text == "small tumor, tumor"
    assert ask("{finding} of {origin.file}", data=data).text == "tumor of a.png"
    assert ask("{finding} {nested.key}", data=data).text == "tumor 3"
    assert ask("{finding}, {label}", data={"finding": "cyst", "label": "ignored"}).text == "cyst, tumor"


def test_a_missing_slot_falls_back_to_the_name_and_says_so() -> None:
    found = ask("{finding} in the {organ}", data={"organ": ""})
    assert (found.text, found.source, found.reason) == (
        "tumor",
        "default",
        "the slot 'organ' of the template is empty here",
    )
    assert "every part" in ask("[{organ}]").reason
    assert ask("{finding} in the {organ}", data={"organ": "breast"}).reason == ""
    with pytest.raises(TemplateError, match="never closed"):
        ask("{finding} [{a}")


def test_a_tasks_own_prompt_counts_only_where_the_template_asks_for_it() -> None:
    """`{prompt}` switches it on: of this label first, then of all."""
    data = {"prompt": "a mass", "prompt:Tumor": "a dark mass", "prompts": {"Tumor": "a mass here", "Cyst": "a cyst"}}
    assert ask(PLAIN, data=data).source == "template"
    found = ask("{prompt}", data=data)
    assert (found.text, found.source) == ("a dark mass", "field")
    templates = {"*": "{prompt|{label}}".replace("{label}", "anything"), "Node": "node[, {prompt}]"}
    found_all = resolve_prompts(labels=["Cyst", "Node", "Cell"], templates=templates, data=data)
    assert [found_all[x].text for x in ("Cyst", "Node", "Cell")] == ["a cyst", "node, a mass", "a mass"]
    assert ask("{prompt}", data={}).source == "default"
    other = ask("{prompt|tumor in an image}", data={})
    assert (other.text, other.source) == ("tumor in an image", "template")


def test_a_template_of_all_labels() -> None:
    templates = {"*": "{label} in a {modality|CT}", "Liver": "the liver", "Spleen": "", "!*": "no {label}"}
    assert default_prompts(["Liver", "Spleen", "Kidney"], templates) == {
        "Liver": "the liver",
        "Spleen": "spleen in a CT",
        "Kidney": "kidney in a CT",
    }


def test_a_location_is_flagged_and_never_validated_with() -> None:
    """Typed or from a sheet: the template validates. From a field: the template without it."""
    for found in (
        ask(PLAIN, typed="tumor at the top left"),
        ask(PLAIN, sheet={"Tumor": "One small tumor at the center"}),
    ):
        assert found.located
        assert validation_prompt(found) == PLAIN
        assert found.plain == PLAIN
    found = ask(RICH, data={"size": "small", "location": "top"})
    assert (found.text, found.located) == ("small tumor at the top in a breast ultrasound", True)
    assert validation_prompt(found) == "small tumor in a breast ultrasound"
    # A word that is known to be a place by its slot alone.
    found = ask(RICH, data={"location": "segment IV"})
    assert (found.located, validation_prompt(found)) == (True, PLAIN)
    found = ask("{finding} in a breast ultrasound", data={"finding": "left sided mass"})
    assert (found.located, validation_prompt(found)) == (True, PLAIN)
    found = ask("{site} tumor", data={"site": "upper left"})
    assert (found.located, validation_prompt(found)) == (True, "tumor")
    free = ask(PLAIN, typed="a dark mass")
    assert (free.located, validation_prompt(free)) == (False, "a dark mass")
    assert (free.text, free.source, free.plain) == ("a dark mass", "annotator", "a dark mass")
    own = ask("{finding} in an X-ray", label="Left lung")
    assert (own.text, own.located) == ("left lung in an X-ray", False)


@given(
    st.dictionaries(st.sampled_from(["size", "location", "organ"]), st.sampled_from(["", "top", "small", "left lobe"]))
)
def test_what_validates_tells_no_location(data: dict[str, str]) -> None:
    found = ask("[{size} ]{finding}[ in the {organ}][, {location}]", data=dict(data))
    assert not any(word in validation_prompt(found) for word in ("top", "left"))
    assert found.located == (bool(data.get("location")) or any(word in ("top", "left lobe") for word in data.values()))


def test_negative_forms() -> None:
    templates = {"!Tumor": "no {finding} in the {modality|ultrasound} image", "!*": "no {label}"}
    assert render_negative("Tumor", templates) == "no tumor in the ultrasound image"
    assert render_negative("Tumor", templates, {"modality": "MR"}) == "no tumor in the MR image"
    assert render_negative("Cyst", templates) == "no cyst"
    assert render_negative("Cyst", {"Cyst": "cyst"}) is None
    assert render_negative("Cyst", {"!Cyst": "no cyst in the {organ}"}) is None


def test_forms_that_say_less() -> None:
    """For dropout: none for a fixed text, and none that tells a location."""
    assert lesser_prompts("Tumor", {"Tumor": PLAIN}) == ()
    assert lesser_prompts("Tumor", {}) == ()
    assert lesser_prompts("Tumor", {"Tumor": PLAIN}, own=PLAIN) == ()
    assert lesser_prompts("Tumor", {"Tumor": PLAIN}, own="a tumor at the top") == (PLAIN, "tumor")
    assert lesser_prompts("Tumor", {"Tumor": RICH}) == ("tumor",)
    assert lesser_prompts("Tumor", {"Tumor": RICH}, own="small tumor in a breast ultrasound") == (PLAIN, "tumor")
    rich = {"Tumor": "{finding}[, {size|small}] in a scan"}
    assert lesser_prompts("Tumor", rich, own="x") == ("tumor, small in a scan", "tumor in a scan", "tumor")
    assert lesser_prompts("Tumor", {"Tumor": "{finding} of the {organ}"}, own="tumor of the liver") == ("tumor",)
    assert lesser_prompts("Tumor", {"Tumor": "tumor at the top"}, own="x") == ("tumor",)


@pytest.mark.parametrize(
    ("typed", "labels", "wanted"),
    [
        (None, ["A"], {}),
        ("", ["Tumor"], {}),
        (" a  mass\n", ["Tumor"], {"Tumor": "a mass"}),
        ({"Tumor": "a mass", "Other": "x", "Cyst": " "}, ["Tumor", "Cyst"], {"Tumor": "a mass"}),
        ("two dark tumors", ["Tumor", "Cyst"], {"Tumor": "two dark tumors"}),
        ("dark, round", ["Tumor", "Cyst"], {"Tumor": "tumor, dark, round", "Cyst": "cyst, dark, round"}),
        ("Cyst: a round one\ntumor: ", ["Tumor", "Cyst"], {"Cyst": "a round one", "Tumor": "tumor:"}),
        ("cyst: round\ndark tumor", ["Tumor", "Cyst", "Node"], {"Cyst": "round", "Tumor": "dark tumor"}),
        ("note: a mass", ["Tumor"], {"Tumor": "note: a mass"}),
        ("white matter lesion", ["White_matter", "Grey_matter"], {"White_matter": "white matter lesion"}),
    ],
)
def test_what_is_typed_is_shared_out(
    typed: dict[str, str] | str | None, labels: list[str], wanted: dict[str, str]
) -> None:
    """The model tells labels apart by their prompts, so no two get the same text."""
    assert split_typed(typed, labels) == wanted


def test_a_prompt_longer_than_the_context_is_told() -> None:
    """With the words that are read."""
    count = lambda text: len(text.split()) + 2  # noqa: E731
    assert check_length("a b c", context=5, tokens_of=count) is None
    warning = check_length("a b c d e", context=5, tokens_of=count)
    assert warning is not None
    assert "has 7 tokens, the model reads 5: it sees 'a b c'" in warning


def test_prompts_need_no_torch_database_or_web() -> None:
    """They are rendered in the web process, too."""
    names = ["template", "location", "rules", "typed", "length", "matching"]
    code = f"import sys, {', '.join(f'maskloop_learner.prompts.{name}' for name in names)}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "learner", capture_output=True, text=True, check=True
    )
    assert not {"torch", "sqlalchemy", "fastapi", "redis", "rq", "httpx"} & set(loaded.stdout.split())
