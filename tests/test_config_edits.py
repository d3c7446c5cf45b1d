"""A label config that is edited while the loop runs, on a real Label Studio: what stays is kept, changes are said."""

from collections.abc import Iterator

import pytest
from matrix_fixture import Bench, Cell
from sqlalchemy import select

from maskloop_backend.heatmaps import HeatMaps
from maskloop_backend.labelstudio.config import ConfigError
from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.sync import work
from maskloop_backend.sync.config import follow_config
from maskloop_backend.sync.display import show_uncertainties
from maskloop_learner.pool.masks import encode_mask
from maskloop_learner.pool.queries import answers
from maskloop_learner.pool.schema import Event, Label, Prediction, Project, Score, Task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def cell(bench: Bench) -> Iterator[Cell]:
    """A project with three tasks and their predictions, none labelled, all pushed."""
    made = Cell(bench, "brush", "upload", "pat")
    made.pull()
    made.push(made.predict())
    yield made
    made.close()


def config(*labels: str, tag: str = "BrushLabels", more: str = "") -> str:
    drawn = "".join(f'<Label value="{label}"/>' for label in labels)
    return f'<View>{more}<Image name="image" value="$image"/><{tag} name="tag" toName="image">{drawn}</{tag}></View>'


def edit(cell: Cell, text: str) -> bool:
    """Edit the config as a person does in Label Studio, and let sync look."""
    cell.client.patch_project(cell.ls_id, label_config=text)
    return look(cell)


def look(cell: Cell) -> bool:
    changed = follow_config(cell.pool, cell.client, project(cell))
    work.follow_prompts(cell.pool, cell.project_id)
    return changed


def project(cell: Cell) -> Project:
    with cell.pool.read() as session:
        return session.get_one(Project, cell.project_id)


def events(cell: Cell) -> list[list[str]]:
    with cell.pool.read() as session:
        statement = select(Event).where(Event.kind == "config.changed", Event.project_id == cell.project_id)
        return [event.data["changes"] for event in session.scalars(statement.order_by(Event.id))]


def serve_again(cell: Cell) -> str:
    """Predict under the version of today (as workers would, with the masks of before) and push it."""
    version = work.follow_settings(cell.pool, cell.project_id, cell.settings)
    assert version is not None
    labels = Interface.from_json(project(cell).control).labels
    for task in cell.tasks():
        masks = {label: mask for label, mask in cell.drawn(cell.file_of(task)).items() if label in labels}
        with cell.pool.write() as session:
            row = Prediction(version_id=version, image_digest=task.image_digest, prompt_digest=task.prompt_digest)
            row.uncertainty = 0.3
            session.add(row)
            session.flush()
            for label, mask in masks.items():
                kept = session.scalars(select(Score).where(Score.label == label)).first()
                assert kept is not None
                figures = dict.fromkeys(("predictive_entropy", "expected_entropy", "mutual_information"), 0.25)
                session.add(
                    Score(
                        prediction_id=row.id,
                        label=label,
                        mask_digest=cell.pool.store.put("masks", encode_mask(mask)),
                        variance=0.1,
                        method="monte-carlo",
                        samples=30,
                        **figures,
                    )
                )
    cell.push(version)
    return version


def test_labels_that_stay_keep_their_masks(cell: Cell) -> None:
    """A label is added and another goes: the version changes, the label that stays is drawn, and it is all said."""
    first, *_ = cell.tasks()
    before = cell.shown(first)
    assert not look(cell), "nothing was edited"
    assert edit(cell, config("Tumor", "Cyst"))
    assert not look(cell), "once"
    assert events(cell) == [
        [
            "label 'Cyst' was added: it is predicted once a model has learnt it",
            "label 'Organ' was removed: its masks are kept, and no longer predicted or learnt",
        ]
    ]
    assert project(cell).prompts == {"Tumor": "a tumor", "Organ": "organ", "Cyst": "cyst"}
    version = serve_again(cell)
    assert version != before["model_version"]
    rows = cell.places.label_studio.api("GET", "/api/predictions/", params={"task": first.ls_id}).json()
    (shown,) = [row for row in rows if row["model_version"] == version]
    assert [region["value"]["brushlabels"] for region in shown["result"]] == [["Tumor"]]
    tumor = next(region for region in before["result"] if region["value"]["brushlabels"] == ["Tumor"])
    assert shown["result"][0]["value"]["rle"] == tumor["value"]["rle"]


def test_an_annotation_of_a_removed_label_keeps_what_can_be_learnt(cell: Cell) -> None:
    """Labels taken before the edit stay as they are; the new label is unknown to them."""
    first, *_ = cell.tasks()
    cell.client.create_annotation(first.ls_id, cell.shown(first)["result"])
    cell.pull()
    masks = cell.label(first)
    edit(cell, config("Tumor", "Organ", "Cyst"))
    cell.pull()
    (label,) = cell.labels(first)
    assert (label.version, label.known) == (1, ["Tumor", "Organ"])
    assert {name: mask.sum() for name, mask in cell.label(first).items()} == {n: m.sum() for n, m in masks.items()}


def test_another_tag_has_the_same_masks_drawn_with_it(cell: Cell) -> None:
    """From brush to bitmask: predictions come as another version, drawn with the new tag."""
    first, *_ = cell.tasks()
    before = cell.shown(first)["model_version"]
    assert edit(cell, config("Tumor", "Organ", tag="BitmaskLabels"))
    assert events(cell) == [["tag 'tag' is bitmask on 'image' now, before brush"]]
    version = serve_again(cell)
    assert version != before
    rows = cell.places.label_studio.api("GET", "/api/predictions/", params={"task": first.ls_id}).json()
    (shown,) = [row for row in rows if row["model_version"] == version]
    assert {region["type"] for region in shown["result"]} == {"bitmasklabels"}


def test_a_config_that_cannot_be_served_leaves_the_former(cell: Cell) -> None:
    """The reason names what to change; the project goes on with what it had."""
    kept = project(cell).control
    with pytest.raises(ConfigError, match="RectangleLabels"):
        edit(cell, config("Tumor", tag="RectangleLabels"))
    assert project(cell).control == kept
    assert events(cell) == []


def test_colours_and_other_tags_are_no_change(cell: Cell) -> None:
    text = config("Tumor", "Organ", more='<Header value="Draw"/>').replace("/></Brush", ' background="red"/></Brush')
    assert not edit(cell, text)
    assert project(cell).label_config.startswith("<View><Header")
    assert events(cell) == []


def no_maps() -> HeatMaps:
    """No config here asks for heat maps."""
    raise RuntimeError("nobody asked for a heat map")


def test_the_uncertainty_is_shown_where_the_config_asks_for_it(cell: Cell) -> None:
    """The field `uncertainty` of each task is filled in; other fields stay, also those edited a moment ago."""
    version = project(cell).served_version
    assert version is not None
    assert not show_uncertainties(cell.pool, cell.client, project(cell), version, maps=no_maps, beat=lambda: None)
    ids = [task.ls_id for task in cell.tasks()]
    assert all("uncertainty" not in data for data in cell.client.task_data(cell.ls_id, ids).values())
    edit(cell, config("Tumor", "Organ", more='<Header value="$uncertainty"/>'))
    there = cell.client.task_data(cell.ls_id, ids[:1])[ids[0]]
    cell.client.set_task_data(ids[0], {**there, "note": "edited a moment ago"})
    assert not show_uncertainties(cell.pool, cell.client, project(cell), version, maps=no_maps, beat=lambda: None)
    shown = cell.client.task_data(cell.ls_id, ids)
    with cell.pool.read() as session:
        rows = session.execute(
            select(Task.ls_id, Prediction.uncertainty)
            .join(Prediction, answers(Prediction, version))
            .where(Prediction.uncertainty.is_not(None))
        )
        wanted = {ls_id: value for ls_id, value in rows if ls_id in ids}
    assert {ls_id: data["uncertainty"] for ls_id, data in shown.items()} == pytest.approx(wanted, abs=1e-4)
    assert shown[ids[0]]["note"] == "edited a moment ago"
    cell.pull()
    assert {task.ls_id for task in cell.tasks() if task.state == "ready"} == set(ids), "no image is fetched anew"
    with cell.pool.read() as session:
        assert session.scalars(select(Label).where(Label.task_id.in_([task.id for task in cell.tasks()]))).all() == []
