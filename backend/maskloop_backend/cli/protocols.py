"""`maskloop data-efficiency` and `maskloop domain-generalisation`: the paper's tables, one command each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from maskloop_backend.cli.datasets import DatasetArgument, SampleMethod, open_dataset, plain_errors
from maskloop_backend.cli.errors import CommandError
from maskloop_backend.cli.work import Work
from maskloop_learner.data.layout import PERCENTAGES, VARIANTS, Variant

OutOption = Annotated[
    Path, typer.Option("--out", file_okay=False, help="Folder of the results; a run into the same folder goes on.")
]
VariantsOption = Annotated[
    list[str] | None, typer.Option("--prompts", help=f"Of the test split, may be repeated: {', '.join(VARIANTS)}.")
]
BackboneOption = Annotated[str | None, typer.Option("--backbone", help="MASKLOOP_BACKBONE when left out.")]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="MASKLOOP_TRAIN_SEED when left out.")]
StepsOption = Annotated[int | None, typer.Option("--steps", min=1, help="Optimizer steps of each training.")]
EpochsOption = Annotated[
    float | None, typer.Option("--epochs", min=0.01, help="Instead of --steps: passes over the training's images.")
]
BatchOption = Annotated[int | None, typer.Option("--batch", min=1, help="MASKLOOP_TRAIN_BATCH when left out.")]
SamplesOption = Annotated[int | None, typer.Option("--samples", min=1, help="MASKLOOP_SAMPLES when left out.")]
LabelOption = Annotated[str, typer.Option("--label", help="What the masks are called in the weights.")]
OfficialOption = Annotated[
    bool, typer.Option("--official", help="Loss and pixels as in the published code, to reproduce its figures.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(data_efficiency)
    app.command()(domain_generalisation)


def data_efficiency(
    dataset: DatasetArgument,
    out: OutOption,
    percent: Annotated[
        list[int] | None, typer.Option(help="Share of the training rows, may be repeated; all that have a sheet.")
    ] = None,
    prompts: VariantsOption = None,
    backbone: BackboneOption = None,
    seed: SeedOption = None,
    steps: StepsOption = None,
    epochs: EpochsOption = None,
    batch: BatchOption = None,
    samples: SamplesOption = None,
    method: SampleMethod = "monte-carlo",
    label: LabelOption = "lesion",
    official: OfficialOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train on 10, 25, 50 and 100 % of a data set's training rows and test each model on its whole test split.

    Leaves results.md, results.json, the weights and a table of every image.

    What was finished is kept: after an interruption, run it again.
    """
    opened = open_dataset(dataset)
    variants = _variants(prompts)
    work = Work(out, backbone, seed, steps, epochs, batch, samples, method, label, official)
    from maskloop_learner.evaluate.protocols import run_efficiency
    from maskloop_learner.evaluate.tables import efficiency_table

    with plain_errors(), work:
        cells = run_efficiency(
            opened,
            percentages=percent or opened.percentages or PERCENTAGES,
            variants=variants,
            cells=work.cells,
            train=work.train,
            test=work.test,
            say=work.say,
        )
    title = f"Data efficiency on {opened.name}: mean Dice in % on the test split"
    work.finish(title, efficiency_table(cells), {"cells": [cell.to_dict() for cell in cells]}, as_json)


def domain_generalisation(
    train: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Data set to learn from.")],
    test: Annotated[list[Path], typer.Option(exists=True, file_okay=False, help="Another one; may be repeated.")],
    out: OutOption,
    prompts: VariantsOption = None,
    backbone: BackboneOption = None,
    seed: SeedOption = None,
    steps: StepsOption = None,
    epochs: EpochsOption = None,
    batch: BatchOption = None,
    samples: SamplesOption = None,
    method: SampleMethod = "monte-carlo",
    label: LabelOption = "lesion",
    official: OfficialOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train on one data set; test on it (ID) and on others that it never saw (OOD); with their harmonic mean (HM).

    Leaves results.md, results.json, the weights and a table of every image.

    What was finished is kept: after an interruption, run it again.
    """
    source, targets = open_dataset(train), [open_dataset(path) for path in test]
    variants = _variants(prompts)
    work = Work(out, backbone, seed, steps, epochs, batch, samples, method, label, official)
    from maskloop_learner.evaluate.protocols import generalisation, run_generalisation
    from maskloop_learner.evaluate.tables import generalisation_table

    with plain_errors(), work:
        cells = run_generalisation(
            source, targets, variants=variants, cells=work.cells, train=work.train, test=work.test, say=work.say
        )
    means = {variant: generalisation(cells, source=source.name, variant=variant) for variant in variants}
    title = f"Domain generalisation from {source.name}: mean Dice in % on the test splits"
    found = {"means": means, "cells": [cell.to_dict() for cell in cells]}
    work.finish(title, generalisation_table(cells, source=source.name), found, as_json)


def _variants(given: Sequence[str] | None) -> list[Variant]:
    wanted = list(dict.fromkeys(given or ["original"]))
    if unknown := [variant for variant in wanted if variant not in VARIANTS]:
        raise CommandError(f"--prompts must be one of {', '.join(VARIANTS)}, got {unknown[0]!r}")
    return cast(list[Variant], wanted)
