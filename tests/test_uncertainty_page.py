"""docs/uncertainty.md says what the code computes: the table of discs, and what is said about it."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from maskloop_learner.predict.aggregate import AGGREGATIONS, aggregate
from maskloop_learner.predict.agreement import ANTITHETIC, MEAN_VALUE, MIN_CEILING, MIN_IMAGES, MONTE_CARLO
from maskloop_learner.predict.scores import StreamingScores

PAGE = Path(__file__).parents[1] / "docs" / "uncertainty.md"
SIDE = 224
DISCS = [(radius, width) for width in (1, 3) for radius in (5, 20, 80)]
EDGES = {1: "sharp", 3: "blurry"}
HAZE = "empty, p = 0.02"


def score(p: torch.Tensor) -> dict[str, float]:
    scores = StreamingScores()
    scores.add(p[None])
    return aggregate(scores.result().predictive_entropy.numpy(), (p > 0.5).numpy())


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, float]]:
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    distance = torch.from_numpy(np.hypot(x, y))
    found = {f"r = {r}, {EDGES[w]}": score(((r - distance) / w).sigmoid()) for r, w in DISCS}
    return found | {HAZE: score(torch.full((SIDE, SIDE), 0.02))}


def test_the_table_of_discs_is_what_the_code_measures(measured: dict[str, dict[str, float]]) -> None:
    """To the last digit that is printed."""
    formats = dict(zip(AGGREGATIONS, (".4f", ".3f", ".3f", ".3f", ".2f"), strict=True))
    rows = [[name, *(format(each[key], formats[key]) for key in AGGREGATIONS)] for name, each in measured.items()]
    head = ["Image", *(f"`{name}`" for name in AGGREGATIONS)]
    table = "\n".join(["| " + " | ".join(row) + " |" for row in [head, *rows]])
    table = table.replace("\n", "\n" + "|---" * len(head) + "|\n", 1) + "\n"
    assert f"\n\n{table}\n" in PAGE.read_text(), f"the table in {PAGE.name} should be:\n{table}"


def test_what_the_page_says_of_the_table_is_so(measured: dict[str, dict[str, float]]) -> None:
    sharp, blurry = ([measured[f"r = {r}, {edge}"] for r in (5, 20, 80)] for edge in EDGES.values())
    haze = measured[HAZE]
    assert sharp[2]["mean"] / sharp[0]["mean"] == pytest.approx(16, abs=0.5)
    assert haze["mean"] == pytest.approx(blurry[2]["mean"], rel=0.02)
    for group in sharp, blurry:
        band = [each["foreground_band"] for each in group]
        assert band == sorted(band, reverse=True)
    assert min(each["patch_max"] for each in blurry) > 2 * max(each["patch_max"] for each in sharp)
    assert max(each["patch_max"] for each in blurry) < 1.05 * min(each["patch_max"] for each in blurry)
    assert sharp[2]["top_q"] > blurry[1]["top_q"]
    assert [each["top_q"] for each in sharp] == sorted(each["top_q"] for each in sharp)
    strip = math.pi**2 / (3 * math.log(2))
    assert round(strip, 2) == 4.75
    for each, width in [(each, 1) for each in sharp] + [(each, 3) for each in blurry[1:]]:
        assert each["boundary_norm"] == pytest.approx(strip * width, rel=0.03)
    assert blurry[0]["boundary_norm"] == pytest.approx(1.12 * 3 * strip, rel=0.005)
    assert haze["boundary_norm"] < min(each["boundary_norm"] for each in sharp)


def test_the_page_names_all_there_is() -> None:
    """Aggregations, ways of sampling and the limits in the code."""
    text = PAGE.read_text()
    for name in (*AGGREGATIONS, MEAN_VALUE, ANTITHETIC, MONTE_CARLO):
        assert f"| `{name}` |" in text
    assert f"fewer than {MIN_IMAGES} images" in text
    assert f"below\n{MIN_CEILING}" in text


def test_the_two_samples_of_the_page_have_these_values() -> None:
    for pair, wanted in (((0.5, 0.5), (1, 1, 0)), ((0.0, 1.0), (1, 0, 1))):
        scores = StreamingScores()
        scores.add(torch.tensor(pair).view(2, 1, 1))
        got = scores.result()
        found = (got.predictive_entropy, got.expected_entropy, got.mutual_information)
        assert tuple(x.item() for x in found) == wanted


def test_variance_of_close_samples_is_near_the_mutual_information() -> None:
    """As the page says: MI x 2 ln 2 x p (1 - p)."""
    for centre in (0.1, 0.5, 0.8):
        scores = StreamingScores()
        scores.add(torch.tensor([centre - 0.02, centre + 0.02]).view(2, 1, 1))
        got = scores.result()
        near = got.mutual_information * 2 * math.log(2) * centre * (1 - centre)
        assert near.item() == pytest.approx(got.variance.item(), rel=0.05)
