"""A snapshot before it is frozen: what would be learnt from and validated on, worked out without writing a row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from maskloop_learner.pool.batches import list_batches
from maskloop_learner.pool.belonging import Belonging, find_groups
from maskloop_learner.pool.concerns import find_warnings
from maskloop_learner.pool.groups import name_of, source_of
from maskloop_learner.pool.looks import Look
from maskloop_learner.pool.manifest import (
    Duplicate,
    Groups,
    Item,
    Manifest,
    MergeRule,
    NearDuplicates,
    NoLabels,
    Voice,
    newest_manifest,
)
from maskloop_learner.pool.merging import merge_known, merge_labels
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Label, Project
from maskloop_learner.pool.split import Past, split_groups
from maskloop_learner.pool.voices import Labelled, choose_voices, knows, labels_by_image


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How labels become a snapshot."""

    share: float
    """Of the labelled images, 0..1, that should validate."""
    merge: MergeRule = "latest"
    near_duplicates: NearDuplicates = "join"


@dataclass(frozen=True)
class Drafted:
    """A project's labels as they were read in one transaction."""

    project: Project
    labels: dict[str, list[Labelled]]
    before: Manifest
    """The last snapshot; before the first, an empty one."""
    batches: Mapping[int, tuple[int, str]] = field(default_factory=dict)
    """Id of a batch -> its number and strategy."""


def read_labels(pool: Pool, project_id: int) -> Drafted:
    """The labels of today and the last snapshot. Raises NoLabels when there is nothing to learn from."""
    with pool.read() as session:
        project = session.get_one(Project, project_id)
        labels = labels_by_image(session, project_id)
        before = newest_manifest(pool, session, project_id) or _nothing(project_id)
        batches = {batch.id: (batch.number, batch.strategy) for batch in list_batches(session, project_id)}
    if not labels:
        raise NoLabels(f"project {project.title or project.ls_id!r} has no label to learn from; submit some first")
    return Drafted(project, labels, before, batches)


def draft_manifest(
    pool: Pool, read: Drafted, looks: Mapping[str, Look], rules: Rules, *, keep: Callable[[bytes], str]
) -> Manifest:
    """The manifest of today's labels; the same labels, and the same snapshot before them, give the same one.

    looks: of all images, see `look_at_images`. keep: takes the bytes of merged masks and returns their digest.
    """
    project, before = read.project, read.before
    belonging = find_groups(project, read.labels, looks, rules.near_duplicates)
    past = _past(project, belonging, before)
    blind = {belonging.group[image] for image, rows in read.labels.items() if rows[-1].task.blind}
    split = split_groups(belonging.groups, past, share=rules.share, blind=blind)
    side = {
        image: "validation" if name in split.validation else "train"
        for name, images in belonging.groups.items()
        for image in images
    }
    chosen = {image: choose_voices(rows, rules.merge) for image, rows in sorted(read.labels.items())}
    learnt = [rows for image, rows in chosen.items() if side[image] == "train"] or list(chosen.values())
    names = [n for n in project.control["labels"] if any(knows(row.label, n) for rows in learnt for row in rows)]
    manifest = Manifest(
        project=project.id,
        labels=names,
        prompts=dict(project.prompts),
        validation=sorted({*before["validation"], *(i for i in side if side[i] == "validation")}),
        learnt=sorted(past.learnt.union(image for image in side if side[image] == "train")),
        groups=_groups(project, belonging, side, before),
        merge=rules.merge,
        items=[],
    )
    merged = _merged_before(before, rules.merge)
    for image, rows in chosen.items():
        item = _describe(project, image, rows, names, read.batches)
        item["split"], item["group"] = side[image], belonging.group[image]
        item["masks"] = _reuse(pool, merged, item) or merge_labels(rows, rules.merge, store=pool.store, keep=keep)
        manifest["items"].append(item)
    manifest["duplicates"] = [_duplicate(pair, chosen, side) for pair in belonging.duplicates]
    learnt_before = _learnt(before).difference(before["validation"])
    manifest["warnings"] = find_warnings(manifest, belonging, learnt_before=learnt_before)
    return manifest


def _nothing(project_id: int) -> Manifest:
    return Manifest(project=project_id, labels=[], prompts={}, validation=[], items=[])


def _describe(
    project: Project,
    image: str,
    rows: Sequence[Labelled],
    names: Sequence[str],
    batches: Mapping[int, tuple[int, str]],
) -> Item:
    label, task = rows[-1]
    item = Item(
        label_id=label.id,
        task_id=task.id,
        ls_task=task.ls_id,
        name=name_of(task.data or {}, task.url) or f"task {task.ls_id}",
        image=image,
        masks={},
        split="",
        annotations=[_voice(row, batches) for row, _ in rows],
    )
    known = merge_known(rows)
    if known is not None and not set(names) <= set(known):
        item["known"] = known
    if task.prompts:
        item["prompts"] = dict(task.prompts)
    if source := source_of(project.grouping or {}, task.data or {}):
        item["source"] = source
    if task.blind:
        item["blind"] = True
    return item


def _voice(label: Label, batches: Mapping[int, tuple[int, str]]) -> Voice:
    voice = Voice(label=label.id, annotation=label.ls_annotation_id, version=label.version, author=label.author)
    if label.batch_id is not None:
        voice["batch"], voice["strategy"] = batches[label.batch_id]
    return voice


def _past(project: Project, belonging: Belonging, before: Manifest) -> Past:
    """What earlier snapshots have settled; by group keys too, as long as these are made by the same rule.

    The label of an image may be gone while its patient's other images are labelled.
    """
    groups = before.get("groups")
    same = (
        groups if groups is not None and groups["rule"] == _rule(project) else Groups(rule={}, validation=[], learnt=[])
    )

    def images_of(keys: Sequence[str]) -> set[str]:
        wanted = set(keys)
        return {image for image, mine in belonging.keys.items() if not wanted.isdisjoint(mine)}

    return Past(
        validation=frozenset(before["validation"]).union(images_of(same["validation"])),
        learnt=_learnt(before).union(images_of(same["learnt"])),
    )


def _learnt(before: Manifest) -> frozenset[str]:
    # Snapshots of earlier releases say no more than what they learnt from themselves.
    trained = [item["image"] for item in before["items"] if item["split"] == "train"]
    return frozenset(before.get("learnt", trained))


def _groups(project: Project, belonging: Belonging, side: Mapping[str, str], before: Manifest) -> Groups:
    old = before.get("groups")
    found: dict[str, set[str]] = {"validation": set(), "train": set()}
    if old is not None and old["rule"] == _rule(project):
        found = {"validation": set(old["validation"]), "train": set(old["learnt"])}
    for image, keys in belonging.keys.items():
        found[side[image]] |= keys
    return Groups(rule=_rule(project), validation=sorted(found["validation"]), learnt=sorted(found["train"]))


def _rule(project: Project) -> dict[str, str]:
    return {name: value for name, value in (project.grouping or {}).items() if name in ("field", "pattern")}


def _merged_before(before: Manifest, rule: MergeRule) -> dict[str, Item]:
    """Items whose masks were merged by the same rule: merging again would give the same."""
    if before.get("merge") != rule:
        return {}
    return {item["image"]: item for item in before["items"] if len(item.get("annotations", ())) > 1}


def _reuse(pool: Pool, merged: Mapping[str, Item], item: Item) -> dict[str, str] | None:
    old = merged.get(item["image"])
    if old is None or old.get("annotations") != item["annotations"]:
        return None
    there = all(pool.store.exists("masks", digest) for digest in old["masks"].values())
    return dict(old["masks"]) if there else None


def _duplicate(pair: tuple[str, str], chosen: Mapping[str, Sequence[Labelled]], side: Mapping[str, str]) -> Duplicate:
    return Duplicate(images=list(pair), tasks=[chosen[i][-1].task.ls_id for i in pair], sides=[side[i] for i in pair])
