"""`maskloop models backbones` and `fetch`: the towers that models stand on, brought into an installation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from maskloop_backend.cli.context import print_json
from maskloop_backend.cli.errors import CommandError
from maskloop_learner.model.backbones import BACKBONES, BackboneSpec, find_backbone
from maskloop_learner.settings import get_settings

if TYPE_CHECKING:
    from maskloop_learner.model.bases import Bases

VOCABULARY = "vocab.txt"
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def register(group: typer.Typer) -> None:
    """Add this module's commands to `maskloop models`."""
    group.command()(backbones)
    group.command()(fetch)


def backbones(as_json: JsonOption = False) -> None:
    """List the backbones, the licences of their weights, and which are installed."""
    bases = open_bases()
    kept = {found.backbone: found for found in bases.list()}
    items: list[dict[str, Any]] = []
    for spec in BACKBONES.values():
        here = kept.get(spec.name)
        base = here.base if here else None
        items.append(
            {
                "name": spec.name,
                "title": spec.title,
                "licence": spec.licence,
                "source": f"{spec.source.repo}/{spec.source.file}" if spec.source else "ships with Maskloop",
                "installed": spec.source is None or base is not None,
                "digest": base.digest if base else None,
                "from": base.source if base else None,
                "vocabulary": (here.vocabulary if here else False) if spec.text == "bert" else None,
            }
        )
    if as_json:
        print_json(items)
        return
    table = Table(title=f"Backbones in {bases.folder}")
    for name in ("name", "what", "licence of the weights", "installed", "digest"):
        table.add_column(name)
    for item in items:
        installed = "yes" if item["installed"] else "no"
        if item["installed"] and item["vocabulary"] is False:
            installed = "without vocabulary"
        table.add_row(item["name"], item["title"], item["licence"], installed, (item["digest"] or "")[:12])
    Console().print(table)
    if not all(item["installed"] and item["vocabulary"] is not False for item in items):
        print("Bring what is missing with: maskloop models fetch NAME")


def fetch(
    backbone: Annotated[str, typer.Argument(help="Name of the backbone, see `maskloop models backbones`.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="Weights file, vocab.txt, or a folder of both, instead of the hub.")
    ] = None,
) -> None:
    """Bring a backbone's weights (and a BERT's vocabulary) from the Hugging Face hub, or from a file or folder."""
    from maskloop_learner.model.hub import fetch_backbone

    spec, bases = find_published(backbone), open_bases()
    if source is None:
        print(f"{spec.name} is installed: {fetch_backbone(spec, bases)}")
        return
    if not source.exists():
        raise CommandError(f"there is no file or folder {str(source)!r}")
    vocabulary = source / VOCABULARY if source.is_dir() else source
    weights = source / Path(spec.source.file).name if source.is_dir() and spec.source else source
    if vocabulary.name == VOCABULARY and vocabulary.is_file():
        bases.add_vocabulary(spec, vocabulary)
        print(f"{spec.name} has its vocabulary")
        if not source.is_dir():
            return
    if not weights.is_file():
        raise CommandError(f"the folder {str(source)!r} has no {weights.name}; rename the weights file to that")
    print(f"{spec.name} is installed: {bases.add_file(spec, weights)}")
    warn_of_vocabulary(spec, bases)


def open_bases() -> "Bases":
    """The installation's folder of towers."""
    # The models' modules load torch, which takes seconds: only commands that need them do.
    from maskloop_learner.model.bases import Bases

    return Bases(get_settings().bases_folder)


def find_published(name: str) -> BackboneSpec:
    """A backbone whose weights are published elsewhere. Raises CommandError for any other."""
    try:
        spec = find_backbone(name)
    except ValueError as error:
        raise CommandError(str(error)) from error
    if spec.source is None:
        raise CommandError(f"backbone {name!r} ships with Maskloop: there is nothing to bring in")
    return spec


def warn_of_vocabulary(spec: BackboneSpec, bases: "Bases") -> None:
    """Say so when a backbone cannot read prompts yet."""
    missing = {found.backbone for found in bases.list() if not found.vocabulary}
    if spec.text == "bert" and spec.name in missing:
        Console(stderr=True).print(
            f"{spec.name} cannot read prompts yet: its vocabulary is missing. "
            f"Bring it with: maskloop models fetch {spec.name} (or --from vocab.txt)"
        )
