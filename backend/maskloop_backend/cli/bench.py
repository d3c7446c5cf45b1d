"""`maskloop bench`: how fast this machine predicts and trains, against the plain way."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from maskloop_backend.cli.context import print_json
from maskloop_backend.cli.errors import CommandError
from maskloop_learner.settings import get_settings

TRAINING_BATCH = 6


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(bench)


def bench(
    backbone: Annotated[
        list[str] | None, typer.Option("--backbone", help="Backbone to measure; repeatable; all when left out.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Monte-Carlo samples S.")] = 30,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each mode; medians are shown.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; as torch has them when left out.")] = None,
    training: Annotated[bool, typer.Option(help="Measure training steps too.")] = True,
    batch: Annotated[int, typer.Option(min=1, help="Images of a training step.")] = TRAINING_BATCH,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Measure prediction and training on this machine's CPU, against one whole float32 pass per sample.

    naive: S + 1 whole passes, as the published evaluation makes them. exact: the same samples, float32. bf16: the
    same with bfloat16 products. rank: one mean-value pass. Weights are random where a backbone's are not there.
    """
    import torch

    from maskloop_learner.bench.prediction import bench_prediction
    from maskloop_learner.bench.subject import make_subject
    from maskloop_learner.bench.timing import measure_products
    from maskloop_learner.bench.training import MODES, bench_training
    from maskloop_learner.model.backbones import BACKBONES, find_backbone
    from maskloop_learner.model.bases import Bases
    from maskloop_learner.model.memory import keep_freed_memory
    from maskloop_learner.model.precision import cpu_has_bf16

    unknown = [name for name in backbone or () if name not in BACKBONES]
    if unknown:
        raise CommandError(f"backbone must be one of {', '.join(sorted(BACKBONES))}, got {unknown[0]!r}")
    specs = [find_backbone(name) for name in backbone or BACKBONES]
    keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    used = torch.get_num_threads()
    bases = Bases(get_settings().bases_folder)
    steps = len(specs) * (3 * (repeats + 1) + 1 + training * repeats * len(MODES))
    found: list[dict[str, Any]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("Measuring", total=steps)
        for spec in specs:
            progress.update(bar, description=f"Measuring {spec.name}")

            def tick() -> None:
                progress.advance(bar)

            subject = make_subject(spec, bases=bases)
            modes = bench_prediction(
                subject, make_subject(spec, bases=bases), samples=samples, repeats=repeats, tick=tick
            )
            figures: dict[str, Any] = {"backbone": spec.name, "weights": subject.weights, "modes": modes}
            del subject
            if training:
                figures["training"] = bench_training(spec.name, batch=batch, repeats=repeats, threads=used, tick=tick)
            found.append(figures)
    about = {
        "torch": torch.__version__,
        "threads": used,
        "samples": samples,
        "hardware_bf16": cpu_has_bf16(),
        "products_gflops": {"fp32": measure_products(torch.float32), "bf16": measure_products(torch.bfloat16)},
    }
    if as_json:
        print_json({**about, **(found[0] if len(found) == 1 else {}), "backbones": found})
    else:
        _show(about, found)


def _show(about: dict[str, Any], found: list[dict[str, Any]]) -> None:
    console = Console()
    products = ", ".join(f"{name} {value:.0f} GFLOPS" for name, value in about["products_gflops"].items())
    console.print(f"torch {about['torch']}, {about['threads']} threads, matrix products: {products}")
    if not about["hardware_bf16"]:
        console.print("This CPU has no bfloat16 products: bf16 is emulated, slow, and never chosen by itself.")
    table = Table(title=f"One image, S = {about['samples']}")
    for name in ("backbone", "mode", "ms", "images/s", "times naive", "largest difference"):
        table.add_column(name, justify="left" if name in ("backbone", "mode") else "right")
    for each in found:
        for mode, row in each["modes"].items():
            table.add_row(
                f"{each['backbone']} ({each['weights']})",
                mode,
                f"{row['ms']:.0f}",
                f"{row['images_per_second']:.2f}",
                f"{row['speedup']:.2f}",
                f"{row['max_abs_prob_diff']:.1e}",
            )
    console.print(table)
    steps = Table(title="One training step")
    for name in ("backbone", "mode", "ms per image", "times naive", "peak MB"):
        steps.add_column(name, justify="left" if name in ("backbone", "mode") else "right")
    for each in found:
        for mode, row in each.get("training", {}).items():
            steps.add_row(
                each["backbone"],
                mode,
                f"{row['ms_per_image']:.0f}",
                f"{row['speedup']:.2f}",
                f"{row['peak_rss_mb']:.0f}",
            )
    if steps.row_count:
        console.print(steps)
