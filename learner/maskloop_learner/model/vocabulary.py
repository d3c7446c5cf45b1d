"""A BERT's WordPiece vocabulary on disk, complete enough that its tokenizer is built without a network."""

import json
from pathlib import Path

from maskloop_learner.model.backbones import BackboneError, BackboneSpec
from maskloop_learner.model.construction import BERT_BASE
from maskloop_learner.model.files import write_whole

FILE = "vocab.txt"
SPECIAL = ("[UNK]", "[CLS]", "[SEP]", "[MASK]")
BESIDE = {
    # transformers reads which tokenizer the words are for from either of these, by its version.
    "config.json": BERT_BASE,
    "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "do_lower_case": True},
}


def keep_vocabulary(spec: BackboneSpec, source: Path, folder: Path) -> None:
    """Copy `source` (a vocab.txt, or a folder with one) into `folder` and write beside it what a tokenizer needs.

    Raises BackboneError when it is not the vocabulary of a BERT with that many words.
    """
    path = source / FILE if source.is_dir() else source
    if spec.text != "bert":
        raise BackboneError(f"backbone {spec.name!r} needs no vocabulary file, got {str(path)!r}")
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BackboneError(f"the vocabulary {str(path)!r} cannot be read: {error}") from error
    words = text.removesuffix("\n").split("\n")
    missing = [word for word in SPECIAL if word not in words]
    if words[0].strip() != "[PAD]" or missing or len(words) != spec.vocabulary:
        raise BackboneError(
            f"the vocabulary {str(path)!r} must have {spec.vocabulary} lines, [PAD] first and {', '.join(SPECIAL)} "
            f"among them; it has {len(words)}, begins with {words[0]!r} and lacks {missing}"
        )
    for name, about in BESIDE.items():
        write_whole(folder / name, lambda part, about=about: _write(part, json.dumps(about)))  # type: ignore[misc]
    write_whole(folder / FILE, lambda part: _write(part, text))


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode())
