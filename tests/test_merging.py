"""Several annotators' masks of one image: the rules, who has a say, and what a snapshot makes of them."""

import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pool_fixture import add_project, add_task
from pydantic import ValidationError
from sqlalchemy import select

from maskloop_learner.pool import merging
from maskloop_learner.pool.masks import Mask, decode_mask, encode_mask
from maskloop_learner.pool.merging import MergeError, merge_masks
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Label, Round, Snapshot
from maskloop_learner.pool.snapshot import Item, Manifest, freeze_snapshot, load_manifest
from maskloop_learner.settings import Settings
from maskloop_queue.triggers import new_labels, start_due_round

SHAPE = (16, 24)
HAS_STAPLE = pytest.mark.skipif(not merging.staple_is_there(), reason="SimpleITK is not installed")


def box(left: int, right: int) -> Mask:
    """Columns left..right-1 of the middle rows."""
    mask = np.zeros(SHAPE, bool)
    mask[4:12, left:right] = True
    return mask


def annotate(
    pool: Pool,
    task: int,
    author: str | None,
    masks: dict[str, Mask],
    *,
    minute: int = 0,
    number: int = 0,
    known: list[str] | None = None,
) -> int:
    """A submitted annotation; returns the label's id."""
    kept = {name: pool.store.put("masks", encode_mask(mask)) for name, mask in masks.items() if mask.any()}
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    with pool.write() as session:
        row = Label(task_id=task, ls_annotation_id=number or minute, author=author, masks=kept, known=known)
        row.ls_updated_at = moment
        session.add(row)
        session.flush()
        return row.id


def freeze(pool: Pool, project: int, merge: str) -> Manifest:
    snapshot = freeze_snapshot(pool, project, share=0.2, merge=merge)  # type: ignore[arg-type]
    with pool.read() as session:
        return load_manifest(pool, session.get_one(Snapshot, snapshot))


def only_item(pool: Pool, project: int, merge: str) -> Item:
    [item] = freeze(pool, project, merge)["items"]
    return item


def mask_of(pool: Pool, item: Item, label: str = "Tumor") -> Mask:
    return decode_mask(pool.store.get("masks", item["masks"][label]))


def test_majority_is_what_most_have_drawn() -> None:
    masks = [box(2, 8), box(4, 10), box(6, 12)]
    np.testing.assert_array_equal(merge_masks(masks, "majority"), box(4, 10))
    np.testing.assert_array_equal(merge_masks([*masks, np.zeros(SHAPE, bool)], "majority"), box(6, 8))


def test_the_newest_word_counts_where_just_half_have_drawn() -> None:
    np.testing.assert_array_equal(merge_masks([box(2, 8), box(4, 10)], "majority"), box(4, 10))
    np.testing.assert_array_equal(merge_masks([box(4, 10), box(2, 8)], "majority"), box(2, 8))
    np.testing.assert_array_equal(merge_masks([box(4, 10), box(2, 8)], "latest"), box(2, 8))


@HAS_STAPLE
def test_staple_trusts_who_agrees_with_others() -> None:
    """Two who agree outweigh a third who drew elsewhere; all alike, and all empty, stay as they are."""
    agreed = box(4, 10)
    merged = merge_masks([agreed, agreed.copy(), box(16, 22)], "staple")
    np.testing.assert_array_equal(merged, agreed)
    np.testing.assert_array_equal(merge_masks([agreed] * 3, "staple"), agreed)
    empty = np.zeros(SHAPE, bool)
    assert not merge_masks([empty] * 3, "staple").any()
    np.testing.assert_array_equal(merge_masks([empty, agreed], "staple"), agreed)
    assert not merge_masks([agreed, empty], "staple").any(), "of two the newest word counts"
    full = merge_masks([~empty, ~empty, empty], "staple")
    assert full.dtype == np.bool_
    assert full.shape == SHAPE


@HAS_STAPLE
def test_staple_repeats_to_the_pixel() -> None:
    rng = np.random.default_rng(1)
    masks = [box(4, 12) ^ (rng.random(SHAPE) < 0.05) for _ in range(4)]
    np.testing.assert_array_equal(merge_masks(masks, "staple"), merge_masks(masks, "staple"))


def test_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(MergeError, match=r"\(16, 24\), \(2, 2\)"):
        merge_masks([box(1, 2), np.zeros((2, 2), bool)], "majority")
    with pytest.raises(MergeError, match="at least one"):
        merge_masks([], "latest")


def test_staple_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a worker merges, and before that when the settings are read."""
    monkeypatch.setitem(sys.modules, "SimpleITK", None)  # what Python itself keeps of a module that is not there
    with pytest.raises(MergeError, match=r"pip install 'maskloop\[staple\]'"):
        merge_masks([box(1, 4), box(2, 5), box(3, 6)], "staple")
    with pytest.raises(ValidationError, match=r"merge_rule(.|\n)*pip install 'maskloop\[staple\]'"):
        Settings(merge_rule="staple")


@pytest.mark.parametrize("merge", ["latest", "majority"])
def test_a_snapshot_merges_by_its_rule(pool: Pool, merge: str) -> None:
    project = add_project(pool)
    task = add_task(pool, project, 1)
    drawn = {"ann": box(2, 8), "ben": box(4, 10), "cy": box(6, 12)}
    ids = [annotate(pool, task, name, {"Tumor": mask}, minute=n) for n, (name, mask) in enumerate(drawn.items(), 1)]
    item = only_item(pool, project, merge)
    wanted = {"latest": drawn["cy"], "majority": box(4, 10)}[merge]
    np.testing.assert_array_equal(mask_of(pool, item), wanted)
    voices = {"latest": ids[-1:], "majority": ids}[merge]
    assert [voice["label"] for voice in item["annotations"]] == voices
    assert item["label_id"] == ids[-1]
    with pool.read() as session:
        assert session.scalars(select(Snapshot.label_ids)).one() == voices


def test_of_one_annotator_the_newest_counts(pool: Pool) -> None:
    """Two annotations of ann are one voice; annotations of unknown people are a voice each."""
    project = add_project(pool)
    task = add_task(pool, project, 1)
    annotate(pool, task, "ann", {"Tumor": box(0, 20)}, minute=1)
    annotate(pool, task, "ben", {"Tumor": box(4, 10)}, minute=2)
    annotate(pool, task, "ann", {"Tumor": box(4, 12)}, minute=3)
    np.testing.assert_array_equal(mask_of(pool, only_item(pool, project, "majority")), box(4, 12))
    annotate(pool, task, None, {"Tumor": box(8, 10)}, minute=4)
    annotate(pool, task, None, {"Tumor": box(8, 10)}, minute=5)
    item = only_item(pool, project, "majority")
    assert [voice["author"] for voice in item["annotations"]] == ["ben", "ann", None, None]
    np.testing.assert_array_equal(mask_of(pool, item), box(8, 10))


def test_who_could_not_draw_a_label_has_no_say_about_it(pool: Pool) -> None:
    """Ann and ben never saw Cyst in the label config; of Tumor, ben's silence says that there is none."""
    project = add_project(pool, labels=("Tumor", "Cyst"))
    task = add_task(pool, project, 1)
    annotate(pool, task, "ann", {}, minute=1, known=["Tumor"])
    annotate(pool, task, "ben", {}, minute=2, known=["Tumor"])
    annotate(pool, task, "cy", {"Tumor": box(2, 8), "Cyst": box(12, 16)}, minute=3, known=["Tumor", "Cyst"])
    item = only_item(pool, project, "majority")
    assert set(item["masks"]) == {"Cyst"}
    np.testing.assert_array_equal(mask_of(pool, item, "Cyst"), box(12, 16))
    assert "known" not in item, "both labels were looked for by somebody"


def test_empty_annotations_are_negatives_and_skipped_ones_are_none(pool: Pool) -> None:
    project = add_project(pool)
    first, second = add_task(pool, project, 1), add_task(pool, project, 2)
    annotate(pool, first, "ann", {}, minute=1)
    skipped = annotate(pool, first, "ben", {"Tumor": box(2, 8)}, minute=2)
    skipped_alone = annotate(pool, second, "ann", {"Tumor": box(2, 8)}, minute=1)
    with pool.write() as session:
        for label in (skipped, skipped_alone):
            session.get_one(Label, label).cancelled = True
    item = only_item(pool, project, "majority")
    assert (item["ls_task"], item["masks"]) == (1, {})
    assert "known" not in item


def test_merging_again_reads_no_mask(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the last snapshot merged of the same annotations by the same rule is taken over; else it is merged anew."""
    project = add_project(pool)
    task = add_task(pool, project, 1)
    annotate(pool, task, "ann", {"Tumor": box(2, 8)}, minute=1)
    annotate(pool, task, "ben", {"Tumor": box(4, 10)}, minute=2)
    first = freeze(pool, project, "majority")
    reads: list[str] = []

    def read(data: bytes, *, name: str) -> Mask:
        reads.append(name)
        return decode_mask(data, name=name)

    monkeypatch.setattr(merging, "decode_mask", read)
    assert freeze(pool, project, "majority") == first
    assert reads == []
    annotate(pool, task, "cy", {"Tumor": box(6, 12)}, minute=3)
    np.testing.assert_array_equal(mask_of(pool, freeze(pool, project, "majority")["items"][0]), box(4, 10))
    assert len(reads) == 3


def test_merged_labels_start_one_training_and_no_more(pool: Pool, settings: Settings) -> None:
    """Each annotator's label counts as new once; an edit of any of them counts again."""
    settings.merge_rule, settings.trigger_labels = "majority", 4
    project = add_project(pool)
    tasks = [add_task(pool, project, number) for number in (1, 2)]
    for number, task in enumerate(tasks):
        for place, name in enumerate(("ann", "ben")):
            annotate(pool, task, name, {"Tumor": box(2, 8)}, minute=number, number=10 + 10 * number + place)
    labels = annotations(pool)
    assert len(labels) == 4
    opened = start_due_round(pool, project, settings)
    assert opened is not None
    with pool.write() as session:
        session.get_one(Round, opened).state = "rejected"
    assert start_due_round(pool, project, settings) is None
    with pool.write() as session:
        assert new_labels(session, project, "majority") == 0
        session.get_one(Label, labels[0]).current = False
    annotate(pool, tasks[0], "ann", {"Tumor": box(3, 8)}, minute=-5)
    with pool.read() as session:
        assert new_labels(session, project, "majority") == 1, "an older annotator's edit is seen"
        assert new_labels(session, project, "latest") == 0


def annotations(pool: Pool) -> list[int]:
    with pool.read() as session:
        return list(session.scalars(select(Label.id).order_by(Label.id)))
