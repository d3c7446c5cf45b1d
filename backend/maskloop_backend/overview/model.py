"""One model: its facts in words, the gate's comparison, and what differs from its parent. For pages and commands."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from maskloop_backend.overview.models import Version, make_version, read_promotions
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, Round, Snapshot
from maskloop_learner.train.comparison import compare_models
from maskloop_learner.train.dossier import read_dossier

NAMES = 5
"""Images that are named; of more the number is said."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Champion and challenger on a part of the validation images, or their calibration errors."""

    part: str
    images: int | None
    champion: float
    challenger: float
    verdict: str
    """"" where there is none."""

    @property
    def difference(self) -> float:
        """Of the challenger to the champion."""
        return self.challenger - self.champion


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What two models have not in common, in words."""

    name: str
    before: str
    after: str
    change: str
    """After less before, of numbers; else ""."""


@dataclass(frozen=True, kw_only=True)
class Portrait:
    """All of a model."""

    version: Version
    facts: tuple[tuple[str, str], ...]
    """(name, words), as `maskloop models show` tells them."""
    comparisons: tuple[Comparison, ...]
    history: tuple[dict[str, Any], ...]
    """When it became the champion and when another did: at, what, by, fence, pinned, reason."""
    parents: tuple[int, ...]
    """The champions before, the last one first."""
    differences: tuple[Difference, ...]
    """From the champion when it was made; () without one."""
    images: tuple[str, ...]
    """Sentences on the images that it learnt from beside, or no more."""


def read_portrait(pool: Pool, model_id: int) -> Portrait:
    """A model by its number. Raises NoResultFound for one that there is not."""
    with pool.read() as session:
        model = session.get_one(Model, model_id)
        row = session.scalar(select(Round).where(Round.model_id == model_id))
        labels = session.scalar(
            select(func.json_array_length(Snapshot.label_ids)).where(Snapshot.id == model.snapshot_id)
        )
        champion = session.get(Champion, model.project_id)
        promotions = read_promotions(session, model.project_id).get(model_id, [])
        version = make_version(model, row, labels, champion, promotions)
    dossier = read_dossier(pool, model_id)
    changed = compare_models(pool, model.parent_id, model_id) if model.parent_id is not None else None
    return Portrait(
        version=version,
        facts=tuple(tell_facts(dossier)),
        comparisons=tuple(read_comparisons(dossier["decision"])),
        history=tuple(dossier["history"]),
        parents=tuple(dossier["parents"]),
        differences=tuple(tell_differences(changed)) if changed else (),
        images=tuple(tell_images(changed["snapshot"])) if changed else (),
    )


def tell_facts(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, words) of a dossier, but for its decision and history."""
    yield "made", f"{found['created_at'][:19]} by {found['made_by'] or 'an earlier release'}"
    yield "draws", ", ".join(found["labels"])
    yield "backbone", str(found["backbone"]) + (f" over towers {found['base']}" if found["base"] else "")
    yield "weights", str(found["weights"]) + (f", {found['bytes']} bytes" if found["bytes"] else "")
    yield "manifest", found["manifest"] or "none: made by an earlier release"
    code = found["code"]
    yield "code", f"Maskloop {code.get('maskloop')}, commit {code.get('commit')}, torch {code.get('torch')}"
    if found["fault"]:
        yield "broken", found["fault"]
    if found["parents"]:
        yield "comes after", " <- ".join(str(number) for number in found["parents"])
    if (learnt := found["snapshot"]) is not None:
        told = learnt["unknown"] or f"{learnt['train']} images, {learnt['validation']} kept for validation"
        yield "learnt from", f"snapshot {learnt['id']}: {told}"
    yield from ((label, f"Dice {value:.3f}") for label, value in found["dice"].items())
    yield from ((label, f"ECE {each['ece']:.3f}") for label, each in found["calibration"].items())
    yield from ((key, say(value)) for key, value in found["config"].items() if key != "settings")
    if found["reason"]:
        yield "gate", f"{found['state'] or 'decided'}: {found['reason']}"
    for version in found["versions"]:
        yield "predicts as", f"{version['id']} ({version['predictions']} images)"


def read_comparisons(decision: Mapping[str, Any]) -> Iterator[Comparison]:
    """The gate's figures out of a decision as it is kept; releases before kept fewer."""
    champion, challenger, bound = (decision.get(name) for name in ("champion", "challenger", "bound"))
    if champion is not None and challenger is not None:
        verdict = "" if bound is None else f"above {bound:+.3f}"
        images = decision.get("images")
        yield Comparison(part="all images", images=images, champion=champion, challenger=challenger, verdict=verdict)
    for each in decision.get("slices") or []:
        yield Comparison(
            part=f"{each['kind']} {each['name']}",
            images=each["images"],
            champion=each["champion"],
            challenger=each["challenger"],
            verdict=("ok" if each.get("passed") else "worse") if each.get("counted") else "too few to count",
        )
    for label, sides in (decision.get("calibration") or {}).items():
        yield Comparison(part=f"calibration error {label}", images=None, verdict="", **sides)


def tell_differences(found: Mapping[str, Any]) -> Iterator[Difference]:
    """What `compare_models` found, but for the images."""
    for part in ("about", "config", "metrics"):
        for name, (old, new) in found[part].items():
            change = f"{new - old:+.4g}" if _numbers(old, new) else ""
            yield Difference(
                name=name if part == "about" else f"{part} {name}", before=say(old), after=say(new), change=change
            )


def tell_images(learnt: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on the images of two snapshots."""
    for what in ("added", "removed", "changed"):
        if names := learnt[what]:
            more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
            yield f"images {what}: {len(names)} ({', '.join(names[:NAMES])}{more})"
    if learnt["unknown"]:
        yield f"images: {learnt['unknown']}"


def say(value: object) -> str:
    """A value for people."""
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


def _numbers(*values: object) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
