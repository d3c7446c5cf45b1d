"""Backbone towers on disk: whole or not at all, found by digest, refused with a list when they do not fit."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from official_fixture import TINY, write_vocabulary
from safetensors.torch import load_file, save_file
from torch import Tensor

from maskloop_learner.model.backbones import BACKBONES, BackboneError
from maskloop_learner.model.bases import Bases, digest_towers
from maskloop_learner.model.checkpoint import load_weights, save_weights
from maskloop_learner.model.construction import build_tokenizer
from maskloop_learner.model.files import write_whole
from maskloop_learner.model.tower_files import name_towers

BERT = BACKBONES["unimedclip"]


@pytest.fixture
def bases(tmp_path: Path) -> Bases:
    return Bases(tmp_path / "backbones")


def saved(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


def test_towers_come_back_as_they_were_and_stay_frozen(bases: Bases, towers: dict[str, Tensor]) -> None:
    digest = bases.add(TINY, towers, source="a test", revision="c0ffee", source_sha256="0" * 64)
    model = bases.build(TINY, seed=3).train()
    assert model.base == digest
    for name, x in towers.items():
        assert torch.equal(model.clip.get_parameter(name), x), name
    assert not any(p.requires_grad for p in model.clip.parameters())
    assert not model.clip.training
    assert model.pvl_adapters.training
    base = bases.base(TINY)
    assert base is not None
    assert (base.digest, base.source, base.revision, base.licence) == (digest, "a test", "c0ffee", "MIT")
    kept = {found.backbone: found for found in bases.list()}
    assert kept["clip-vit-b16"].digests == (digest,)
    assert kept["unimedclip"].base is None


def test_the_adapters_come_from_the_seed_alone(bases: Bases, towers: dict[str, Tensor]) -> None:
    bases.add(TINY, towers, source="a test")
    first, again, other = (bases.build(TINY, seed=seed).get_parameter("head.mask_head.0.weight") for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_half_precision_and_full_have_one_digest_and_take_half_the_disk(
    bases: Bases, towers: dict[str, Tensor]
) -> None:
    halves = {name: x.half() for name, x in towers.items()}
    fulls = {name: x.float() for name, x in halves.items()}
    assert bases.add(TINY, halves, source="half") == bases.add(TINY, fulls, source="full") == digest_towers(fulls)
    path = bases.find(TINY)
    assert {x.dtype for x in load_file(path).values()} == {torch.float16}
    clip = bases.build(TINY).clip
    assert all(torch.equal(clip.get_parameter(name), x) for name, x in fulls.items())


def test_weights_files_find_their_towers_among_several(bases: Bases, towers: dict[str, Tensor], tiny: object) -> None:
    first = bases.add(TINY, towers, source="first")
    data = save_weights(bases.build(TINY, seed=1), meta={})
    other = bases.add(TINY, {**towers, "visual.proj": towers["visual.proj"] + 1}, source="second")
    assert bases.base(TINY).digest == other != first  # type: ignore[union-attr]
    assert load_weights(data, device="cpu", bases=bases).base == first
    bases.add(TINY, towers, source="an import", start=False)
    assert bases.base(TINY).digest == other  # type: ignore[union-attr]


def test_missing_towers_are_named_with_the_command(bases: Bases, towers: dict[str, Tensor]) -> None:
    with pytest.raises(BackboneError, match=r"'clip-vit-b16' are not in .*backbones; .*maskloop models fetch clip-vit"):
        bases.build(TINY)
    with pytest.raises(BackboneError, match="no folder of backbones is set"):
        Bases(None).build(TINY)
    bases.add(TINY, towers, source="a test")
    with pytest.raises(BackboneError, match=r"digest ffff.* import it again"):
        bases.build(TINY, digest="f" * 64)
    with pytest.raises(BackboneError, match="are not in"):
        bases.build(TINY, digest="../../etc/passwd")
    with pytest.raises(BackboneError, match=r"holds? the whole model"):
        bases.build(BACKBONES["nano"])


def test_an_altered_or_damaged_file_is_refused_and_mended(bases: Bases, towers: dict[str, Tensor]) -> None:
    bases.add(TINY, towers, source="a test")
    path = bases.find(TINY)
    save_file({**load_file(path), "visual.proj": torch.zeros(64, 32)}, path)
    with pytest.raises(BackboneError, match="was altered"):
        bases.build(TINY)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(BackboneError, match="is damaged"):
        bases.build(TINY)
    bases.add(TINY, towers, source="a test")
    bases.build(TINY)
    (path.parent / "base.json").write_text("{")
    with pytest.raises(BackboneError, match=r"base.json was altered"):
        bases.build(TINY)


def test_all_that_does_not_fit_is_listed(bases: Bases, towers: dict[str, Tensor]) -> None:
    wrong = {name: x for name, x in towers.items() if name != "ln_final.bias"}
    wrong |= {"extra": torch.zeros(1), "visual.proj": torch.zeros(3), "ln_final.weight": torch.full((64,), torch.inf)}
    with pytest.raises(BackboneError) as caught:
        bases.add(TINY, wrong, source="the file x")
    for part in ("the file x", "missing ln_final.bias", "unknown extra", "visual.proj has shape (3,), not (64, 32)"):
        assert part in str(caught.value)
    assert "ln_final.weight has values that are not finite" in str(caught.value)
    assert not list(bases.folder.rglob("*.safetensors"))  # type: ignore[union-attr]


def test_every_form_of_a_published_file_gives_the_same_towers(
    bases: Bases, towers: dict[str, Tensor], tmp_path: Path
) -> None:
    buffers = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77), "vocab_size": torch.tensor(9)}
    extra = {"logit_scale": torch.tensor(4.6), **buffers}
    save_file({**towers, "logit_scale": torch.tensor(4.6)}, tmp_path / "a.safetensors")
    forms = [
        tmp_path / "a.safetensors",
        saved(tmp_path / "plain.bin", towers | extra),
        saved(tmp_path / "wrapped.pth", {"epoch": 3, "state_dict": towers | extra}),
        saved(tmp_path / "parallel.pt", {"state_dict": {f"module.{name}": x for name, x in towers.items()}}),
    ]
    torch.save(towers, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    wanted = digest_towers(towers)
    for path in (*forms, tmp_path / "old.pt"):
        assert bases.add_file(TINY, path) == wanted, path


def test_the_names_of_the_text_towers_are_told_apart() -> None:
    x = torch.zeros(1)
    raw = {"text_encoder.proj.0.weight": x, "visual.proj": x, "text_encoder.transformer.embeddings.position_ids": x}
    assert set(name_towers(BERT, raw)) == {"text.proj.0.weight", "visual.proj"}
    custom = {"text.token_embedding.weight": x, "text.transformer.resblocks.0.ln_1.bias": x.half(), "visual.proj": x}
    named = name_towers(TINY, custom)
    assert set(named) == {"token_embedding.weight", "transformer.resblocks.0.ln_1.bias", "visual.proj"}
    assert {x.dtype for x in named.values()} == {torch.float32}


def test_files_that_are_no_weights_are_refused(bases: Bases, towers: dict[str, Tensor], tmp_path: Path) -> None:
    scripted = tmp_path / "ViT-B-16.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(scripted))  # type: ignore[no-untyped-call]
    pointer = tmp_path / "pointer.bin"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    whole = saved(tmp_path / "MedCLIPSeg_clip_ViT-B-16_latest.pth", {"model": {"pvl_adapters.0.x": torch.zeros(1)}})
    cut = saved(tmp_path / "cut.bin", towers)
    cut.write_bytes(cut.read_bytes()[:-4000])
    for path, why in (
        (scripted, "TorchScript archive"),
        (pointer, "Git LFS pointer"),
        (whole, "maskloop models import"),
        (cut, "cut short"),
        (saved(tmp_path / "list.bin", [1]), "must hold a dict"),
        (tmp_path / "none.bin", "cannot be read"),
    ):
        with pytest.raises(BackboneError, match=why):
            bases.add_file(TINY, path)


WRITER = """
import sys
from pathlib import Path
from maskloop_learner.model.files import write_whole
path, byte = Path(sys.argv[1]), sys.argv[2].encode()
while True:
    write_whole(path, lambda part: part.write_bytes(byte * 8_000_000))
"""


def test_killed_writers_leave_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "towers"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    two = [subprocess.Popen([sys.executable, "-c", WRITER, path, byte], env=environment) for byte in "ab"]
    seen: set[bytes] = set()
    end = time.monotonic() + 120
    while len(seen) < 2 and time.monotonic() < end:
        if path.exists():
            seen.add(path.read_bytes()[:1])
    # Caught in the middle of a write, which is nearly all that they do.
    while not list(tmp_path.glob(".*.part")) and time.monotonic() < end:
        time.sleep(0.001)
    for process in two:
        process.kill()
        process.wait()
    assert seen == {b"a", b"b"}
    data = path.read_bytes()
    assert data in (b"a" * 8_000_000, b"b" * 8_000_000)
    left = list(tmp_path.glob(".*.part"))
    old = time.time() - 2 * 24 * 3600
    for part in left:
        os.utime(part, (old, old))
    write_whole(path, lambda part: part.write_bytes(b"c"))
    assert path.read_bytes() == b"c"
    assert not list(tmp_path.glob(".*.part"))


def test_a_vocabulary_is_enough_for_the_tokenizer(bases: Bases, tmp_path: Path) -> None:
    bases.add_vocabulary(BERT, write_vocabulary(tmp_path / "source" / "vocab.txt").parent)
    folder = bases.folder / BERT.name  # type: ignore[operator]
    ids = build_tokenizer(BERT, folder)(["Tumor  in the breast ULTRASOUND.", "tumour"])
    assert ids.shape == (2, 256)
    assert ids[0, :10].tolist() == [2, 5, 6, 7, 8, 9, 10, 11, 3, 0]
    assert ids[1, :4].tolist() == [2, 1, 3, 0]
    assert ids[:, 10:].count_nonzero() == 0


def test_another_models_vocabulary_is_refused(bases: Bases, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"must have 30522 lines.*it has 100"):
        bases.add_vocabulary(BERT, write_vocabulary(tmp_path / "short.txt", words=100))
    shuffled = write_vocabulary(tmp_path / "shuffled.txt")
    shuffled.write_text("[UNK]\n[PAD]\n" + shuffled.read_text().split("\n", 2)[2])
    with pytest.raises(BackboneError, match=r"begins with '\[UNK\]'"):
        bases.add_vocabulary(BERT, shuffled)
    with pytest.raises(BackboneError, match="cannot be read"):
        bases.add_vocabulary(BERT, tmp_path / "none")
    with pytest.raises(BackboneError, match="needs no vocabulary"):
        bases.add_vocabulary(TINY, shuffled)
    with pytest.raises(BackboneError, match="maskloop models fetch unimedclip"):
        build_tokenizer(BERT, tmp_path)


def test_a_tokenizer_that_pads_with_another_id_is_refused(tmp_path: Path) -> None:
    small = replace(BERT, clip={**BERT.clip, "text_cfg": {**BERT.clip["text_cfg"], "context_length": 8}})
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\n[MASK]\n[PAD]\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    with pytest.raises(BackboneError, match="pads with id 4, not 0"):
        build_tokenizer(small, tmp_path)
