"""The state of a project in a few plain sentences, for people who read nothing else."""

from collections.abc import Iterator
from dataclasses import replace

from maskloop_backend.overview.models import Figure, Models, Version
from maskloop_backend.readiness import Readiness
from maskloop_backend.report.progress import Progress


def tell_state(progress: Progress, models: Models, ready: Readiness) -> str:
    """One paragraph: how far the labels are, how good the model is, and what happened to it last."""
    return " ".join([tell_progress(progress), *tell_model(models, ready), *tell_last(models)])


def tell_progress(progress: Progress) -> str:
    """How many images there are, are labelled, and are left."""
    if not progress.images:
        return "The project has no images yet."
    if not progress.labelled:
        return f"Of {_many(progress.images, 'image')} none is labelled yet."
    parts = [f"{progress.labelled:,} of {_many(progress.images, 'image')} {_are(progress.labelled)} labelled"]
    parts += [f"{progress.skipped:,} skipped"] if progress.skipped else []
    parts += [f"{progress.failed:,} cannot be used"] if progress.failed else []
    parts.append(f"{progress.left:,} {_are(progress.left)} left" if progress.left else "none is left")
    return f"{_listed(parts)}."


def tell_model(models: Models, ready: Readiness) -> Iterator[str]:
    """What draws the masks, how good it is, and against what."""
    champion = models.champion
    if champion is None:
        if models.version is None:
            yield "No model serves yet: until one does, annotators draw every mask themselves."
        else:
            yield f"Model {ready.model} serves."
        return
    learnt = f", learnt from {_many(champion.labels, 'label')}," if champion.labels is not None else ""
    if champion.dice is None:
        yield f"Model {champion.model}{learnt} draws the masks; how good it is was not measured."
        return
    yield f"Model {champion.model}{learnt} draws the masks with a mean Dice of {figure(champion.dice)}."
    before = next((each for each in models.versions if each.model == models.previous), None)
    if before is not None and before.dice is not None:
        same = before.dice.images is not None and before.dice.images == champion.dice.images
        where = "" if same else ", on the validation images of its time"
        yield f"The model before it, {before.model}, had {before.dice.mean:.3f}{where}."


def tell_last(models: Models) -> Iterator[str]:
    """What became of the newest model, where it does not serve."""
    newest: Version | None = models.versions[0] if models.versions else None
    champion = models.champion
    if newest is None or champion is None or newest.model <= champion.model:
        return
    if newest.outcome == "rejected":
        yield f"The newest, model {newest.model}, was not let in by the gate and is kept."
    elif newest.outcome == "shadow" and "in shadow" in newest.marks:
        yield f"The newest, model {newest.model}, waits for a person's word."


def tell_steps(ready: Readiness) -> list[str]:
    """What to do next: what is missing and the way to it, then how the labelling goes on, if it can."""
    found = [f"{need.what}. {need.fix}" for need in ready.needs]
    if not any(need.blocks for need in ready.needs) and ready.model is not None:
        found.append(replace(ready, needs=()).next_step)
    return found or [ready.next_step]


def figure(dice: Figure) -> str:
    """`0.812 (0.780 to 0.840, 35 images)`."""
    about = []
    if dice.low is not None and dice.high is not None:
        about.append(f"{dice.low:.3f} to {dice.high:.3f}")
    if dice.images is not None:
        about.append(_many(dice.images, "image"))
    return f"{dice.mean:.3f}" + (f" ({', '.join(about)})" if about else "")


def seconds(value: float) -> str:
    """`41 s`, `2.5 min`."""
    return f"{value:.0f} s" if value < 90 else f"{value / 60:.1f} min"


def _many(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number:,} {noun}s"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _listed(parts: list[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
