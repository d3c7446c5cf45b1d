"""Writes a label config that Maskloop serves and Label Studio takes."""

import re
from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

from maskloop_backend.labelstudio.config import TITLES, read_interface
from maskloop_backend.labelstudio.controls import MaskKind
from maskloop_backend.labelstudio.markup import ConfigError

COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#CC79A7", "#0072B2")
"""Okabe and Ito's colours, told apart by colour-blind people as well; without their black, lost on a dark image."""
MASK, PROMPT = "mask", "prompt"
UNCERTAINTY_FIELD = "uncertainty"
"""The field of a task in which an uncertainty is shown."""
HEATMAP_FIELD = "maskloop_heatmap"
"""The field of a task with the address, in a list, of a picture of where the model is unsure."""
HEATMAP = "heatmap"
_KEY = re.compile(r"[A-Za-z0-9_]+")
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def write_config(
    labels: Sequence[str],
    *,
    mode: MaskKind = "brush",
    prompt: bool = False,
    uncertainty: bool = False,
    data_key: str = "image",
    image_name: str = "image",
) -> str:
    """A label config with one mask tag on one image, as XML of several lines.

    prompt: with a TextArea for a typed prompt, below the image, since the image's tool bar can cover a button above
    it. uncertainty: with a line that shows task.data[UNCERTAINTY_FIELD], "undefined" for tasks without it, and a second
    Image beside the first, without any mask tag, that shows task.data[HEATMAP_FIELD]: nothing can be drawn on it.
    Raises ConfigError for labels and names that cannot be served.
    """
    if not _KEY.fullmatch(data_key):
        raise ConfigError(f"The data key {data_key!r} must be made of letters a-z, digits and _.")
    if not _NAME.fullmatch(image_name) or image_name in (MASK, PROMPT, HEATMAP):
        raise ConfigError(
            f"The image's name {image_name!r} must be made of letters a-z, digits, _, . and -, and be none of "
            f"{MASK!r}, {PROMPT!r} and {HEATMAP!r}."
        )
    # Smoothing would blur the single pixels that a bitmask is drawn with.
    smoothing = ' smoothing="false"' if mode == "bitmask" else ""
    image = f'<Image name="{image_name}" value="${data_key}" zoom="true" zoomControl="true"{smoothing}/>'
    lines = [
        "<View>",
        # A Header of the field alone would show text, but nothing where the field is a number.
        *([f'  <Header size="5" value="Uncertainty: ${UNCERTAINTY_FIELD}"/>'] if uncertainty else []),
        f'  <{TITLES[mode]} name="{MASK}" toName="{image_name}">',
        *(
            f"    <Label value={quoteattr(label)} background={quoteattr(COLOURS[number % len(COLOURS)])}/>"
            for number, label in enumerate(labels)
        ),
        f"  </{TITLES[mode]}>",
        *(_beside(image) if uncertainty else [f"  {image}"]),
        *(_prompt(image_name) if prompt else []),
        "</View>",
    ]
    config = "\n".join(lines)
    read_interface(config)
    return config


def _beside(image: str) -> list[str]:
    # A list of one: of a plain value, Label Studio demands the field of every task that it takes in, and then takes no
    # single files any more.
    return [
        '  <View style="display: flex; gap: 1rem">',
        f'    <View style="flex: 3">{image}</View>',
        f'    <View style="flex: 2"><Image name="{HEATMAP}" valueList="${HEATMAP_FIELD}"/></View>',
        "  </View>",
    ]


def _prompt(image_name: str) -> list[str]:
    return [
        f'  <TextArea name="{PROMPT}" toName="{image_name}" editable="true" showSubmitButton="true"',
        '            placeholder="What to look for, for instance: tumor in a breast ultrasound"/>',
    ]
