"""What `maskloop label-config` prints is served by Maskloop and taken by Label Studio, in every combination."""

import itertools
import re
from functools import partial
from typing import Any

import numpy as np
import pytest
from command_fixture import Command
from label_studio_sdk.label_interface import LabelInterface
from labelstudio_fixture import LabelStudioServer

from maskloop_backend.labelstudio.client import LabelStudio, Project
from maskloop_backend.labelstudio.config import ConfigError, read_interface
from maskloop_backend.labelstudio.controls import MaskKind, PromptTag
from maskloop_backend.labelstudio.template import COLOURS, write_config
from maskloop_backend.masks.regions import from_regions, to_regions

LABELS = ['Tumor "a" & <b>', "Zyste, klein", "脳"]
COMBINATIONS: list[dict[str, Any]] = [
    {"mode": mode, "prompt": prompt, "uncertainty": uncertainty, "data_key": key, "image_name": name}
    for mode, prompt, uncertainty, (key, name) in itertools.product(
        ["brush", "bitmask", "polygon"], [False, True], [False, True], [("image", "image"), ("mri_2", "scan-a.b")]
    )
]


@pytest.fixture
def command(command: Command) -> Command:
    """`maskloop label-config ...`."""
    return partial(command, "label-config")


@pytest.mark.parametrize("wanted", COMBINATIONS)
def test_every_combination_is_served(command: Command, wanted: dict[str, Any]) -> None:
    words = [word for label in LABELS for word in ("--label", label)]
    words += ["--mode", wanted["mode"], "--data-key", wanted["data_key"], "--image-name", wanted["image_name"]]
    words += [f"--{name}" for name in ("prompt", "uncertainty") if wanted[name]]
    code, config, _ = command(*words)
    assert code == 0
    assert config.rstrip() == write_config(LABELS, **wanted)
    interface = read_interface(config)
    (control,) = interface.controls
    assert (control.kind, control.to_name, control.data_key) == (
        wanted["mode"],
        wanted["image_name"],
        wanted["data_key"],
    )
    assert interface.labels == tuple(LABELS)
    typed = (PromptTag("prompt", wanted["image_name"], wanted["data_key"]),)
    assert interface.prompt_tags == (typed if wanted["prompt"] else ())
    assert ("$uncertainty" in config) == wanted["uncertainty"]
    assert config.find("<TextArea") == -1 or config.find("<TextArea") > config.find("<Image")
    LabelInterface(config).validate()


def test_labels_may_stand_in_one_word_with_commas(command: Command) -> None:
    assert read_interface(command("--labels", "Tumor, Cyst")[1]).labels == ("Tumor", "Cyst")
    both = command("--labels", "Tumor,Cyst", "--label", "Duct, left")[1]
    assert read_interface(both).labels == ("Tumor", "Cyst", "Duct, left")


def test_colours_are_told_apart_and_begin_again_when_used_up() -> None:
    config = write_config([str(number) for number in range(9)])
    used = re.findall(r'background="([^"]+)"', config)
    assert used == [*COLOURS, *COLOURS[:2]]
    assert len(set(COLOURS)) == 7


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "--labels"),
        (("--labels", "a,,b"), "Label without a value"),
        (("--labels", "a,a"), "more than once"),
        (("--labels", "$a"), "look into the task"),
        (("--labels", "a", "--data-key", "my image"), "'my image'"),
        (("--labels", "a", "--data-key", "größe"), "letters a-z"),
        (("--labels", "a", "--image-name", "prompt"), "'prompt'"),
        (("--labels", "a", "--image-name", 'x"y'), "must be made of"),
    ],
)
def test_what_cannot_be_printed_is_one_line(command: Command, words: tuple[str, ...], reason: str) -> None:
    code, out, said = command(*words)
    assert (code, out, said.count("\n")) == (1, "", 1)
    assert reason in said


def test_another_mode_is_a_wrong_call(command: Command) -> None:
    code, _, said = command("--labels", "a", "--mode", "lasso")
    assert code == 2
    assert "lasso" in said


def test_a_config_that_cannot_be_served_is_never_written() -> None:
    with pytest.raises(ConfigError):
        write_config([])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["brush", "bitmask", "polygon"])
def test_label_studio_takes_what_is_printed(label_studio: LabelStudioServer, mode: MaskKind) -> None:
    """Each config; then tasks with and without an uncertainty, a prediction, an annotation; the masks come back."""
    with LabelStudio(label_studio.url, label_studio.pat) as client:
        for wanted in COMBINATIONS:
            if wanted["mode"] == mode:
                made = client.create_project("printed", write_config(LABELS, **wanted))
                assert read_interface(made.label_config) == read_interface(write_config(LABELS, **wanted))
                client.delete_project(made.id)
        made = client.create_project("printed", write_config(LABELS, mode=mode, prompt=True, uncertainty=True))
        assert_round_trip(label_studio, client, made)
        client.delete_project(made.id)


def assert_round_trip(server: LabelStudioServer, client: LabelStudio, project: Project) -> None:
    """Brush and bitmask to the pixel, polygons nearly."""
    rows, columns = np.mgrid[:80, :100]
    masks = {
        LABELS[0]: np.hypot(rows - 40, columns - 40) < 30,
        LABELS[2]: (np.hypot(rows - 40, columns - 60) < 30) & (np.hypot(rows - 40, columns - 60) > 12),
    }
    controls = read_interface(project.label_config).controls
    regions = to_regions(masks, controls=controls, region_prefix="v1", scores=dict.fromkeys(LABELS, 0.5))
    address = {"image": "https://images.test/1.png"}
    task, other = client.import_tasks(project.id, [address, {**address, "uncertainty": 0.25}])
    prediction = {"task": task, "result": regions, "score": 0.5, "model_version": "v1"}
    server.api("POST", "/api/predictions/", json=prediction).raise_for_status()
    client.create_annotation(task, regions)
    shown = server.api("GET", f"/api/tasks/{task}/").raise_for_status().json()
    for kept in (shown["predictions"][0]["result"], shown["annotations"][0]["result"]):
        back = from_regions(kept, controls=controls, width=100, height=80)
        assert not back[LABELS[1]].any()
        for label, mask in masks.items():
            overlap = (back[label] & mask).sum() / (back[label] | mask).sum()
            assert overlap == 1 if controls[0].kind != "polygon" else overlap >= 0.98
    assert server.api("GET", f"/api/tasks/{other}/").json()["data"]["uncertainty"] == 0.25
