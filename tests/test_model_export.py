"""Models as files: exported, taken in elsewhere and at home, and refused when a byte is another."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from command_fixture import Command
from pool_fixture import add_project
from registry_fixture import damage, register, small_weights, weights_file

from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.model.checkpoint import save_weights
from maskloop_learner.model.start import build_start
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model
from maskloop_learner.settings import get_settings
from maskloop_learner.train.archive import ArchiveError, is_archive, read_archive, write_archive
from maskloop_learner.train.manifests import load_model_manifest

METRICS = {"validation": {"Tumor": {"challenger": 0.71}}, "decision": "it is better"}


def parse(out: str) -> Any:
    """The JSON document that a command printed."""
    return json.loads(out)


@pytest.fixture(scope="module")
def weights() -> bytes:
    """A model that can be loaded."""
    return save_weights(build_start(BACKBONES["nano"], seed=0, start="random"), meta={})


@pytest.mark.parametrize("name", ["model.zip", "model"])
def test_an_export_is_taken_in_elsewhere(
    command: Command, pool: Pool, weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Same weights, same predictions: temperature and ranking come along, and its manifest is kept in the new one."""
    ranking = {"method": "mean", "samples": 1, "of_samples": 30}
    project = add_project(pool)
    model = register(
        pool, project, weights, config={"seed": 4, "temperature": 1.5, "ranking": ranking}, metrics=METRICS
    )
    out = tmp_path / name
    code, said, err = command("models", "export", "champion", "--out", str(out))
    assert (code, said) == (0, f"Model {model} is in {out}.\n"), err
    assert is_archive(out)
    archive = read_archive(out)
    assert archive.weights == weights
    monkeypatch.setenv("MASKLOOP_HOME", str(tmp_path / "elsewhere"))
    get_settings.cache_clear()
    there = Pool.open(get_settings())
    add_project(there, ls_id=3)
    told = parse(command("models", "import", str(out), "--project", "3", "--json")[1])
    with there.read() as session:
        made, champion = session.get_one(Model, told["model"]), session.get_one(Champion, 1)
    assert (champion.model_id, champion.version_id) == (made.id, told["version"])
    assert (made.config["temperature"], made.config["ranking"]) == (1.5, ranking)
    assert there.store.get("weights", made.weights_digest) == weights
    manifest = load_model_manifest(there.store, str(made.manifest_digest))
    assert manifest["origin"] == archive.manifest
    assert manifest["parent"] is None
    assert command("models", "verify")[0] == 0
    assert "new here" not in command("models", "import", str(out), "--project", "3")[1]
    with there.read() as session:
        assert session.query(Model).count() == 1


def test_an_export_mends_the_model_at_home(command: Command, pool: Pool, weights: bytes, tmp_path: Path) -> None:
    """Damaged, or pruned: it is whole again and the same model."""
    project = add_project(pool)
    model = register(pool, project, weights)
    out = str(tmp_path / "model.zip")
    assert command("models", "export", str(model), "--out", out)[0] == 0
    damage(weights_file(pool, model), "truncated")
    assert command("models", "verify")[0] == 1
    told = parse(command("models", "import", out, "--project", "7", "--json")[1])
    assert (told["model"], told["known"]) == (model, True)
    assert command("models", "verify")[0] == 0
    register(pool, project, small_weights(1))
    register(pool, project, small_weights(2))
    assert parse(command("models", "prune", "--keep", "0", "--yes", "--json")[1])["pruned"] == [model]
    code, _, err = command("models", "export", str(model), "--out", out)
    assert (code, "was pruned" in err) == (1, True)
    assert command("models", "import", out, "--project", "7")[0] == 0
    assert command("models", "verify")[0] == 0
    assert command("models", "promote", str(model))[0] == 0


@pytest.fixture
def folder(pool: Pool, tmp_path: Path) -> Path:
    """An exported model of four numbers."""
    model = register(pool, add_project(pool), small_weights(1), metrics=METRICS)
    with pool.read() as session:
        manifest = pool.store.get("manifests", str(session.get_one(Model, model).manifest_digest))
    for path in (tmp_path / "model", tmp_path / "model.zip"):
        write_archive(path, weights=small_weights(1), manifest=manifest)
    return tmp_path / "model"


def test_the_files_speak_for_themselves(folder: Path) -> None:
    """sha256sum can check them, the card says what the model is, and exporting again gives equal bytes."""
    card = (folder / "README.md").read_text()
    for words in (
        "# A MedCLIPSeg model for Tumor",
        "| Tumor | 0.710 |",
        "The gate: it is better.",
        "not a medical device",
    ):
        assert words in card
    names = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert names == {"weights.safetensors", "manifest.json", "README.md"}
    path, again = folder.with_name("model.zip"), folder.with_name("again.zip")
    write_archive(again, weights=small_weights(1), manifest=(folder / "manifest.json").read_bytes())
    assert again.read_bytes() == path.read_bytes()
    with pytest.raises(ArchiveError, match="is there already"):
        write_archive(folder, weights=b"", manifest=(folder / "manifest.json").read_bytes())


@pytest.mark.parametrize("how", ["truncated", "altered", "removed"])
@pytest.mark.parametrize("name", ["weights.safetensors", "manifest.json", "README.md", "SHA256SUMS"])
def test_another_byte_is_refused(folder: Path, name: str, how: str) -> None:
    assert read_archive(folder).weights == small_weights(1)
    damage(folder / name, how)
    with pytest.raises(ArchiveError, match=str(folder)):
        read_archive(folder)


def test_a_zip_that_grows_is_refused(folder: Path) -> None:
    """No more is unpacked than the manifest announces, and nothing that has another name."""
    path = folder.with_name("bomb.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("manifest.json", "README.md", "SHA256SUMS"):
            archive.write(folder / name, name)
        archive.writestr("weights.safetensors", bytes(50_000_000))
        archive.writestr("../outside", b"x")
    with pytest.raises(ArchiveError, match="more than the"):
        read_archive(path)
    assert not folder.with_name("outside").exists()
    whole = folder.with_name("model.zip")
    damaged = whole.read_bytes()
    whole.write_bytes(damaged[: len(damaged) // 2])
    assert not is_archive(whole)


def test_what_cannot_be_taken_in_is_one_line(command: Command, pool: Pool, folder: Path) -> None:
    add_project(pool, ls_id=8, labels=("Cyst",))
    path = str(folder)
    for words, why in (
        ((path,), "--project PROJECT"),
        ((path, "--project", "8"), "no label is the same"),
        ((path, "--project", "7", "--backbone", "nano"), "give only --project"),
        ((path, "--project", "7"), "do not fit backbone 'nano'"),
    ):
        code, _, err = command("models", "import", *words)
        assert (code, err.count("\n")) == (1, 1), (words, err)
        assert why in err, (words, err)
