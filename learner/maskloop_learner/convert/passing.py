"""PNG, JPEG, WebP and BMP: what a browser shows goes through untouched, or stripped to its pixels."""

from collections.abc import Iterator

from maskloop_learner.convert.options import ConvertError, ConvertOptions
from maskloop_learner.convert.pictures import Picture, draw_picture
from maskloop_learner.convert.source import Source
from maskloop_learner.pool.images import ImageError, open_image, probe_image, sniff_format

SUFFIXES = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
}


def pass_picture(source: Source, options: ConvertOptions) -> Iterator[Picture]:
    """One picture: the file's own bytes, or with options.strip a PNG of its pixels as shown.

    A suffix that belongs to no such format is replaced. Raises ConvertError when a browser cannot show the file.
    """
    data = source.read()
    try:
        info = probe_image(data, max_megapixels=options.max_megapixels, name=source.name)
        if options.strip:
            origin = source.origin(info.format, None, 1) | {"shown_by": "colours"}
            yield draw_picture(f"{source.stem}.png", open_image(data, name=source.name), origin)
            return
    except ImageError as error:
        raise ConvertError(str(error)) from error
    origin = source.origin(info.format, None, 1) | {"shown_by": "itself"}
    yield Picture(_shown_name(source, info.format), data, info.width, info.height, origin)


def picture_suffix(head: bytes) -> str:
    """The suffix of a picture's format, by its first bytes."""
    return SUFFIXES[sniff_format(head) or "PNG"][0]


def _shown_name(source: Source, kind: str) -> str:
    suffix = source.path.suffix
    known = any(suffix.lower() in suffixes for suffixes in SUFFIXES.values())
    return source.file if known and source.stem == source.path.stem else source.stem + SUFFIXES[kind][0]
