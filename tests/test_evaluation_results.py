"""Figures for each image, their summary and their table."""

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from looks import Drawn, make_look, square

from maskloop_learner.evaluate.calibration import IMAGES, SIDE, CalibrationSample, is_sampled, pick_lines
from maskloop_learner.evaluate.report import Evaluation
from maskloop_learner.evaluate.results import ImageResult, show, summarise, to_csv, to_text
from maskloop_learner.evaluate.run import Case, Look, evaluate_cases

SIZE = (30, 40)
NOTHING = np.zeros(SIZE, dtype=bool)
LESION = square(SIZE, 5, 5, 10)


def results() -> list[ImageResult]:
    """A perfect hit, a half one, a miss, a false alarm and a rightly empty one."""
    aggregates = {"predictive_entropy": {"mean": 0.1, "patch_max": 0.5}}
    pairs = [
        (LESION, LESION, 0.1),
        (square(SIZE, 10, 5, 10), LESION, 0.2),
        (NOTHING, LESION, 0.5),
        (LESION, NOTHING, 0.4),
        (NOTHING, NOTHING, 0.0),
    ]
    return [
        make_look(found=found, truth=truth, entropy=entropy, name=f"{n}.png", aggregates=aggregates).result
        for n, (found, truth, entropy) in enumerate(pairs)
    ]


def test_a_result_has_areas_overlap_and_distances() -> None:
    """In closed form: two squares of 10 that share half of their area, 5 pixels apart."""
    half = results()[1]
    assert (half.area_found, half.area_truth) == (100, 100)
    assert half.dice == pytest.approx(0.5)
    assert half.iou == pytest.approx(1 / 3)
    assert half.hd95 == pytest.approx(5)
    assert half.nsd == pytest.approx(0.5)
    assert results()[2].hd95 == pytest.approx(math.hypot(*SIZE))


def test_the_summary_keeps_lesions_and_empty_images_apart() -> None:
    """A mean over both kinds hides that the lesions are found badly."""
    figures = summarise(results())["tumor"]
    assert figures["images"] == 5
    assert figures["dice"]["mean"] == pytest.approx((1 + 0.5 + 0 + 0 + 1) / 5)
    assert figures["dice"]["median"] == pytest.approx(0.5)
    assert figures["dice"]["sd"] == pytest.approx(0.5)
    assert (figures["lesion"]["images"], figures["missed"]) == (3, 1)
    assert figures["lesion"]["dice"]["mean"] == pytest.approx(0.5)
    assert (figures["empty"]["images"], figures["empty"]["false_alarms"]) == (2, 1)
    assert figures["empty"]["dice"]["mean"] == pytest.approx(0.5)
    assert figures["predictive_entropy"]["mean"] == pytest.approx(0.24)


def test_error_rank_says_which_uncertainty_points_at_bad_masks() -> None:
    """Perfectly ranked: 1; constant aggregations have no rank."""
    ordered = [replace(result, uncertainties={"predictive_entropy": 1 - result.dice}) for result in results()]
    rank = summarise(ordered)["tumor"]["error_rank"]
    assert rank["predictive_entropy"] == pytest.approx(1)
    assert rank["predictive_entropy_patch_max"] is None


def test_labels_are_summarised_apart_and_few_images_have_no_spread() -> None:
    """One image: a mean, no standard deviation; none with a lesion: neither."""
    two = [results()[4], replace(results()[0], label="cyst")]
    summary = summarise(two)
    assert list(summary) == ["tumor", "cyst"]
    assert summary["tumor"]["dice"] == {"mean": 1, "sd": None, "median": 1}
    assert summary["tumor"]["lesion"]["dice"] == {"mean": None, "sd": None, "median": None}
    json.dumps(summary, allow_nan=False)
    with pytest.raises(ValueError, match="no results"):
        summarise([])


def test_the_table_reads_back() -> None:
    """Names and prompts with commas, quotes and line breaks come back; every figure is a number."""
    odd = replace(results()[0], name='a, "b".png', prompt="one\ntumor")
    rows = list(csv.DictReader(io.StringIO(to_csv([odd, *results()[1:]]), newline="")))
    assert (rows[0]["name"], rows[0]["prompt"]) == (odd.name, odd.prompt)
    assert [float(row["dice"]) for row in rows] == [result.dice for result in results()]
    assert float(rows[0]["predictive_entropy_patch_max"]) == 0.5
    numbers = rows[0].keys() - {"name", "label", "prompt"}
    assert all(math.isfinite(float(row[key])) for row in rows for key in numbers)
    with pytest.raises(ValueError, match="no results"):
        to_csv([])


def test_what_a_person_is_told() -> None:
    """Means with their spread, misses and false alarms; a dash where there is nothing."""
    said: list[str] = []
    to_text(summarise(results()), say=said.append)
    assert said[0].startswith("tumor: Dice 0.500 ± 0.500, IoU ")
    assert said[1] == "  with a lesion 3: Dice 0.500 ± 0.500, 1 missed; without 2: 1 with a false alarm"
    assert show({"mean": None, "sd": None}) == "-"


def test_each_image_is_asked_for_its_own_prompt_and_a_missing_mask_is_empty() -> None:
    """What the predictor gets, and what is measured against."""
    asked: list[tuple[str, str]] = []

    def predict(image: object, prompts: object, digest: str) -> dict[str, Drawn]:
        asked.append((str(prompts), digest))
        return {"tumor": Drawn(NOTHING, 0.0, 0.1, None)}

    grey = np.zeros((*SIZE, 3), dtype=np.uint8)
    cases = [Case("a", grey, {}, {"tumor": "left"}), Case("b", grey + 1, {"tumor": LESION}, {"tumor": "right"})]
    looks = list(evaluate_cases(cases, predict=predict))
    assert [look.result.prompt for look in looks] == ["left", "right"]
    assert [look.result.dice for look in looks] == [1, 0]
    assert asked[0][0] == "{'tumor': 'left'}"
    assert asked[0][1] != asked[1][1]


def test_calibration_is_reported_from_maps_that_fit_into_memory() -> None:
    """Kept maps are small, of single pixels; a model that says 0.9 and is always right is off by about 0.1."""
    evaluation = Evaluation(total=3, threshold=0.5, pictures=False)
    big = square((600, 300), 100, 50, 200)
    for number in range(3):
        evaluation.add(make_look(found=big, truth=big, name=str(number), entropy=0.1 * number))
    report = evaluation.summary()["tumor"]["calibration"]
    assert report["ece"] == pytest.approx(0.1, abs=0.01)
    assert (report["images"], report["error_auroc"]) == (3, None)
    kept = evaluation.samples["tumor"].probability
    assert {map_.shape for map_ in kept} == {(SIDE, SIDE // 2)}
    assert {float(value) for value in np.unique(kept[0])} == {float(np.float32(0.9)), float(np.float32(0.1))}


def test_calibration_looks_at_evenly_spaced_images_of_a_large_set() -> None:
    """At most IMAGES of them, the first among them; all of a small set."""
    assert all(is_sampled(place, 780) for place in range(780))
    for total in (IMAGES + 1, 10_090):
        chosen = [place for place in range(total) if is_sampled(place, total)]
        assert len(chosen) == IMAGES
        assert chosen[0] == 0
        assert max(np.diff(chosen)) <= math.ceil(total / IMAGES)


def test_lines_are_evenly_spaced() -> None:
    """All of a small image, every second of one twice as large, never none."""
    assert list(pick_lines(5, 5)) == [0, 1, 2, 3, 4]
    assert list(pick_lines(4, 2 * SIDE)) == [0, 2]
    assert list(pick_lines(1, 100 * SIDE)) == [0]


def test_maps_that_were_not_kept_are_asked_for() -> None:
    """The message says how."""
    look = make_look(found=LESION, truth=LESION)
    bare = Look(look.case, Drawn(LESION, 0.9, 0.1, None), LESION, look.result)
    with pytest.raises(ValueError, match="keep_maps=True"):
        CalibrationSample().add(bare)
    with pytest.raises(ValueError, match="keep_maps=True"):
        Evaluation(total=1, threshold=0.5).add(bare)
