"""`maskloop models backbones`, `fetch`, `import` and `pull`, typed as a person would, on a small CLIP."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from official_fixture import official_names, write_official, write_vocabulary
from pool_fixture import add_project
from safetensors.torch import save_file
from torch import Tensor

from maskloop_backend.cli import main
from maskloop_learner.model.backbones import BackboneSpec
from maskloop_learner.model.bases import Bases
from maskloop_learner.model.checkpoint import load_weights, read_meta
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model
from maskloop_learner.settings import Settings, get_settings

Command = Callable[..., tuple[int, str, str]]
FILE = "MedCLIPSeg_clip_ViT-B-16_best_dice.pth"


@pytest.fixture
def command(
    settings: Settings, tiny: BackboneSpec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """`maskloop ...` on the test's home folder, without a network: exit code, stdout, stderr in one line."""
    monkeypatch.setenv("MASKLOOP_HOME", str(settings.home))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    get_settings.cache_clear()

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["maskloop", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, " ".join(said.err.split())

    return call


@pytest.fixture
def released(tiny: BackboneSpec, tiny_tensors: dict[str, Tensor], tmp_path: Path) -> Path:
    """A released file."""
    return write_official(tmp_path / FILE, official_names(tiny, tiny_tensors), best=True)


def parse(out: str) -> Any:
    """The JSON document that a command printed."""
    return json.loads(out)


def test_a_backbone_comes_from_a_file(
    command: Command, settings: Settings, towers: dict[str, Tensor], tmp_path: Path
) -> None:
    before = {item["name"]: item for item in parse(command("models", "backbones", "--json")[1])}
    assert (before["nano"]["installed"], before["clip-vit-b16"]["installed"]) == (True, False)
    assert before["clip-vit-b16"]["licence"] == "MIT"
    assert "maskloop models fetch NAME" in command("models", "backbones")[1]
    path = tmp_path / "weights.bin"
    torch.save(towers, path)
    code, out, err = command("models", "fetch", "clip-vit-b16", "--from", path)
    assert code == 0, err
    after = {item["name"]: item for item in parse(command("models", "backbones", "--json")[1])}["clip-vit-b16"]
    assert after["installed"]
    assert after["digest"] in out
    assert after["from"] == str(path)
    assert Bases(settings.home / "backbones").list()[0].digests == (after["digest"],)


def test_the_hubs_own_cache_serves_without_a_network(
    command: Command,
    settings: Settings,
    towers: dict[str, Tensor],
    released: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    commit = "c0ffee" + "0" * 34
    for repo in ("timm--vit_base_patch16_clip_224.openai", "owner--repo"):
        (tmp_path / "cache" / f"models--{repo}" / "refs").mkdir(parents=True)
        (tmp_path / "cache" / f"models--{repo}" / "refs" / "main").write_text(commit)
        (tmp_path / "cache" / f"models--{repo}" / "snapshots" / commit / "BUSI").mkdir(parents=True)
    found = tmp_path / "cache" / "models--timm--vit_base_patch16_clip_224.openai" / "snapshots" / commit
    save_file(towers, found / "open_clip_model.safetensors")
    code, _, err = command("models", "fetch", "clip-vit-b16")
    assert code == 0, err
    base = Bases(settings.home / "backbones").list()[0].base
    assert base is not None
    assert base.source == "timm/vit_base_patch16_clip_224.openai/open_clip_model.safetensors"
    assert base.revision == commit
    copy = tmp_path / "cache" / "models--owner--repo" / "snapshots" / commit / "BUSI" / FILE
    copy.write_bytes(released.read_bytes())
    out_file = tmp_path / "out.safetensors"
    code, _, err = command("models", "import", f"owner/repo/BUSI/{FILE}", "--out", out_file, *LABELLED)
    assert code == 0, err
    meta = read_meta(out_file.read_bytes())
    assert (meta["source"], meta["source_revision"]) == (f"owner/repo/BUSI/{FILE}", commit)
    assert copy.exists()


def test_a_vocabulary_comes_from_a_folder(command: Command, settings: Settings, tmp_path: Path) -> None:
    folder = write_vocabulary(tmp_path / "copied" / "vocab.txt").parent
    code, out, err = command("models", "fetch", "unimedclip", "--from", folder / "vocab.txt")
    assert (code, out) == (0, "unimedclip has its vocabulary\n"), err
    assert (settings.home / "backbones" / "unimedclip" / "tokenizer_config.json").is_file()
    code, _, err = command("models", "fetch", "unimedclip", "--from", folder)
    assert code == 1
    assert "has no unimed_clip_vit_b16.pt" in err


def test_offline_without_weights_is_one_line_with_the_way_out(command: Command, tmp_path: Path) -> None:
    for words in (("fetch", "clip-vit-b16"), ("pull", "medclipseg/busi", "--out", tmp_path / "x", *LABELLED)):
        code, _, err = command("models", *words)
        assert code == 1
        assert "HF_HUB_OFFLINE forbids fetching it" in err
        assert "Traceback" not in err


LABELLED = ("--label", "Tumor", "--prompt", "breast tumor")


def test_a_released_checkpoint_becomes_a_weights_file(
    command: Command, settings: Settings, released: Path, tmp_path: Path, tiny_tensors: dict[str, Tensor]
) -> None:
    out_file = tmp_path / "busi.safetensors"
    code, out, err = command("models", "import", released, "--out", out_file, *LABELLED, "--json")
    assert code == 0, err
    told = parse(out)
    data = out_file.read_bytes()
    assert told["metrics"] == {"epoch": 99.0, "best_dice": 0.8125}
    assert read_meta(data)["prompts"] == {"Tumor": "breast tumor"}
    assert read_meta(data)["base"] == told["base"]
    model = load_weights(data, device="cpu", bases=Bases(settings.home / "backbones"))
    assert torch.equal(model.get_parameter("head.mask_head.0.weight"), tiny_tensors["head.mask_head.0.weight"])


def test_a_released_checkpoint_becomes_a_model_and_the_champion(
    command: Command, pool: Pool, released: Path, settings: Settings
) -> None:
    project = add_project(pool)
    code, out, err = command("models", "import", released, "--project", "7", "--no-promote")
    assert code == 0, err
    assert "is now model 1." in out
    with pool.read() as session:
        assert session.get(Champion, project) is None
    code, out, err = command("models", "import", released, "--project", "7", "--promote", "--json")
    assert code == 0, err
    told = parse(out)
    with pool.read() as session:
        model, champion = session.get_one(Model, told["model"]), session.get_one(Champion, project)
    assert (model.backbone, model.labels) == ("clip-vit-b16", ["Tumor"])
    assert model.config["imported"]["source"] == str(released)
    assert model.metrics["imported"]["best_dice"] == 0.8125
    assert (champion.model_id, champion.version_id) == (model.id, told["version"])
    meta = read_meta(pool.store.get("weights", model.weights_digest))
    assert meta["prompts"] == {"Tumor": "tumor"}
    listed = parse(command("models", "--json")[1])
    assert [(item["model"], item["champion"], item["dice"]) for item in listed] == [(1, False, {}), (2, True, {})]
    assert "champion" in command("models", "--project", "7")[1]


def test_a_project_without_a_model_serves_what_is_imported(command: Command, pool: Pool, released: Path) -> None:
    """Choosing a checkpoint for it is enough; where a model is served already, the next one waits for --promote."""
    project = add_project(pool)
    code, out, err = command("models", "import", released, "--project", "7")
    assert code == 0, err
    with pool.read() as session:
        champion = session.get_one(Champion, project)
    assert champion.model_id == 1
    assert f"is now model 1, which the project serves as {champion.version_id}." in out
    assert "is now model 2." in command("models", "import", released, "--project", "7")[1]
    with pool.read() as session:
        assert session.get_one(Champion, project).model_id == 1


def test_what_cannot_be_done_is_one_line(command: Command, pool: Pool, released: Path, tmp_path: Path) -> None:
    add_project(pool)
    renamed = released.with_name("model.pth")
    released.rename(renamed)
    out = ("--out", tmp_path / "x")
    for words, why in (
        (("import", renamed, *out, *LABELLED), "name it with --backbone"),
        (("import", renamed, *out, *LABELLED, "--backbone", "pubmedclip"), "does not fit MedCLIPSeg on 'pubmedclip'"),
        (("import", renamed, *out, *LABELLED, "--backbone", "nano"), "ships with Maskloop"),
        (("import", renamed, *out, *LABELLED, "--backbone", "huge"), "backbone must be one of"),
        (("import", renamed, *LABELLED), "say where the model goes"),
        (("import", renamed, *out), "name what the model draws"),
        (("import", renamed, *out, "--label", "Tumor"), "every --label needs its --prompt"),
        (("import", renamed, *out, *LABELLED, "--promote"), "--promote needs --project"),
        (("import", renamed, "--project", "7", "--label", "Cyst", "--prompt", "cyst"), "has no label 'Cyst'"),
        (("import", "none.pth", *out, *LABELLED), "there is no file 'none.pth'"),
        (("pull", "medclipseg/lungs", *out, *LABELLED), "got 'medclipseg/lungs'"),
        (("fetch", "nano"), "ships with Maskloop"),
        (("fetch", "clip-vit-b16", "--from", tmp_path / "none"), "there is no file or folder"),
        (("fetch", "clip-vit-b16", "--from", renamed), "maskloop models import"),
    ):
        code, _, err = command("models", *words)
        assert (code, why in err, "Traceback" in err) == (1, True, False), (words, err)
