"""A released checkpoint, taken over, gives the logits of the published equations on the released tensors."""

from pathlib import Path

import pytest
import torch
from official_fixture import TINY, official_names, random_model, write_official
from reference_medclipseg import forward
from torch import Tensor

from maskloop_learner.model.backbones import BACKBONES, BackboneError, BackboneSpec
from maskloop_learner.model.bases import Bases
from maskloop_learner.model.checkpoint import CheckpointError, load_weights, read_meta
from maskloop_learner.model.official import convert, name_backbone, read_released

PROMPTS = {"Tumor": "tumor in the breast ultrasound"}
FILES = {
    "clip-vit-b16": "MedCLIPSeg_clip_ViT-B-16_latest.pth",
    "pubmedclip": "MedCLIPSeg_pubmedclip_ViT-B-32_latest.pth",
    "biomedclip": "MedCLIPSeg_biomedclip_ViT-B-16_best_dice.pth",
    "unimedclip": "MedCLIPSeg_unimedclip_ViT-B-16_latest.pth",
}


def example(spec: BackboneSpec) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """One image, one prompt with padding, and the noise of one sample."""
    g = torch.Generator().manual_seed(2)
    images = torch.randn(1, 3, spec.image_size, spec.image_size, generator=g)
    ids = torch.zeros(1, spec.context, dtype=torch.int64)
    ids[0, :5] = torch.tensor([2, 900, 77, 1200, spec.vocabulary - 1])
    patch = spec.clip["vision_cfg"].get("patch_size", 16)
    shape = (1, spec.context, spec.adapter_dim), (1, 1 + (spec.image_size // patch) ** 2, spec.adapter_dim)
    noise = [(torch.randn(shape[0], generator=g), torch.randn(shape[1], generator=g)) for _ in spec.fusion]
    return images, ids, noise


def check_parity(spec: BackboneSpec, folder: Path) -> None:
    """Write a released file, take it over, load what came of it, and compare."""
    tensors = random_model(spec)
    path = write_official(folder / FILES[spec.name], official_names(spec, tensors), best="best" in FILES[spec.name])
    bases = Bases(folder / "backbones")
    released = read_released(path)
    assert released.spec is spec
    made = convert(released, bases=bases, labels=["Tumor"], prompts=PROMPTS, source="a test")
    model = load_weights(made.weights, device="cpu", bases=bases)
    assert (model.preprocessing, model.base) == ("official", made.manifest["base"])
    images, ids, noise = example(spec)
    with torch.no_grad():
        wanted, _, _ = forward(spec, tensors, images, ids, noise)
        found = model(images, ids, noise).logits
    assert found.std() > 1e-3
    assert float((found - wanted).abs().max()) < 2e-5 * float(wanted.abs().max() + 1)
    for key, x in stored(tensors).items():
        assert torch.equal(model.get_parameter(key), x), key


# A ViT-B takes seconds to build and a second to run, and there are four.
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FILES))
def test_the_logits_are_those_of_the_released_tensors(name: str, tmp_path: Path) -> None:
    check_parity(BACKBONES[name], tmp_path)


def test_the_logits_of_a_small_clip_are_those_of_the_released_tensors(tiny: BackboneSpec, tmp_path: Path) -> None:
    check_parity(tiny, tmp_path)


def stored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """All that a released file and a model share: the unused temperature is left out."""
    return {name: x for name, x in tensors.items() if name != "clip.logit_scale"}


@pytest.fixture(scope="module")
def state(tiny_tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return official_names(TINY, tiny_tensors)


@pytest.fixture(autouse=True)
def small(request: pytest.FixtureRequest) -> None:
    """All but the slow tests run on the small CLIP."""
    if request.node.get_closest_marker("slow") is None:
        request.getfixturevalue("tiny")


@pytest.mark.parametrize("best", [False, True])
def test_figures_come_along_and_infinity_is_no_figure(best: bool, state: dict[str, Tensor], tmp_path: Path) -> None:
    released = read_released(write_official(tmp_path / FILES["clip-vit-b16"], state, best=best))
    figures = {"best_dice": 0.8125} if best else {"best_loss": None}
    assert released.metrics == {"epoch": 99.0} | figures
    assert len(released.sha256) == 64


def test_the_weights_file_says_where_it_is_from(state: dict[str, Tensor], tmp_path: Path) -> None:
    released = read_released(write_official(tmp_path / FILES["clip-vit-b16"], state, best=True))
    bases = Bases(tmp_path / "backbones")
    made = convert(released, bases=bases, labels=["Tumor"], prompts=PROMPTS, source="repo/file", revision="c0ffee")
    meta = read_meta(made.weights)
    assert meta["source"] == "repo/file"
    assert meta["source_revision"] == "c0ffee"
    assert meta["source_sha256"] == released.sha256
    assert meta["metrics"] == {"epoch": 99.0, "best_dice": 0.8125}
    assert meta["prompts"] == PROMPTS
    assert meta["base"] == bases.base(TINY).digest  # type: ignore[union-attr]
    assert len(made.weights) < 1e6  # adapters and head alone
    again = convert(released, bases=bases, labels=["Tumor"], prompts=PROMPTS, source="repo/file", revision="c0ffee")
    assert again.weights == made.weights


def test_everything_that_is_wrong_is_listed_under_the_published_names(state: dict[str, Tensor], tmp_path: Path) -> None:
    wrong = dict(state)
    del wrong["mask_head.0.bias"]
    wrong["pvl_adapters.10.extra"] = torch.zeros(1)
    wrong["vision_model.proj"] = torch.zeros(3, 4)
    wrong["upscale.0.norm.bias"] = torch.full((32,), float("nan"))
    with pytest.raises(CheckpointError) as caught:
        read_released(write_official(tmp_path / FILES["clip-vit-b16"], wrong))
    for part in (
        "missing mask_head.0.bias",
        "unknown pvl_adapters.10.extra",
        "vision_model.proj has shape (3, 4), not (64, 32)",
        "upscale.0.norm.bias has values that are not finite",
    ):
        assert part in str(caught.value)


def test_a_checkpoint_of_another_backbone_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = write_official(tmp_path / FILES["clip-vit-b16"], state)
    with pytest.raises(CheckpointError, match=r"'pubmedclip'.*missing .* more"):
        read_released(path, BACKBONES["pubmedclip"])
    with pytest.raises(CheckpointError, match="backbone must be one of"):
        read_released(path, BACKBONES["nano"])


def test_other_files_are_refused_with_the_command_for_them(tmp_path: Path) -> None:
    path = tmp_path / FILES["clip-vit-b16"]
    torch.save({"state_dict": {"visual.proj": torch.zeros(64, 32)}}, path)
    with pytest.raises(CheckpointError, match="maskloop models fetch clip-vit-b16 --from"):
        read_released(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(BackboneError, match="is cut short, of another kind"):
        read_released(path)


class Evil:
    """Would run a command when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch /tmp/maskloop-evil",)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / FILES["clip-vit-b16"]
    torch.save({"model": {"pvl_adapters.0": torch.zeros(1)}, "epoch": Evil()}, path)
    with pytest.raises(BackboneError, match="more than tensors and numbers"):
        read_released(path)
    assert not Path("/tmp/maskloop-evil").exists()


def test_the_backbone_is_read_off_the_file_name() -> None:
    assert {name_backbone(f"some/folder/{file}").name for file in FILES.values()} == set(FILES)
    for name in ("model.pth", "MedCLIPSeg_unimedclip_ViT-L-14_latest.pth", "MedCLIPSeg_metaclip_ViT-B-16_latest.pth"):
        with pytest.raises(CheckpointError, match="--backbone"):
            name_backbone(name)
