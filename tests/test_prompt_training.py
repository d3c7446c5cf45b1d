"""Training's prompts: what is not known of an image does not count, dropout repeats, and locations never validate."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.model.checkpoint import read_meta
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.predict.predictor import LabelPrediction
from maskloop_learner.train.augment import Augmentation
from maskloop_learner.train.batches import StepConfig
from maskloop_learner.train.evaluation import evaluate, measure
from maskloop_learner.train.examination import choose_temperature, report_labels
from maskloop_learner.train.examples import Example, TrainingError, gather_examples
from maskloop_learner.train.loop import train
from maskloop_learner.train.prompts import NEGATIVE_SHARE, read_prompts, validation_prompts
from maskloop_learner.train.steps import take_step

LABELS = ["Disc", "Square"]
PROMPTS = {"Disc": "a bright disc", "Square": "a dark square"}
HOW = StepConfig(augmentation=Augmentation())


def example(seed: int, **changes: Any) -> Example:
    """A disc on grey, and a square in every second image."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    disc = np.hypot(y - rng.uniform(20, 44), x - 18) < 12
    square = np.maximum(abs(y - 32), abs(x - 46)) < 10
    masks = {"Disc": disc} | ({"Square": square} if seed % 2 else {})
    grey = 110 + 80 * disc - (70 * square if seed % 2 else 0) + rng.normal(0, 8, disc.shape)
    image = np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return replace(Example(image=image, masks=masks, name=f"image-{seed}"), **changes)


def garbled(given: Example, label: str) -> Example:
    """The same with noise as the label's mask."""
    noise = np.random.default_rng(0).random(given.image.shape[:2]) > 0.5
    return replace(given, masks={**given.masks, label: noise})


def model_of(seed: int = 0) -> MedCLIPSeg:
    return MedCLIPSeg(BACKBONES["nano"], seed=seed).train()


def step(examples: Sequence[Example], labels: Sequence[str] = LABELS) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and weights after one step on all of the examples."""
    model = model_of()
    data = gather_examples(examples, labels=labels, size=model.spec.image_size)
    tokens = model.tokens([PROMPTS.get(label, label) for label in labels])
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=1e-3)
    generator = torch.Generator().manual_seed(1)
    loss = take_step(model, optimizer, learning, data, list(range(len(examples))), tokens, HOW, generator)
    return loss, {name: p.detach().clone() for name, p in model.named_parameters()}


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_what_is_not_known_of_an_image_gives_no_gradient() -> None:
    """Any mask of an unknown label: loss and weights are the same to the bit. Of a known one they are not."""
    disc = frozenset({"Disc"})
    examples = [example(0), example(1, known=disc), example(2, known=disc)]
    first, weights = step(examples)
    second, others = step([examples[0], garbled(examples[1], "Square"), garbled(examples[2], "Square")])
    assert first == second
    assert same(weights, others)
    assert first != step([garbled(examples[0], "Square"), *examples[1:]])[0]
    assert first != step([example(0), example(1), example(2)])[0]


def test_an_unknown_label_is_not_an_empty_one() -> None:
    """An image without the square: learnt as absent where it was looked for, not at all where it was not."""
    absent, _ = step([example(0), example(1)])
    unknown, _ = step([example(0, known=frozenset({"Disc"})), example(1)])
    assert absent != unknown


def test_all_known_is_as_if_nothing_was_said() -> None:
    said = [example(k, known=frozenset(LABELS)) for k in range(3)]
    assert step(said)[0] == step([example(k) for k in range(3)])[0]


def test_an_image_that_knows_nothing_of_a_step_is_left_out() -> None:
    """Not even its prompt or noise matters; a step of such images alone leaves the weights as they were."""
    blank = example(1, known=frozenset())
    loss, weights = step([example(0), blank])
    alone, others = step([example(0)])
    assert loss == alone
    assert same(weights, others)
    model = model_of()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    data = gather_examples([example(0), blank], labels=LABELS, size=model.spec.image_size)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=1e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        assert take_step(model, optimizer, learning, data, [1, 1], model.tokens(LABELS), HOW, generator) == 0.0
    assert same(before, dict(model.named_parameters()))
    with pytest.raises(
        TrainingError, match="none of the labels 'Disc', 'Square' was looked for on any of the 1 images"
    ):
        gather_examples([blank], labels=LABELS, size=32)


def test_of_many_labels_only_known_ones_are_asked() -> None:
    """With more labels than a step takes, those that no chosen image knows do not take a place."""
    labels = [f"part {k}" for k in range(9)]
    known = frozenset(labels[:2])
    masks = {"part 0": example(1).masks["Disc"], "part 1": example(1).masks["Square"]}
    loss, _ = step([example(1, masks=masks, known=known)], labels)
    again, _ = step([garbled(example(1, masks=masks, known=known), "part 8")], labels)
    assert loss == again
    assert loss > 0


def table_of(examples: Sequence[Example], **how: Any) -> tuple[Any, Any, MedCLIPSeg]:
    model = model_of()
    data = gather_examples(examples, labels=LABELS, size=32)
    return read_prompts(model, data, LABELS, PROMPTS, **how), data, model


OWN = {"Disc": "a bright disc at the left"}
LESS = {"Disc": ("a disc", "disc")}


def test_dropout_takes_lesser_forms_as_often_as_it_should() -> None:
    """A share of the steps, every form alike, the label without forms never; the same again for the same seed."""
    table, data, model = table_of([example(0, prompts=OWN, lesser=LESS), example(1)], dropout=0.4)
    texts = [OWN["Disc"], "a disc", "disc", PROMPTS["Disc"], PROMPTS["Square"]]
    names = {row.numpy().tobytes(): text for text, row in zip(texts, model.tokens(texts), strict=True)}
    counts: dict[str, int] = {}
    for k in range(600):
        ids = table.choose(data, [0, 1], seed=3, step=k)
        assert ids.shape == (2, 2, model.spec.context)
        assert torch.equal(ids, table.choose(data, [0, 1], seed=3, step=k))
        said = names[ids[0, 0].numpy().tobytes()]
        counts[said] = counts.get(said, 0) + 1
        assert [names[row.numpy().tobytes()] for row in (ids[0, 1], ids[1, 0], ids[1, 1])] == [
            PROMPTS["Square"],
            PROMPTS["Disc"],
            PROMPTS["Square"],
        ]
    assert set(counts) == {OWN["Disc"], "a disc", "disc"}
    assert abs(counts[OWN["Disc"]] / 600 - 0.6) < 0.07
    assert abs(counts["disc"] - counts["a disc"]) < 60
    assert any(
        not torch.equal(table.choose(data, [0], seed=3, step=k), table.choose(data, [0], seed=4, step=k))
        for k in range(20)
    )


def test_without_forms_or_dropout_all_is_as_before() -> None:
    """Fixed texts: the labels' prompts, one for all images. Dropout 0: each image's own, at every step."""
    table, data, model = table_of([example(0), example(1)], dropout=0.9)
    assert torch.equal(table.choose(data, [1, 0], seed=0, step=0), model.tokens(list(PROMPTS.values())))
    table, data, _ = table_of([example(0, prompts=OWN, lesser=LESS), example(1)], dropout=0.0)
    wanted = torch.stack([model.tokens([OWN["Disc"], PROMPTS["Square"]]), model.tokens(list(PROMPTS.values()))])
    for k in range(20):
        assert torch.equal(table.choose(data, [0, 1], seed=0, step=k), wanted)
    with pytest.raises(TrainingError, match=r"prompt_dropout must be in 0\.\.1, got 1\.5"):
        table_of([example(0)], dropout=1.5)


def test_two_labels_of_an_image_are_never_asked_alike() -> None:
    """One text typed for both, or a form that is another label's prompt: the labels' own prompts stand in."""
    both = {"Disc": "a thing", "Square": "a thing"}
    table, data, model = table_of([example(0, prompts=both)])
    defaults = model.tokens(list(PROMPTS.values()))
    assert torch.equal(table.choose(data, [0], seed=0, step=0)[0], defaults)
    table, data, _ = table_of([example(0, prompts={"Disc": PROMPTS["Square"]})])
    assert torch.equal(table.choose(data, [0], seed=0, step=0)[0], defaults)
    forms = {"Disc": ("a shape", PROMPTS["Square"]), "Square": ("a shape",)}
    table, data, _ = table_of([example(0, lesser=forms)], dropout=1.0)
    assert torch.equal(table.choose(data, [0], seed=0, step=0), defaults)


def test_negative_forms_ask_for_what_is_known_to_be_absent() -> None:
    """In a share of the steps; never where the label is there, nor where it was not looked for."""
    examples = [example(0), example(1), example(2, known=frozenset({"Disc"}))]
    table, data, model = table_of(examples, negatives={"Square": "no square"})
    denial = model.tokens(["no square"])[0]
    hits = torch.zeros(3, 2)
    for k in range(400):
        ids = table.choose(data, [0, 1, 2], seed=0, step=k)
        hits += (ids == denial).all(dim=-1)
    assert hits[1:].sum() == 0
    assert hits[0, 0] == 0
    assert abs(float(hits[0, 1]) / 400 - NEGATIVE_SHARE) < 0.07


def run(folder: Path, **changes: Any) -> bytes:
    own = [example(k, prompts={"Disc": f"disc number {k} at the left"}, lesser=LESS) for k in range(4)]
    arguments: dict[str, Any] = {
        "examples": own,
        "backbone": "nano",
        "labels": LABELS,
        "prompts": PROMPTS,
        "steps": 6,
        "batch": 2,
        "seed": 0,
        "device": "cpu",
        "checkpoint": folder / "checkpoint.pt",
        "checkpoint_steps": 2,
        "on_progress": lambda _: None,
        "should_stop": lambda: False,
        "prompt_dropout": 0.5,
        "negatives": {"Square": "no square"},
    }
    return train(**arguments | changes)


def test_a_killed_training_goes_on_with_the_same_prompts(tmp_path: Path) -> None:
    """To the bit; another dropout or another negative form is another training."""

    class Killed(BaseException):
        """Stands for SIGKILL."""

    def die(progress: Any) -> None:
        if progress.step == 5:
            raise Killed

    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", on_progress=die)
    steps: list[int] = []
    resumed = run(tmp_path / "killed", on_progress=lambda p: steps.append(p.step))
    assert steps == [5, 6]
    assert resumed == whole
    assert read_meta(whole)["prompts"] == PROMPTS
    assert run(tmp_path / "none", prompt_dropout=0.0) != whole
    steps.clear()
    assert run(tmp_path / "killed", negatives=None, on_progress=lambda p: steps.append(p.step)) != whole
    assert steps[0] == 1


def test_a_location_never_validates() -> None:
    """The label's prompt stands in; an own prompt without location is kept; unknown labels are not asked."""
    found = validation_prompts(example(0, prompts={"Disc": "a disc at the left", "Square": "a grey square"}), PROMPTS)
    assert found == {"Disc": PROMPTS["Disc"], "Square": "a grey square"}
    assert validation_prompts(example(0, known=frozenset({"Square"})), PROMPTS) == {"Square": PROMPTS["Square"]}
    # The project's own words are the same for every image: they tell nothing of one.
    fixed = {"Disc": "the disc at the left"}
    assert validation_prompts(example(0), fixed) == fixed


class Asked:
    """A predictor that keeps what it is asked and finds nothing."""

    def __init__(self) -> None:
        self.prompts: list[dict[str, str]] = []

    def predict(self, image: Any, *, prompts: Mapping[str, str], **how: Any) -> dict[str, LabelPrediction]:
        self.prompts.append(dict(prompts))
        none = np.zeros(image.shape[:2], dtype=np.bool_)
        return {label: LabelPrediction(none, 0.0, 0.0, 0.0, 0.0, 0.0, "monte-carlo", 1) for label in prompts}

    def sample_logits(self, image: Any, *, prompt: str, **how: Any) -> Any:
        self.prompts.append({"": prompt})
        return np.random.default_rng(0).normal(size=(2, 32, 32)).astype(np.float32)


def test_measures_ask_by_each_images_prompt_and_skip_what_is_unknown() -> None:
    """Dice and temperature of known labels alone; a label that no image knows has no figures."""
    examples = [
        example(0, prompts={"Disc": "a disc at the left"}),
        example(1, prompts={"Disc": "a round disc"}, known=frozenset({"Disc"})),
    ]
    how: dict[str, Any] = {"samples": 1, "threshold": 0.5, "min_speck_area": 0, "max_hole_area": 0}
    asked: Any = Asked()
    found = measure(asked, examples, PROMPTS, **how)
    assert asked.prompts == [PROMPTS, {"Disc": "a round disc"}]
    # Nothing was found: right where the square is absent, wrong for both discs.
    assert found == {"Disc": [0.0, 0.0], "Square": [1.0]}
    asked = Asked()
    choose_temperature(asked, examples, PROMPTS, tick=lambda what, done, of: None)
    assert [each[""] for each in asked.prompts] == [PROMPTS["Disc"], PROMPTS["Square"], "a round disc"]
    blind = [replace(each, known=frozenset()) for each in examples]
    assert measure(asked, blind, PROMPTS, **how) == {"Disc": [], "Square": []}
    assert report_labels(asked, blind, PROMPTS, temperature=1.0, how=how, tick=lambda what, done, of: None) == {}
    assert choose_temperature(asked, blind, PROMPTS, tick=lambda what, done, of: None)[0] == 1.0
    with pytest.raises(ValueError, match="none of the 2 examples was looked through for 'Disc'"):
        evaluate(asked, blind, PROMPTS, **how)
