"""Which labelled images stand and fall together: one group key, one task, one picture."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from maskloop_learner.pool.duplicates import find_duplicates
from maskloop_learner.pool.groups import group_of
from maskloop_learner.pool.looks import BLANK, Look
from maskloop_learner.pool.manifest import NearDuplicates
from maskloop_learner.pool.schema import Project, Task
from maskloop_learner.pool.voices import Labelled


@dataclass(frozen=True, kw_only=True)
class Belonging:
    """The groups of a project's labelled images."""

    groups: dict[str, list[str]]
    """Name -> images. A group is called by the first of its keys, or of its images where it has no key."""
    group: dict[str, str]
    """Image -> name of its group."""
    keys: dict[str, set[str]]
    """Image -> group keys of the tasks that show it."""
    duplicates: list[tuple[str, str]]
    """Pairs of pictures that are nearly one, of images that nothing else holds together."""


class Unions:
    """Numbers that are joined step by step."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, number: int) -> int:
        """The least number that this one is joined with."""
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def join(self, numbers: Iterable[int]) -> None:
        """Join all of these."""
        roots = {self.find(number) for number in numbers}
        for root in roots:
            self._parent[root] = min(roots)


def find_groups(
    project: Project, labels: Mapping[str, Sequence[Labelled]], looks: Mapping[str, Look], how: NearDuplicates
) -> Belonging:
    """Join images by group key, by task and, with `join`, by looks. The order of `labels` does not matter.

    An image that tasks of several groups show joins these groups, unless it is blank: an empty slice says nothing of
    its patient.
    """
    images = sorted(labels)
    unions = Unions(len(images))
    keys: dict[str, set[str]] = {}
    together: dict[tuple[str, str | int], list[int]] = {}
    for number, image in enumerate(images):
        tasks = _tasks(labels[image])
        if looks.get(image) == BLANK:
            tasks = tasks[-1:]
        keys[image] = {key for task in tasks if (key := group_key(project, task))}
        for key in keys[image]:
            together.setdefault(("key", key), []).append(number)
        for task in tasks:
            together.setdefault(("task", task.ls_id), []).append(number)
    for numbers in together.values():
        unions.join(numbers)
    parts = [unions.find(number) for number in range(len(images))]
    pairs = find_duplicates([looks.get(image, BLANK) for image in images], parts)
    if how == "join":
        for pair in pairs:
            unions.join(pair)
    members: dict[int, list[str]] = {}
    for number, image in enumerate(images):
        members.setdefault(unions.find(number), []).append(image)
    groups = {_name(found, keys): found for found in members.values()}
    return Belonging(
        groups=groups,
        group={image: name for name, found in groups.items() for image in found},
        keys=keys,
        duplicates=[(images[one], images[other]) for one, other in pairs],
    )


def group_key(project: Project, task: Task) -> str:
    """The task's group key by the project's rule of today, whether or not `Task.group_key` has followed it yet."""
    return group_of(project.grouping or {}, data=task.data or {}, url=task.url or "")


def _tasks(rows: Sequence[Labelled]) -> list[Task]:
    return list({row.task.id: row.task for row in rows}.values())


def _name(images: Sequence[str], keys: Mapping[str, set[str]]) -> str:
    return min({key for image in images for key in keys[image]}, default=min(images))
