"""Ways to sample: which go together, what noise each sample gets, how near few samples come, and the temperature."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.model.checkpoint import save_weights
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.predict.noise import digest_text, draw_noise, sample_seed
from maskloop_learner.predict.predictor import Predictor
from maskloop_learner.predict.sampling import FIDELITIES, PUBLISHED, Method, Sampling, draw_chunks
from maskloop_learner.predict.scores import binary_entropy

CPU = torch.device("cpu")
SHAPES = [((3, 4), (5, 4)), ((3, 4), (5, 4))]
QUESTION: dict[str, str] = {"version": "v", "image_digest": "i", "prompt_digest": "p"}
IMAGE = np.random.default_rng(4).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """nano whose values are noisy: with first weights samples would hardly differ."""
    model = MedCLIPSeg(BACKBONES["nano"], seed=6)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("v_proj.bias"):
                parameter[len(parameter) // 2 :] += 3
    return Predictor(weights=save_weights(model, meta={}), device="cpu")


def draw(sampling: Sampling, *, chunk: int, **changes: str) -> list[list[tuple[Tensor, Tensor]] | None]:
    return list(draw_chunks(sampling, shapes=SHAPES, chunk=chunk, device=CPU, **{**QUESTION, **changes}))


def noise_of(sampling: Sampling, *, chunk: int, **changes: str) -> list[Tensor]:
    """Per sample all of its noise in a row, in the order of the samples."""
    rows = []
    for noise in draw(sampling, chunk=chunk, **changes):
        assert noise is not None
        rows += list(torch.cat([x.flatten(1) for pair in noise for x in pair], dim=1))
    return rows


@pytest.mark.parametrize(
    ("method", "samples", "named"),
    [
        ("bootstrap", 3, "method must be one of monte-carlo, antithetic, mean-value, got 'bootstrap'"),
        ("monte-carlo", 0, "samples must be at least 1, got 0"),
        ("antithetic", -2, "samples must be at least 1, got -2"),
        ("mean-value", 2, "one pass: samples must be 1, got 2"),
        ("antithetic", 5, "pairs: samples must be even, got 5"),
    ],
)
def test_what_does_not_go_together_is_named(method: Any, samples: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Sampling(method, samples)


def test_fidelities_are_the_published_sampling_and_one_pass() -> None:
    assert Sampling("monte-carlo", 30) == PUBLISHED == FIDELITIES["show"] == FIDELITIES["exact"]
    assert FIDELITIES["rank"] == Sampling("mean-value", 1)
    with pytest.raises(TypeError):
        FIDELITIES["rank"] = PUBLISHED  # type: ignore[index]


def test_a_samples_noise_depends_on_the_question_and_its_number_alone() -> None:
    """Neither on the chunk nor on how many samples are drawn."""
    seven = noise_of(Sampling("monte-carlo", 7), chunk=7)
    assert len(seven) == 7
    for chunk, samples in ((1, 7), (3, 7), (10, 7), (2, 4)):
        for got, want in zip(noise_of(Sampling("monte-carlo", samples), chunk=chunk), seven, strict=False):
            assert torch.equal(got, want)
    for k in range(7):
        [(a, b), *_] = draw_noise(SHAPES, [sample_seed(**QUESTION, sample=k)], CPU)
        assert torch.equal(torch.cat([a.flatten(), b.flatten()]), seven[k][: a.numel() + b.numel()])
    for changes in ({"version": "w"}, {"image_digest": "j"}, {"prompt_digest": "q"}):
        others = noise_of(Sampling("monte-carlo", 7), chunk=7, **changes)
        assert not any(torch.equal(a, b) for a, b in zip(others, seven, strict=True))
    assert len({tuple(row.tolist()) for row in seven}) == 7


@pytest.mark.parametrize(("chunk", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (3, [3, 2]), (5, [5]), (8, [5])])
def test_the_last_chunk_is_what_is_left(chunk: int, sizes: list[int]) -> None:
    assert [len(n[0][0]) for n in draw(Sampling("monte-carlo", 5), chunk=chunk) if n is not None] == sizes


@pytest.mark.parametrize(("chunk", "sizes"), [(1, [2] * 5), (2, [2] * 5), (3, [2] * 5), (5, [4, 4, 2]), (16, [10])])
def test_pairs_are_exact_negatives_and_never_parted(chunk: int, sizes: list[int]) -> None:
    chunks = draw(Sampling("antithetic", 10), chunk=chunk)
    assert [len(n[0][0]) for n in chunks if n is not None] == sizes
    for noise in chunks:
        assert noise is not None
        for x in (x for pair in noise for x in pair):
            half = len(x) // 2
            assert torch.equal(x[:half], -x[half:])
            assert float(x.sum(dim=0).abs().max()) <= 1e-6
            assert float(x.std()) > 0.5


def test_the_first_of_each_pair_is_the_independent_sample_of_its_number() -> None:
    plain = noise_of(Sampling("monte-carlo", 6), chunk=6)
    paired = noise_of(Sampling("antithetic", 6), chunk=6)
    for place, k in enumerate((0, 2, 4)):
        assert torch.equal(paired[place], plain[k])
        assert torch.equal(paired[place + 3], -plain[k])


def test_the_mean_value_pass_has_no_noise() -> None:
    assert draw(Sampling("mean-value", 1), chunk=5) == [None]


def test_noise_is_standard_normal() -> None:
    rows = torch.cat(noise_of(Sampling("monte-carlo", 400), chunk=50))
    assert abs(float(rows.mean())) < 4 / len(rows) ** 0.5
    assert float(rows.std()) == pytest.approx(1, abs=4 / (2 * len(rows)) ** 0.5)


def test_pairs_come_nearer_to_the_mean_than_independent_samples(predictor: Predictor) -> None:
    """Over twelve questions, against 160 samples: odd errors cancel, so the mean square error falls by half or more."""

    def mean_probability(method: Method, samples: int, version: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        logits = predictor.sample_logits(
            IMAGE, prompt="lesion", sampling=Sampling(method, samples), version=version, image_digest="a"
        )
        found: NDArray[np.float64] = (1 / (1 + np.exp(-logits.astype(np.float64)))).mean(axis=0)
        return found

    truth = mean_probability("monte-carlo", 160, "truth")
    errors: dict[Method, float] = {}
    methods: tuple[Method, ...] = ("monte-carlo", "antithetic")
    for method in methods:
        found = [mean_probability(method, 4, f"run {k}") - truth for k in range(12)]
        errors[method] = float(np.mean([np.square(each).mean() for each in found]))
    assert errors["monte-carlo"] > 1e-7
    assert errors["antithetic"] < 0.7 * errors["monte-carlo"], errors


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(
    "sampling", [Sampling("monte-carlo", 12), Sampling("antithetic", 4), Sampling("mean-value", 1)]
)
def test_temperature_divides_each_samples_logits(predictor: Predictor, sampling: Sampling, temperature: float) -> None:
    """Before the sigmoid, so before the mean over samples."""
    question: dict[str, Any] = {"version": "v", "image_digest": "a"}
    found = predictor.predict(
        IMAGE,
        prompts={"Lesion": "lesion"},
        method=sampling.method,
        samples=sampling.samples,
        threshold=0.5,
        min_speck_area=0,
        max_hole_area=0,
        temperature=temperature,
        **question,
    )["Lesion"]
    logits = torch.from_numpy(predictor.sample_logits(IMAGE, prompt="lesion", sampling=sampling, **question))
    assert logits.shape == (sampling.samples, 128, 128)
    p = (logits.double() / temperature).sigmoid()
    assert found.predictive_entropy == pytest.approx(float(binary_entropy(p.mean(0)).mean()), abs=1e-6)
    assert found.expected_entropy == pytest.approx(float(binary_entropy(p).mean()), abs=1e-6)
    assert found.variance == pytest.approx(float(p.var(0, correction=0).mean()), abs=1e-6)
    assert (found.method, found.samples) == (sampling.method, sampling.samples)


def test_a_prompt_is_read_once_and_told_apart_by_its_bytes(predictor: Predictor) -> None:
    assert digest_text("lesion") != digest_text("lesion ")
    first = predictor.sample_logits(IMAGE, prompt="lesion", sampling=PUBLISHED, version="v", image_digest="a")
    again = predictor.sample_logits(IMAGE, prompt="lesion", sampling=PUBLISHED, version="v", image_digest="a")
    assert first.tobytes() == again.tobytes()
    assert len(np.unique(first.std(axis=0))) > 1000


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_none_is_named(predictor: Predictor, temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be above 0"):
        predictor.predict(
            IMAGE,
            prompts={"Lesion": "lesion"},
            samples=1,
            threshold=0.5,
            min_speck_area=0,
            max_hole_area=0,
            version="v",
            image_digest="a",
            temperature=temperature,
        )
