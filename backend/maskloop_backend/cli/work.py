"""The trainings and tests of a protocol: one set of options, one folder, progress on stderr."""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.progress import Progress

from maskloop_backend.cli.context import print_json, start_logging
from maskloop_backend.cli.datasets import check_method, describe_machine, plain_errors, show_progress
from maskloop_backend.cli.errors import CommandError
from maskloop_learner.data.layout import Item
from maskloop_learner.settings import get_settings


class Work:
    """Trainings and tests with one set of options, their progress on stderr, their files in one folder."""

    def __init__(
        self,
        out: Path,
        backbone: str | None,
        seed: int | None,
        steps: int | None,
        epochs: float | None,
        batch: int | None,
        samples: int | None,
        method: str,
        label: str,
        official: bool,
    ) -> None:
        check_method(method)
        if steps is not None and epochs is not None:
            raise CommandError("give --steps or --epochs: both say how long to train")
        settings = get_settings()
        start_logging(settings)
        self.learning: dict[str, Any] = {
            "backbone": backbone or settings.backbone,
            "seed": settings.train_seed if seed is None else seed,
            "batch": batch or settings.train_batch,
            "label": label,
            "official": official,
        }
        self.length: dict[str, float | int] = (
            {"steps": steps or settings.train_steps} if epochs is None else {"epochs": epochs}
        )
        self.predicting: dict[str, Any] = {
            "samples": samples or settings.samples,
            "method": method,
            "threshold": settings.threshold,
            "min_speck_area": settings.min_speck_area,
            "max_hole_area": settings.max_hole_area,
        }
        self.out = out
        from maskloop_learner.evaluate.cells import Cells

        with plain_errors():
            options = {**self.learning, **self.length, **self.predicting, "precision": settings.precision}
            self.cells = Cells(out, settings=options)
        self._bar: Progress = show_progress()

    def __enter__(self) -> "Work":
        from maskloop_queue.processes import set_threads

        set_threads(get_settings().training_threads)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar.live.is_started:
            self._bar.stop()

    def say(self, step: str) -> None:
        """Tell what comes next; the first time the bar appears."""
        self._bar.start()
        self._bar.console.print(step, highlight=False, markup=False)

    def steps_for(self, images: int) -> int:
        """Optimizer steps of a training on so many images."""
        if "steps" in self.length:
            return int(self.length["steps"])
        return max(1, math.ceil(self.length["epochs"] * images / int(self.learning["batch"])))

    def train(self, items: Sequence[Item], name: str) -> bytes:
        """Weights after a training that goes on from its last checkpoint."""
        from maskloop_learner.evaluate.cells import file_name
        from maskloop_learner.evaluate.model import learn

        settings = get_settings()
        steps = self.steps_for(len(items))
        checkpoint = self.out / "checkpoints" / f"{file_name(name)}.pt"
        shown = self._bar.add_task(f"Training {name}", total=steps)
        data = learn(
            items,
            describe_machine(settings),
            **self.learning,
            steps=steps,
            checkpoint=checkpoint,
            checkpoint_steps=settings.checkpoint_steps,
            on_progress=lambda progress: self._bar.update(shown, completed=progress.step),
        )
        self._bar.remove_task(shown)
        return data

    def test(self, weights: bytes, items: Sequence[Item], name: str) -> Mapping[str, Any]:
        """Figures of a model on items; a table of each image goes into the folder."""
        from maskloop_learner.evaluate.cells import file_name, write_atomically
        from maskloop_learner.evaluate.model import Prediction, open_model, read_case
        from maskloop_learner.evaluate.report import Evaluation
        from maskloop_learner.evaluate.results import to_csv
        from maskloop_learner.evaluate.run import evaluate_cases

        label = self.learning["label"]
        predict = open_model(weights, describe_machine(get_settings()), Prediction(**self.predicting))
        evaluation = Evaluation(total=len(items), threshold=self.predicting["threshold"], pictures=False)
        cases = (read_case(item, label=label) for item in items)
        shown = self._bar.add_task(f"Testing {name}", total=len(items))
        for look in evaluate_cases(cases, predict=predict):
            evaluation.add(look)
            self._bar.advance(shown)
        self._bar.remove_task(shown)
        write_atomically(self.out / "images" / f"{file_name(name)}.csv", to_csv(evaluation.results).encode())
        summary = evaluation.summary()[label]
        means = {metric: summary[metric]["mean"] for metric in ("dice", "iou", "nsd", "hd95")}
        return {**means, "summary": summary}

    def finish(self, title: str, table: str, found: Mapping[str, Any], as_json: bool) -> None:
        """Write both results and print one."""
        from maskloop_learner.evaluate.cells import to_json, write_atomically

        options = {**self.learning, **self.length, **self.predicting}
        listed = ", ".join(f"{name} {value}" for name, value in options.items())
        text = f"{title}\n\n{table}\n{listed}\n"
        write_atomically(self.out / "results.md", text.encode())
        write_atomically(self.out / "results.json", to_json({"options": options, **found}).encode())
        # The weights are kept; what trainings go on from is large and of no more use.
        shutil.rmtree(self.out / "checkpoints", ignore_errors=True)
        if as_json:
            print_json({"options": options, **found})
        else:
            print(text, end="")
