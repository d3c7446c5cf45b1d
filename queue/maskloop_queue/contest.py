"""Champion against challenger on the frozen validation set: the same images, the same samples, then the gate."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model
from maskloop_learner.pool.snapshot import Item, Manifest
from maskloop_learner.pool.store import BlobError
from maskloop_learner.settings import Settings
from maskloop_learner.train.gate import Decision, Rules, decide, decide_alone
from maskloop_learner.train.lineage import find_learnt, group_of
from maskloop_learner.train.slices import Case
from maskloop_queue.plan import Plan

if TYPE_CHECKING:
    from maskloop_learner.train.answers import Answer
    from maskloop_learner.train.examples import Example
    from maskloop_queue.trials import Trial

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Rival:
    """The champion that a challenger is compared with."""

    model: Model
    fence: int


def rules_of(settings: Settings) -> Rules:
    """The gate's rules by the settings of today."""
    return Rules(
        margin=settings.gate_margin,
        level=settings.gate_confidence,
        slice_margin=settings.gate_slice_margin,
        slice_images=settings.gate_slice_images,
        calibration_margin=settings.gate_calibration_margin,
        min_images=settings.gate_min_images,
        allow_few=settings.gate_allow_few,
        shadow=settings.gate_mode == "shadow",
        seed=settings.train_seed,
    )


def find_rival(pool: Pool, project_id: int) -> Rival | None:
    """The champion of this moment."""
    with pool.read() as session:
        champion = session.get(Champion, project_id)
        return Rival(model=session.get_one(Model, champion.model_id), fence=champion.fence) if champion else None


def judge(
    pool: Pool,
    plan: Plan,
    settings: Settings,
    trial: "Trial",
    challenger: "Sequence[Answer]",
    examples: "Sequence[Example]",
    rival: Rival | None,
) -> Decision:
    """Ask the champion what the challenger was asked, and the gate what becomes of it.

    challenger: its answers to all of `examples`, the snapshot's validation images. They are compared on the labels
    that the champion knows, and not on images that it has learnt from.
    """
    from maskloop_learner.model.bases import BackboneError
    from maskloop_learner.model.checkpoint import CheckpointError

    dice = {label: [each.dice for each in challenger if each.label == label] for label in plan.manifest["labels"]}
    if rival is None:
        return decide_alone(dice)
    model = rival.model
    common = [label for label in plan.manifest["labels"] if label in model.labels]
    if not common:
        return decide_alone(dice, why=f"the champion knows none of the labels {plan.manifest['labels']}")
    items = [item for item in plan.manifest["items"] if item["split"] == "validation"]
    learnt = find_learnt(pool, model.id, plan.manifest)
    fair = [place for place, item in enumerate(items) if not learnt.has(item)]
    try:
        predictor = trial.load(pool.store.get("weights", model.weights_digest))
        found = trial.validate(
            predictor,
            [examples[place] for place in fair],
            temperature=float(model.config.get("temperature", 1.0)),
            labels=common,
            what="validation of the champion",
        )
    except (CheckpointError, BackboneError, BlobError) as error:
        # Lost, or made by another release: it predicts nothing any more, and must not stand in the way for ever.
        log.warning("round %d: the champion cannot be compared with: %s", plan.round_id, error)
        return decide_alone(dice, why=f"there is no champion to compare with: {error}")
    old = [replace(each, example=fair[each.example]) for each in found]
    asked = {(each.example, each.label) for each in old}
    new = [each for each in challenger if (each.example, each.label) in asked]
    decision = decide(
        pair_answers(items, old, new),
        rules=rules_of(settings),
        errors=pair_errors(old, new),
        left_out=len(items) - len(fair),
    )
    alone = {label: {"challenger": fmean(each)} for label, each in dice.items() if each}
    return replace(decision, figures=alone | decision.figures)


def validation_groups(manifest: Manifest) -> list[str]:
    """The group of each of a snapshot's validation images, in their order."""
    return [group_of(item) for item in manifest["items"] if item["split"] == "validation"]


def pair_answers(items: Sequence[Item], old: "Sequence[Answer]", new: "Sequence[Answer]") -> list[Case]:
    """One case for each image and label that both were asked."""
    theirs = {(each.example, each.label): each for each in new}
    pairs = [(items[each.example], each, theirs[each.example, each.label]) for each in old]
    return [
        Case(
            image=item["image"],
            group=group_of(item),
            source=str(item.get("source") or ""),
            label=champion.label,
            area=champion.area,
            champion=champion.dice,
            challenger=challenger.dice,
        )
        for item, champion, challenger in pairs
    ]


def pair_errors(old: "Sequence[Answer]", new: "Sequence[Answer]") -> dict[str, dict[str, float]]:
    """Label -> calibration errors of both, on the same images."""
    from maskloop_learner.train.answers import calibration_errors

    theirs = calibration_errors(new)
    return {label: {"champion": error, "challenger": theirs[label]} for label, error in calibration_errors(old).items()}
