"""The image that a mask tag draws on, and the field of a task that holds its address."""

import re
from collections.abc import Iterable

from maskloop_backend.labelstudio.markup import ConfigError, Tag

DATA_KEY = re.compile(r"\$([A-Za-z0-9_]+)")
"""What Label Studio's pages take for the name of a field, all of it."""
NESTED = re.compile(r"\$[A-Za-z0-9_]+[.\[][A-Za-z0-9_.\[\]]*")
OTHER_OBJECTS = {
    "video", "audio", "audioplus", "paragraphs", "text", "hypertext", "timeseries", "table", "pdf", "list", "chat"
}  # fmt: skip
USE = 'Use value="$image", and import tasks as {"image": "<address>"}.'


def find_image(control: Tag, tags: Iterable[Tag], what: str) -> Tag:
    """The one Image that a mask tag points at. Raises ConfigError without one. what: the tag's name in messages."""
    to_name = control.get("toname")
    images = [tag for tag in tags if tag.kind == "image"]
    for image in images:
        if image.get("name") == to_name:
            refuse_conditions(image, f"Image {to_name!r}")
            return image
    if "," in to_name:
        raise ConfigError(
            f"{what} has toName={to_name!r}, several images at once, and Label Studio then draws on none. "
            "Give each image a mask tag of its own."
        )
    if images:
        names = ", ".join(repr(image.get("name")) for image in images)
        raise ConfigError(f"{what} has toName={to_name!r}, but the Image is called {names}. Make them equal.")
    others = sorted({tag.kind for tag in tags if tag.kind in OTHER_OBJECTS})
    shown = f" It shows {', '.join(others)}." if others else ""
    raise ConfigError(f"The label config has no Image.{shown} Maskloop serves masks on still images only.")


def read_data_key(image: Tag) -> str:
    """The field of a task with the image's address. Raises ConfigError for any value but one plain field."""
    what = f"The Image {image.get('name')!r}"
    if image.get("valuelist"):
        raise ConfigError(
            f"{what} has a valueList (several pages in one field), and its regions count the pages. "
            "Use value with one field for each image."
        )
    value = image.get("value").strip()
    if key := DATA_KEY.fullmatch(value):
        return key[1]
    if NESTED.fullmatch(value):
        raise ConfigError(
            f"{what} has value={value!r}, an address inside another field. Import it as a field of its own. {USE}"
        )
    if value[:1] == "$" and value != "$undefined$":
        raise ConfigError(
            f"{what} has value={value!r}: Label Studio reads names of letters a-z, digits and _ only, so it shows "
            f"no image. Rename the field. {USE}"
        )
    raise ConfigError(f"{what} has value={value!r}, which names no field of a task. {USE}")


def refuse_conditions(tag: Tag, what: str) -> None:
    """Raise ConfigError for a tag that Label Studio shows sometimes only, or a number of times that tasks decide."""
    for element in (*tag.around, tag.element):
        condition = element.get("visiblewhen") or element.get("whenchoicevalue")
        if condition:
            raise ConfigError(
                f"{what} is shown under a condition only ({condition}). An annotation without a mask could then mean "
                "'nothing is there' or 'it was never asked'. Take the condition away from it and from the View "
                "around it."
            )
        if element.tag == "repeater":
            raise ConfigError(
                f"{what} is inside a Repeater, so every task decides how many there are. Write it out, with one "
                "field of the task for each image."
            )
