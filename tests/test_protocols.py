"""The paper's protocols: which trainings and tests are run, in what order, what is kept, and their tables."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from dataset_files import write_dataset, write_sheets
from hypothesis import given
from hypothesis import strategies as st
from workbook import write_workbook

from maskloop_learner.data.layout import Dataset, Item, LayoutError
from maskloop_learner.evaluate.cells import Cells, ProtocolError, file_name, to_json, write_atomically
from maskloop_learner.evaluate.protocols import Cell, generalisation, harmonic_mean, run_efficiency, run_generalisation
from maskloop_learner.evaluate.tables import efficiency_table, generalisation_table

SETTINGS = {"backbone": "nano", "seed": 0, "steps": 3}


class PowerCut(Exception):
    """Ends a run in the middle."""


@dataclass
class Lab:
    """Keeps account of trainings and tests; a test's Dice is a hundredth of the images that were learnt from."""

    done: list[tuple[str, str, int]] = field(default_factory=list)
    break_at: int | None = None

    def train(self, items: Sequence[Item], name: str) -> bytes:
        """Weights that say how many images there were."""
        self._note("train", name, items)
        return str(len(items)).encode()

    def test(self, weights: bytes, items: Sequence[Item], name: str) -> Mapping[str, Any]:
        """Figures that say what was tested."""
        self._note("test", name, items)
        return {"dice": int(weights) / 100, "tested": len(items), "prompt": items[0].prompt}

    def _note(self, what: str, name: str, items: Sequence[Item]) -> None:
        if len(self.done) == self.break_at:
            raise PowerCut
        self.done.append((what, name, len(items)))


def efficiency(root: Path, out: Path, lab: Lab, **changes: Any) -> list[Cell]:
    """The data efficiency protocol on shares of 25 and 100 % with two variants."""
    asked: dict[str, Any] = {"percentages": [25, 100], "variants": ["original", "underdescriptive"], **changes}
    cells = Cells(out, settings=SETTINGS)
    return run_efficiency(Dataset.open(root), cells=cells, train=lab.train, test=lab.test, **asked)


ALL = [
    ("train", "discs 25 %", 2),
    ("test", "discs 25 % validation", 1),
    ("test", "discs 25 % original", 3),
    ("test", "discs 25 % underdescriptive", 3),
    ("train", "discs 100 %", 8),
    ("test", "discs 100 % validation", 2),
    ("test", "discs 100 % original", 3),
    ("test", "discs 100 % underdescriptive", 3),
]


def test_each_share_is_trained_once_and_tested_on_the_whole_test_split(tmp_path: Path) -> None:
    """With its own validation rows, and with every variant's prompts."""
    lab = Lab()
    cells = efficiency(write_dataset(tmp_path / "discs"), tmp_path / "out", lab)
    assert lab.done == ALL
    assert [(cell.training, cell.prompts, cell.dice) for cell in cells] == [
        ("25 %", "original", 0.02),
        ("25 %", "underdescriptive", 0.02),
        ("100 %", "original", 0.08),
        ("100 %", "underdescriptive", 0.08),
    ]
    assert [cell.figures["prompt"] for cell in cells[:2]] == ["One round tumor at the left.", "Tumor seen."]
    assert cells[3].to_dict()["validation_dice"] == 0.08


@pytest.mark.parametrize("moment", range(len(ALL)))
def test_a_run_that_was_ended_goes_on(tmp_path: Path, moment: int) -> None:
    """Wherever it ended: what was finished is not done again, and the result is the same."""
    root = write_dataset(tmp_path / "discs")
    first, second = Lab(break_at=moment), Lab()
    with pytest.raises(PowerCut):
        efficiency(root, tmp_path / "out", first)
    cells = efficiency(root, tmp_path / "out", second)
    assert first.done + second.done == ALL
    assert cells == efficiency(root, tmp_path / "whole", Lab())


def test_a_finished_run_needs_neither_training_nor_weights(tmp_path: Path) -> None:
    """And more shares may be asked for later."""
    root = write_dataset(tmp_path / "discs")
    cells = efficiency(root, tmp_path / "out", Lab())
    for weights in (tmp_path / "out" / "weights").iterdir():
        weights.unlink()
    again = Lab()
    assert efficiency(root, tmp_path / "out", again) == cells
    assert again.done == []
    efficiency(root, tmp_path / "out", again, percentages=[25, 50])
    assert [what for what, _, _ in again.done] == ["train", "test", "test", "test"]


def test_what_was_measured_on_other_images_is_done_again(tmp_path: Path) -> None:
    """Somebody added what was missing, or corrected a mask: figures of the old ones would be wrong."""
    root = write_dataset(tmp_path / "discs")
    efficiency(root, tmp_path / "out", Lab())
    rows = [[f"train {n}.png", "p", f"train {n}.png"] for n in range(3)]
    write_sheets(root, {"Train_text_25": rows})
    lab = Lab()
    assert efficiency(root, tmp_path / "out", lab)[0].dice == 0.03
    assert [name for _, name, _ in lab.done] == [
        "discs 25 %",
        "discs 25 % validation",
        "discs 25 % original",
        "discs 25 % underdescriptive",
    ]
    mask = root / "Test_Folder" / "label" / "test 0.png"
    mask.write_bytes(mask.read_bytes() + b" ")
    lab = Lab()
    efficiency(root, tmp_path / "out", lab)
    assert lab.done == [step for step in ALL if step[2] == 3]


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    """What differs is named; equal settings go on; a file is no folder."""
    Cells(tmp_path, settings=SETTINGS)
    Cells(tmp_path, settings=SETTINGS)
    with pytest.raises(ProtocolError, match=r"other settings \(seed 0, now 1, steps 3, now None\)"):
        Cells(tmp_path, settings={"backbone": "nano", "seed": 1})
    with pytest.raises(ProtocolError, match=r"is a file"):
        Cells(tmp_path / "run.json", settings=SETTINGS)


def test_a_damaged_cell_is_made_again(tmp_path: Path) -> None:
    """As one that was never there."""
    root = write_dataset(tmp_path / "discs")
    efficiency(root, tmp_path / "out", Lab())
    broken = next((tmp_path / "out" / "cells").glob("discs-100-original*"))
    broken.write_text('{"figures": {"dice": 0.0')
    lab = Lab()
    assert efficiency(root, tmp_path / "out", lab)[2].dice == 0.08
    assert lab.done == [("test", "discs 100 % original", 3)]


def test_no_validation_rows_are_no_obstacle(tmp_path: Path) -> None:
    """Three published sets have none; a sheet without rows to learn from is one."""
    root = write_dataset(tmp_path / "discs")
    write_workbook(root / "Prompts_Folder" / "Val_text.xlsx", {"Sheet1": []})
    cells = efficiency(root, tmp_path / "out", Lab(), percentages=[100])
    assert cells[0].figures["validation_dice"] is None
    write_workbook(root / "Prompts_Folder" / "Train_text.xlsx", {"Sheet1": []})
    with pytest.raises(ProtocolError, match=r"Train_text\.xlsx: no image of it can be used \(the sheet has no rows\)"):
        efficiency(root, tmp_path / "out", Lab(), percentages=[100])


def test_nothing_is_trained_before_all_sheets_are_looked_at(tmp_path: Path) -> None:
    """A missing test sheet is told at once, not after hours."""
    root = write_dataset(tmp_path / "discs")
    (root / "Prompts_Folder" / "Test_text_underdescriptive.xlsx").unlink()
    lab = Lab()
    with pytest.raises(LayoutError, match=r"no Prompts_Folder/Test_text_underdescriptive\.xlsx"):
        efficiency(root, tmp_path / "out", lab)
    assert lab.done == []


def generalise(tmp_path: Path, lab: Lab, names: Sequence[str] = ("source", "near", "far")) -> list[Cell]:
    """The domain generalisation protocol on three data sets of 3, 2 and 1 test images."""
    sets = [Dataset.open(write_dataset(tmp_path / name, first_seed=50 * n, test=3 - n)) for n, name in enumerate(names)]
    cells = Cells(tmp_path / "out", settings=SETTINGS)
    return run_generalisation(
        sets[0], sets[1:], variants=["original"], cells=cells, train=lab.train, test=lab.test, say=lambda step: None
    )


def test_one_training_is_tested_on_every_data_set(tmp_path: Path) -> None:
    """Its own first; a second run does nothing."""
    lab = Lab()
    cells = generalise(tmp_path, lab)
    assert lab.done == [
        ("train", "source", 8),
        ("test", "source on source, original", 3),
        ("test", "source on near, original", 2),
        ("test", "source on far, original", 1),
    ]
    assert [(cell.training, cell.dataset) for cell in cells] == [
        ("source", "source"),
        ("source", "near"),
        ("source", "far"),
    ]
    again = Lab()
    assert generalise(tmp_path, again) == cells
    assert again.done == []


def test_data_sets_must_differ_in_name(tmp_path: Path) -> None:
    """Their figures are kept by name; without a target there is nothing to generalise to."""
    source = Dataset.open(write_dataset(tmp_path / "a" / "BUSI"))
    twin = Dataset.open(write_dataset(tmp_path / "b" / "BUSI"))
    cells = Cells(tmp_path / "out", settings=SETTINGS)
    run: Callable[[list[Dataset]], list[Cell]] = lambda targets: run_generalisation(  # noqa: E731
        source, targets, variants=["original"], cells=cells, train=Lab().train, test=Lab().test
    )
    with pytest.raises(ProtocolError, match="targets of other names are needed, got BUSI, BUSI"):
        run([twin])
    with pytest.raises(ProtocolError, match="targets of other names are needed, got BUSI"):
        run([])


def cell(dataset: str, dice: float, training: str = "source") -> Cell:
    """A cell with a Dice."""
    return Cell(training, dataset, "original", {"dice": dice, "learnt": 10})


def test_id_ood_and_their_harmonic_mean() -> None:
    """OOD is the mean over the targets, each counting alike, whatever its size."""
    cells = [cell("source", 0.9), cell("near", 0.8), cell("far", 0.4)]
    means = generalisation(cells, source="source", variant="original")
    assert means == pytest.approx({"id": 0.9, "ood": 0.6, "hm": 0.72})
    with pytest.raises(ValueError, match="got 1 and 0"):
        generalisation(cells[:1], source="source", variant="original")


def test_the_papers_harmonic_mean() -> None:
    """ID 89.11 and OOD 79.02 give 83.76, as its table says."""
    assert harmonic_mean(0.8911, 0.7902) == pytest.approx(0.8376, abs=5e-5)
    assert harmonic_mean(0, 0) == 0
    with pytest.raises(ValueError, match=r"0\.\.1"):
        harmonic_mean(89.11, 79.02)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_harmonic_mean_lies_between_its_two_and_below_their_mean(a: float, b: float) -> None:
    """In closed form; the order does not matter."""
    mean = harmonic_mean(a, b)
    assert mean == harmonic_mean(b, a)
    assert min(a, b) - 1e-12 <= mean <= (a + b) / 2 + 1e-12
    if a > 1e-6 and b > 1e-6:
        assert mean == pytest.approx(1 / ((1 / a + 1 / b) / 2))


def test_tables() -> None:
    """Markdown, in percent with two decimals; a bar in a name does not end its column."""
    efficiency_cells = [cell("BUSI", 0.81104, "10 %"), cell("BUSI", 0.5, "100 %")]
    assert efficiency_table(efficiency_cells) == (
        "| test prompts | 10 % (10 images) | 100 % (10 images) |\n| --- | ---: | ---: |\n| original | 81.10 | 50.00 |\n"
    )
    assert generalisation_table([cell("source", 0.9), cell("n|r", 0.6)], source="source").splitlines() == [
        "| test prompts | ID: source | n\\|r | OOD | HM |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| original | 90.00 | 60.00 | 60.00 | 72.00 |",
    ]


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """A failure leaves the old file and no other; NaN is no JSON."""
    path = tmp_path / "a" / "cell.json"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text")  # type: ignore[arg-type]
    assert [file.name for file in path.parent.iterdir()] == ["cell.json"]
    assert path.read_bytes() == b"old"
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert json.loads(to_json({"ä": None})) == {"ä": None}
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json({"dice": float("nan")})


def test_names_of_files_do_not_collide() -> None:
    """Names that differ in a sign alone are different files, and every system takes them."""
    names = ["BUSI 10 %", "BUSI-10-", "../BUSI 10 %", "Бузи", "A/B"]
    made = [file_name(name) for name in names]
    assert len(set(made)) == len(names)
    assert all(set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-") for name in made)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
