"""Labels are compared with what their annotators were shown: which prediction that was, and how far it was changed."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pool_fixture import add_model, add_project, add_task
from sqlalchemy import select, update
from web_fixture import add_version

from maskloop_backend.labelstudio.controls import Control, Interface
from maskloop_backend.results import UNTRAINED
from maskloop_backend.sync import comparing
from maskloop_backend.sync.comparing import as_shown, compare_labels
from maskloop_learner.pool.events import record
from maskloop_learner.pool.masks import Mask, encode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Label, Prediction, Project, Push, Score, Task, utcnow
from maskloop_learner.pool.store import BlobError

LABELS = ("Tumor", "Cyst")
V1, V2 = "maskloop-111111111111", "maskloop-222222222222"
ENTROPIES = ("predictive_entropy", "expected_entropy", "mutual_information", "variance")


def box(rows: int, *, height: int = 16, width: int = 24) -> Mask:
    """The first rows of a small image."""
    mask = np.zeros((height, width), bool)
    mask[:rows, :10] = True
    return mask


class Site:
    """A project with one image, versions of a model, predictions and labels as they come."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.project = add_project(pool, labels=LABELS)
        self.task = add_task(pool, self.project, 1)
        for version in (V1, V2):
            add_version(pool, self.project, add_model(pool, self.project, version.encode()), version)

    def predict(self, version: str, masks: dict[str, Mask], *, minute: int = 0, prompts: str = "") -> None:
        """A prediction of the image, made so many minutes after noon."""
        with self.pool.write() as session:
            task = session.get_one(Task, self.task)
            row = Prediction(version_id=version, image_digest=task.image_digest, uncertainty=0.2, prompt_digest=prompts)
            row.created_at = self.at(minute)
            session.add(row)
            session.flush()
            for name, mask in masks.items():
                digest = self.pool.store.put("masks", encode_mask(mask))
                figures = dict.fromkeys(ENTROPIES, 0.1)
                session.add(
                    Score(prediction_id=row.id, label=name, mask_digest=digest, method="m", samples=1, **figures)
                )

    def push(self, number: int, version: str, *, minute: int = 0, task: int | None = None) -> None:
        """What Label Studio holds of it."""
        with self.pool.write() as session:
            key: dict[str, Any] = {"ls_prediction_id": number, "project_id": self.project, "version_id": version}
            session.add(Push(**key, task_id=task or self.task, created_at=self.at(minute)))

    def serve(self, version: str) -> None:
        """Label Studio is switched to a version, now."""
        with self.pool.write() as session:
            record(session, "version.served", project_id=self.project, subject=version)

    def label(self, masks: dict[str, Mask], *, parent: int | None = None, minute: int = 30, **more: Any) -> int:
        """An annotation that was submitted so many minutes after noon."""
        digests = {name: self.pool.store.put("masks", encode_mask(mask)) for name, mask in masks.items()}
        with self.pool.write() as session:
            given: dict[str, Any] = {"task_id": self.task, "ls_annotation_id": 50, "ls_updated_at": self.at(minute)}
            row = Label(**given | {"masks": digests, "known": list(LABELS), "parent_prediction": parent} | more)
            session.add(row)
            session.flush()
            return row.id

    def at(self, minute: int) -> datetime:
        """A moment in the last hour."""
        return utcnow() - timedelta(minutes=60 - minute)

    def compare(self) -> Label:
        """The last label after it was compared."""
        assert not compare_labels(self.pool, self.project, beat=lambda: None)
        with self.pool.read() as session:
            return session.scalars(select(Label).order_by(Label.id.desc()).limit(1)).one()


@pytest.fixture
def site(pool: Pool) -> Site:
    """One image, two versions, nothing predicted."""
    return Site(pool)


def test_a_mask_that_was_left_is_unedited(site: Site) -> None:
    """A label that the model found empty, and nobody drew, is one of them."""
    site.predict(V1, {"Tumor": box(4), "Cyst": box(0)})
    site.push(9, V1)
    site.label({"Tumor": box(4)}, parent=9)
    found = site.compare()
    assert (found.shown, found.shown_version, found.unedited) == ("model", V1, True)
    assert found.agreement == {"Cyst": 1.0, "Tumor": 1.0}


def test_a_mask_that_was_changed_has_its_dice(site: Site) -> None:
    site.predict(V1, {"Tumor": box(4), "Cyst": box(0)})
    site.push(9, V1)
    site.label({"Tumor": box(2), "Cyst": box(1)}, parent=9)
    found = site.compare()
    assert found.unedited is False
    assert found.agreement == {"Cyst": 0.0, "Tumor": pytest.approx(2 * 20 / 60)}


def test_it_is_the_version_that_was_shown_whatever_is_served_by_now(site: Site) -> None:
    site.predict(V1, {"Tumor": box(4)})
    site.predict(V2, {"Tumor": box(8)})
    site.push(9, V1)
    site.push(10, V2)
    with site.pool.write() as session:
        session.get_one(Project, site.project).served_version = V2
        session.execute(update(Push).where(Push.ls_prediction_id == 9).values(gone_at=utcnow()))
    site.label({"Tumor": box(4)}, parent=9)
    assert (site.compare().shown_version, site.compare().unedited) == (V1, True)


def test_what_was_asked_later_was_not_shown(site: Site) -> None:
    """Typed words make another prediction of the same version; the mask that was found drawn is the one before."""
    site.predict(V1, {"Tumor": box(4)}, minute=0)
    site.push(9, V1, minute=1)
    site.predict(V1, {"Tumor": box(8)}, minute=20, prompts="0123456789abcdef")
    with site.pool.write() as session:
        session.get_one(Task, site.task).prompt_digest = "0123456789abcdef"
    site.label({"Tumor": box(4)}, parent=9)
    assert site.compare().unedited is True
    site.push(11, V1, minute=25)
    site.label({"Tumor": box(8)}, parent=11, ls_annotation_id=51)
    assert site.compare().unedited is True, "pushed anew with these words, it was"


def test_a_blind_label_is_compared_with_what_would_have_been_shown(site: Site) -> None:
    """By what was served then, where Label Studio names no parent."""
    site.predict(V1, {"Tumor": box(4)})
    site.serve(V1)
    with site.pool.write() as session:
        session.get_one(Task, site.task).blind = True
    later = utcnow() + timedelta(seconds=5)
    site.label({"Tumor": box(2)}, ls_updated_at=later)
    found = site.compare()
    assert (found.shown, found.shown_version, found.unedited) == ("blind", V1, False)
    assert found.agreement == {"Tumor": pytest.approx(2 * 20 / 60)}


def test_without_a_model_nothing_was_shown(site: Site) -> None:
    """Neither before the first version was served, nor with an empty reply, nor where one began anew."""
    site.label({"Tumor": box(2)})
    assert (site.compare().shown, site.compare().agreement) == ("nothing", {})
    site.push(12, UNTRAINED)
    site.label({"Tumor": box(2)}, parent=12, ls_annotation_id=51)
    assert site.compare().shown == "nothing"
    site.predict(V1, {"Tumor": box(2)})
    site.serve(V1)
    site.label({"Tumor": box(2)}, ls_annotation_id=52, ls_updated_at=utcnow() + timedelta(seconds=5))
    assert site.compare().shown == "nothing"


def test_a_prediction_that_is_not_noted_yet_is_waited_for(site: Site) -> None:
    """Until Label Studio was compared in full; then it cannot be told any more."""
    site.serve(V1)
    site.label({"Tumor": box(2)}, parent=77, ls_updated_at=utcnow() + timedelta(seconds=5))
    assert site.compare().shown is None
    with site.pool.write() as session:
        session.get_one(Project, site.project).checked_at = utcnow()
    assert site.compare().shown == "unknown"


def test_a_number_that_label_studio_gave_again_is_not_mistaken(site: Site) -> None:
    """The prediction of another task is none of this one's."""
    other = add_task(site.pool, site.project, 2)
    site.predict(V1, {"Tumor": box(4)})
    site.push(9, V1, task=other)
    site.serve(V1)
    with site.pool.write() as session:
        session.get_one(Project, site.project).checked_at = utcnow() + timedelta(minutes=1)
    site.label({"Tumor": box(4)}, parent=9, ls_updated_at=utcnow() + timedelta(seconds=5))
    assert site.compare().shown == "unknown"


def test_what_cannot_be_compared_is_no_edit(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost mask, and a label of an image of another size: it was shown, and nothing more is said."""
    site.predict(V1, {"Tumor": box(4)})
    site.push(9, V1)
    site.label({"Tumor": box(4, height=8)}, parent=9)
    found = site.compare()
    assert (found.shown, found.unedited, found.agreement) == ("model", None, {})

    def lose(data: bytes) -> Mask:
        raise BlobError("masks/0 is missing")

    monkeypatch.setattr(comparing, "decode_mask", lose)
    site.label({"Tumor": box(4)}, parent=9, ls_annotation_id=51)
    assert (site.compare().shown, site.compare().unedited) == ("model", None)


def test_only_labels_that_count_are_compared_and_each_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older ones too, more than fit into one transaction; skipped, deleted, broken and superseded ones never."""
    site.predict(V1, {"Tumor": box(4)})
    site.push(9, V1)
    wanted = [site.label({"Tumor": box(4)}, parent=9, ls_annotation_id=100 + n) for n in range(comparing.AT_ONCE + 3)]
    others: tuple[dict[str, Any], ...] = ({"cancelled": True}, {"deleted": True}, {"error": "x"}, {"current": False})
    for n, more in enumerate(others):
        site.label({}, parent=9, ls_annotation_id=500 + n, **more)
    site.compare()
    with site.pool.read() as session:
        done = list(session.scalars(select(Label.id).where(Label.shown.is_not(None))))
    assert sorted(done) == wanted
    monkeypatch.setattr(comparing, "decode_mask", lambda *_: pytest.fail("it was compared again"))
    site.compare()


def test_it_stops_when_others_have_their_turn(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "SECONDS_AT_ONCE", -1.0)
    site.label({"Tumor": box(4)})
    assert compare_labels(site.pool, site.project, beat=lambda: None), "more is to do"


def test_polygons_are_shown_with_a_simpler_outline() -> None:
    """A mask that went out as a polygon comes back as that polygon, and counts as untouched."""
    rows, columns = np.mgrid[:120, :160]
    mask = np.hypot(rows - 60, (columns - 80) / 1.7) < 31.3
    mask[58:62, 20:40] = True
    brush, polygon = (Interface((Control(kind, "tag", "image", "image", ("Tumor",)),)) for kind in ("brush", "polygon"))
    assert (as_shown({"Tumor": mask}, brush)["Tumor"] == mask).all()
    once = as_shown({"Tumor": mask}, polygon)["Tumor"]
    assert 0 < (once != mask).sum() < 0.02 * mask.sum()
