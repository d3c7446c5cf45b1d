"""Going on from an earlier model with replay, and ending early by held-out images."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_script import PROMPTS, arguments, example

from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.model.checkpoint import CheckpointError, load_weights, read_meta, save_weights
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.train import loop
from maskloop_learner.train.examples import Example, gather_examples
from maskloop_learner.train.holdout import Examiner, Watch, hold_out, take
from maskloop_learner.train.loop import TrainingError, WarmStart, train
from maskloop_learner.train.schedule import Order, pick

LABELS = list(PROMPTS)


def run(folder: Path, steps: int = 4, **changes: Any) -> bytes:
    return train(**arguments(folder, "plain", steps) | {"checkpoint_steps": 100} | changes)


def test_replay_takes_its_share_of_the_steps_and_everyone_gets_a_turn() -> None:
    fresh, old = [7, 8, 9], [0, 1, 2, 3, 4]
    for share, batch in ((0.5, 4), (0.5, 1), (1 / 3, 4), (0.0, 3), (1.0, 3)):
        order = Order(fresh, old, replay=share)
        seen = [order.pick(step=k, batch=batch, seed=3) for k in range(60)]
        assert {len(each) for each in seen} == {batch}
        counts = Counter(k for each in seen for k in each)
        replayed = sum(counts[k] for k in old)
        assert abs(replayed - share * 60 * batch) <= 1
        for group in (fresh, old):
            turns = [counts[k] for k in group]
            assert max(turns) - min(turns) <= 1
    each = [Order(fresh, old, replay=0.5).pick(step=k, batch=4, seed=3) for k in range(9)]
    assert all(sum(k in fresh for k in chosen) == 2 for chosen in each)


def test_without_new_or_old_examples_all_come_from_the_others() -> None:
    """A start from the base weights draws as it always did."""
    for k in range(5):
        plain = pick(6, step=k, batch=4, seed=1)
        assert Order(range(6)).pick(step=k, batch=4, seed=1) == plain
        assert Order([5, 6, 7], [], replay=0.5).pick(step=k, batch=1, seed=1)[0] >= 5
        assert set(Order([], [1, 2], replay=0.5).pick(step=k, batch=4, seed=1)) == {1, 2}


def test_a_warm_start_goes_on_from_the_weights(tmp_path: Path) -> None:
    """Its first loss is the model's that it starts from, not the base's; which examples are new makes another run."""
    first = run(tmp_path / "first", steps=12)
    losses: dict[str, float] = {}

    def note(name: str) -> Any:
        return lambda p: losses.setdefault(name, p.loss)

    warm = WarmStart(initial=first, fresh=None)
    a = run(tmp_path / "warm", steps=1, warm=warm, on_progress=note("warm"))
    run(tmp_path / "base", steps=1, on_progress=note("base"))
    assert losses["warm"] < losses["base"] - 0.02
    assert read_meta(a)["labels"] == LABELS
    seen: list[int] = []
    other = WarmStart(initial=first, fresh=frozenset({0}))
    run(tmp_path / "warm", steps=1, warm=other, on_progress=lambda p: seen.append(p.step))
    assert seen == [1]


def test_a_warm_start_keeps_what_does_not_learn_and_how_pixels_are_fed(tmp_path: Path) -> None:
    """Frozen rows stay; a model that is fed as published stays so, whatever the backbone does."""
    model = MedCLIPSeg(BACKBONES["nano"], seed=4)
    model.preprocessing = "official"
    initial = save_weights(model, meta={})
    found = run(tmp_path, steps=1, warm=WarmStart(initial=initial))
    assert read_meta(found)["preprocessing"] == "official"
    trained = load_weights(found, device="cpu").clip.token_embedding.weight
    assert torch.equal(trained, model.clip.token_embedding.weight)
    with pytest.raises(CheckpointError, match="has backbone 'nano', not 'pubmedclip'"):
        run(tmp_path / "other", backbone="pubmedclip", warm=WarmStart(initial=initial), examples=[example(1)])


def gathered(examples: list[Example]) -> Any:
    return gather_examples(examples, labels=LABELS, size=16)


def test_held_out_examples_come_by_whole_groups_and_never_take_a_labels_last_image() -> None:
    examples = [replace(example(k), group=f"patient-{k // 3}") for k in range(40)]
    data = gathered(examples)
    held = hold_out(data)
    assert 3 <= len(held) <= 6
    groups = {data.groups[k] for k in held}
    assert all((data.groups[k] in groups) == (k in held) for k in range(40))
    order = list(reversed(examples))
    assert {order[k].name for k in hold_out(gathered(order))} == {examples[k].name for k in held}
    rare = [replace(e, masks={"Disc": e.masks["Disc"]} | ({"Square": e.masks["Disc"]} if k in held[:2] else {}))
            for k, e in enumerate(examples)]  # fmt: skip
    spared = hold_out(gathered(rare))
    assert any(k not in spared for k in held[:2])
    assert hold_out(gathered(examples[:12])) == []
    assert hold_out(gathered([replace(e, group="one") for e in examples])) == []


def test_a_location_is_not_asked_of_held_out_examples() -> None:
    own = {"Disc": "a disc at the top left", "Square": "a grey square"}
    held = take(gathered([replace(example(1), prompts=own), example(2)]), [0])
    assert held.prompts == [{"Square": "a grey square"}]
    assert held.names == ["image-1"]


def test_the_best_weights_are_kept_and_patience_ends() -> None:
    watch = Watch(2, every=5)
    weights = {"w": torch.zeros(1)}
    for step, loss in ((0, 0.9), (5, 0.5), (10, 0.6), (15, 0.5)):
        assert watch.due(step, 100)
        weights["w"][0] = step
        watch.note(step, loss, weights)
        assert not watch.due(step, 100)
    assert watch.ended
    assert watch.step == 5
    assert watch.weights is not None
    assert float(watch.weights["w"]) == 5
    assert not watch.due(16, 100)
    assert watch.due(100, 100)


def test_training_ends_early_with_the_best_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks begin halfway; losses that rise after the second: the result is that of the steps until then."""
    looks = iter([0.9, 0.5, 0.6, 0.7])

    class Told(Examiner):
        def look(self, tick: Any) -> float:
            return next(looks)

    monkeypatch.setattr(loop, "Examiner", Told)
    seen: list[tuple[int, int]] = []
    found = run(tmp_path, steps=8, patience=2, on_progress=lambda p: seen.append((p.step, p.steps)))
    assert seen[-2:] == [(7, 8), (7, 7)]
    assert read_meta(found)["best_step"] == 5
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    best = dict(load_weights(found, device="cpu").named_parameters())
    for name, value in state["watch"]["weights"].items():
        assert torch.equal(value, best[name]), name
    assert any(not torch.equal(state["model"][name], best[name]) for name in best)
    again = run(tmp_path, steps=8, patience=2, on_progress=lambda p: seen.append((p.step, p.steps)))
    assert again == found
    assert seen[-1] == (7, 7)


def test_early_stopping_with_few_examples_is_a_plain_training(tmp_path: Path) -> None:
    few = [example(k) for k in range(6)]
    stopped = run(tmp_path / "a", steps=2, patience=1, examples=few)
    assert stopped == run(tmp_path / "b", steps=2, examples=few)
    with pytest.raises(TrainingError, match="at least one"):
        run(tmp_path / "c", examples=[], patience=1)
