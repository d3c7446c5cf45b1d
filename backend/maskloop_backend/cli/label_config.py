"""`maskloop label-config`: a label config to paste into Label Studio."""

from enum import StrEnum
from typing import Annotated

import typer

from maskloop_backend.cli.errors import CommandError
from maskloop_backend.labelstudio.template import write_config


class Mode(StrEnum):
    """What annotators draw with."""

    brush = "brush"
    bitmask = "bitmask"
    polygon = "polygon"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(name="label-config")(label_config)


def label_config(
    labels: Annotated[str | None, typer.Option(help='What to draw, with commas between: "Tumor,Cyst".')] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="One label as it is, with its commas; may be repeated.")
    ] = None,
    mode: Annotated[Mode, typer.Option(help="What annotators draw with.")] = Mode.brush,
    prompt: Annotated[bool, typer.Option("--prompt", help="Add a field in which a prompt can be typed.")] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Show each task's uncertainty above the image, and beside it where.")
    ] = False,
    data_key: Annotated[str, typer.Option(help="Field of a task that holds the image's address.")] = "image",
    image_name: Annotated[str, typer.Option(help="Name of the Image tag.")] = "image",
) -> None:
    """Print a label config that Maskloop can serve, to paste into Label Studio."""
    named = [part.strip() for part in labels.split(",")] if labels is not None else []
    named += label or []
    if not named:
        raise CommandError('name what is to be drawn: --labels "Tumor,Cyst", or --label for each')
    config = write_config(
        named, mode=mode.value, prompt=prompt, uncertainty=uncertainty, data_key=data_key, image_name=image_name
    )
    print(config)
