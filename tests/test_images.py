"""Images are read as a browser shows them, or refused with a reason that names the file."""

import base64
import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from maskloop_learner.pool.images import ImageError, open_image, probe_image

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")  # of damaged Exif

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
# corners top left, top right, bottom left, bottom right of the picture below, as Chromium shows it
SHOWN = {
    1: (RED, GREEN, BLUE, WHITE),
    2: (GREEN, RED, WHITE, BLUE),
    3: (WHITE, BLUE, GREEN, RED),
    4: (BLUE, WHITE, RED, GREEN),
    5: (RED, BLUE, GREEN, WHITE),
    6: (BLUE, RED, WHITE, GREEN),
    7: (WHITE, GREEN, BLUE, RED),
    8: (GREEN, WHITE, RED, BLUE),
}


def quarters() -> Image.Image:
    """60 x 40 pixels: red, green above blue, white."""
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[:20, :30], pixels[:20, 30:], pixels[20:, :30], pixels[20:, 30:] = RED, GREEN, BLUE, WHITE
    return Image.fromarray(pixels)


def save(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def exif(orientation: int, *, resolution: int = 0, shown: tuple[int, int] = (0, 0)) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    if resolution:
        block[0x011A] = block[0x011B] = resolution
        block[0x0128] = 2
        directory = block.get_ifd(0x8769)
        directory[0xA002], directory[0xA003] = shown
    return block.tobytes()


def raw_exif(order: str, kind: int, count: int, value: bytes) -> bytes:
    """A hand-made Exif block with one orientation entry."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHI", 0x0112, kind, count) + value.ljust(4, b"\0")
    return b"Exif\0\0" + mark + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


def jpeg_with(*segments: bytes) -> bytes:
    plain = save(quarters(), "JPEG", quality=95)
    inserted = b"".join(b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment for segment in segments)
    return plain[:2] + inserted + plain[2:]


def chunks_of(png: bytes) -> list[tuple[bytes, bytes]]:
    position, chunks = 8, []
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        chunks.append((png[position + 4 : position + 8], png[position + 8 : position + 8 + length]))
        position += 12 + length
    return chunks


def png_of(chunks: list[tuple[bytes, bytes]]) -> bytes:
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_header(width: int, height: int, depth: int = 8, colour: int = 0) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def oriented_files() -> dict[str, tuple[bytes, int]]:
    """Name -> file, and the orientation in which Chromium shows it."""
    turned = chunks_of(save(quarters(), "PNG", exif=exif(6)))
    eight = next(chunk for chunk in turned if chunk[0] == b"eXIf")
    plain = [chunk for chunk in turned if chunk[0] != b"eXIf"]
    hexed = b"\nexif\n%8d\n%s\n" % (len(exif(6)), exif(6).hex().encode())
    files = {f"jpeg {n}": (save(quarters(), "JPEG", quality=95, exif=exif(n)), n) for n in range(1, 9)}
    files |= {f"png {n}": (save(quarters(), "PNG", exif=exif(n)), n) for n in range(1, 9)}
    return files | {
        "jpeg 0": (save(quarters(), "JPEG", quality=95, exif=exif(0)), 1),
        "jpeg 9": (save(quarters(), "JPEG", quality=95, exif=exif(9)), 1),
        "jpeg without exif": (save(quarters(), "JPEG", quality=95), 1),
        "jpeg, two blocks: the first": (jpeg_with(raw_exif("<", 3, 1, b"\6\0"), raw_exif("<", 3, 1, b"\3\0")), 6),
        "jpeg, big-endian": (jpeg_with(raw_exif(">", 3, 1, b"\0\6")), 6),
        "jpeg, as LONG": (jpeg_with(raw_exif("<", 4, 1, b"\6")), 1),
        "jpeg, as BYTE": (jpeg_with(raw_exif("<", 1, 1, b"\6")), 1),
        "jpeg, two values": (jpeg_with(raw_exif("<", 3, 2, b"\6\0")), 1),
        "jpeg, cut exif": (jpeg_with(raw_exif("<", 3, 1, b"\6\0")[:20]), 1),
        "jpeg, xmp": (jpeg_with(b"http://ns.adobe.com/xap/1.0/\0" + XMP), 1),
        "png, exif after the pixels": (png_of([*plain[:-1], eight, plain[-1]]), 1),
        "png, xmp": (png_of([plain[0], (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP), *plain[1:]]), 1),
        "png, raw profile": (
            png_of([plain[0], (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(hexed)), *plain[1:]]),
            1,
        ),
        "webp 6": (save(quarters(), "WEBP", lossless=True, exif=exif(6)), 1),
        "bmp": (save(quarters(), "BMP"), 1),
    }


def plain_files() -> dict[str, bytes]:
    """Files without orientation whose pixels a browser must show as open_image does."""
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(8, 0)
    deep = np.stack([ramp, ramp[:, ::-1], ramp // 2], -1)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    alpha = np.zeros((8, 64, 4), dtype=np.uint8)
    alpha[..., :3], alpha[..., 3] = (200, 100, 50), np.arange(64) * 4
    rgba = Image.fromarray(alpha)
    other, palette = quarters().rotate(180), quarters().quantize(4)
    return {
        "16-bit grey": save(Image.fromarray(ramp), "PNG"),
        "12 bits in 16": save(Image.fromarray(ramp // 16), "PNG"),
        "16-bit colour": png_of([png_header(64, 8, 16, 2), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]),
        "1-bit": save(Image.fromarray(np.indices((8, 64)).sum(0) % 2 == 0), "PNG"),
        "palette": save(palette, "PNG"),
        "palette with alpha": save(palette, "PNG", transparency=palette.getpixel((0, 0))),
        "grey with alpha": save(rgba.convert("LA"), "PNG"),
        "colour with alpha": save(rgba, "PNG"),
        "grey with a transparent value": save(quarters().convert("L"), "PNG", transparency=76),
        "cmyk jpeg": save(quarters().convert("CMYK"), "JPEG", quality=95),
        "grey jpeg": save(quarters().convert("L"), "JPEG", quality=95),
        "progressive jpeg": save(quarters(), "JPEG", quality=95, progressive=True),
        "multi-picture jpeg": save(quarters(), "MPO", save_all=True, append_images=[other], quality=95),
        "webp": save(quarters(), "WEBP", lossless=True),
    }


def corners(pixels: NDArray[np.uint8]) -> tuple[tuple[int, ...], ...]:
    """Colours of the corners, rounded to pure ones."""
    picked = (pixels[3, 3], pixels[3, -4], pixels[-4, 3], pixels[-4, -4])
    return tuple(tuple(255 * int(value > 127) for value in pixel) for pixel in picked)


@pytest.mark.parametrize("name", oriented_files())
def test_orientation_is_the_browsers(name: str) -> None:
    data, orientation = oriented_files()[name]
    pixels = open_image(data)
    assert corners(pixels) == SHOWN[orientation]
    info = probe_image(data, max_megapixels=1, name=name)
    assert (info.width, info.height) == ((60, 40) if orientation < 5 else (40, 60)) == pixels.shape[1::-1]
    assert info.format == name.split()[0].rstrip(",").upper()


def test_pixels_of_every_kind_are_rgb_as_shown() -> None:
    shown = {name: open_image(data) for name, data in plain_files().items()}
    assert all(pixels.dtype == np.uint8 and pixels.shape[2:] == (3,) for pixels in shown.values())
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)
    assert np.array_equal(shown["16-bit grey"][0, :, 0], ramp >> 8)
    assert shown["12 bits in 16"].max() == 15
    assert np.array_equal(shown["16-bit colour"][0, :, 0], ramp >> 8)
    assert np.array_equal(shown["1-bit"][0, :3, 1], [255, 0, 255])
    for name in ("palette", "cmyk jpeg", "progressive jpeg", "multi-picture jpeg", "webp"):
        assert corners(shown[name]) == SHOWN[1], name
    # fully transparent is white, nearly opaque is nearly its own colour
    assert shown["colour with alpha"][0, 0].tolist() == [255, 255, 255]
    assert np.abs(shown["colour with alpha"][0, 63].astype(int) - (200, 100, 50)).max() < 6
    assert corners(shown["palette with alpha"]) == (WHITE, GREEN, BLUE, WHITE)
    assert corners(shown["grey with a transparent value"])[0] == WHITE
    assert corners(shown["grey jpeg"])[2:] == ((0, 0, 0), WHITE)


def test_truncation_is_found_at_every_length() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    for file_format, kept in (("PNG", 12), ("JPEG", 0), ("BMP", 0), ("WEBP", 0)):
        data = save(noise, file_format)
        for length in range(1, len(data) - kept - 5, max(1, len(data) // 60)):
            with pytest.raises(ImageError, match=r"^scan 7\.png: .+; (give|export)"):
                probe_image(data[:length], max_megapixels=1, name="scan 7.png")


def test_damaged_files_never_raise_anything_else() -> None:
    rng = np.random.default_rng(1)
    files = [data for data, _ in oriented_files().values()] + list(plain_files().values())
    refused = 0
    for data in files:
        for _ in range(100):
            damaged = np.frombuffer(data, dtype=np.uint8).copy()
            where = rng.integers(0, min(len(damaged), 400), rng.integers(1, 6))
            damaged[where] = rng.integers(0, 256, len(where))
            try:
                probe_image(damaged.tobytes(), max_megapixels=1, name="x")
            except ImageError:
                refused += 1
    assert refused > len(files)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello, I am a text named .png", r"no image \(it begins with b'hello, I am "),
        (b"BM or not to be, that is the question", "no image"),
        (b"<!DOCTYPE html><title>Log in</title>", "a web page or SVG"),
        (save(quarters(), "GIF"), "a GIF"),
        (save(quarters(), "TIFF"), "a TIFF"),
        (bytes(128) + b"DICM", "a DICOM"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x89PNG\r\n\x1a\n", "PNG file is damaged"),
        (b"\xff\xd8\xff\xe0", "JPEG file is damaged"),
        (png_of([png_header(0, 5), (b"IDAT", b""), (b"IEND", b"")]), "PNG file is damaged"),
        (save(quarters(), "PNG", save_all=True, append_images=[quarters().rotate(180)]), "animated, 2 frames"),
        (save(quarters(), "WEBP", save_all=True, append_images=[quarters().rotate(180)]), "animated, 2 frames"),
        (save(quarters(), "JPEG", exif=exif(1, resolution=144, shown=(30, 20))), "show 60 x 40 pixels as 30 x 20"),
    ],
)
def test_refusals_name_file_reason_and_fix(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=rf"^scan\.png: .*{reason}.*[;,] .+"):
        probe_image(data, max_megapixels=1, name="scan.png")


def test_the_limit_is_checked_before_decoding() -> None:
    bomb = png_of([png_header(60_000, 60_000), (b"IDAT", b"never read"), (b"IEND", b"")])
    with pytest.raises(ImageError, match=re.escape("big.png: 60000 x 60000 pixels are 3600.0 megapixels")):
        probe_image(bomb, max_megapixels=100, name="big.png")
    just = save(Image.new("L", (1000, 1000)), "PNG")
    assert probe_image(just, max_megapixels=1, name="just.png").width == 1000
    with pytest.raises(ImageError, match="MASKLOOP_MAX_IMAGE_MEGAPIXELS"):
        probe_image(save(Image.new("L", (1001, 1000)), "PNG"), max_megapixels=1, name="more.png")


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_pillows_own_limit_does_not_interfere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # 60 x 40 is far beyond twice that
    for file_format in ("PNG", "JPEG", "BMP"):
        data = save(quarters(), file_format)
        assert probe_image(data, max_megapixels=1, name="x").width == 60
        assert open_image(data).shape == (40, 60, 3)
    with pytest.raises(ImageError, match=r"^x: too many pixels for Pillow's WEBP reader; save it as PNG"):
        probe_image(save(quarters(), "WEBP"), max_megapixels=1, name="x")


def test_exif_sizes_that_browsers_ignore_are_no_reason_to_refuse() -> None:
    for file_format, shown in (("PNG", (30, 20)), ("JPEG", (60, 40)), ("JPEG", (31, 20))):
        data = save(quarters(), file_format, exif=exif(6, resolution=144, shown=shown))
        assert probe_image(data, max_megapixels=1, name="x").width == 40


def test_multi_frame_sources_differ() -> None:
    """The multi-picture JPEG above really has two pictures, so showing its first is a choice."""
    with Image.open(io.BytesIO(plain_files()["multi-picture jpeg"])) as image:
        assert len(list(ImageSequence.Iterator(image))) == 2


@pytest.mark.slow
def test_a_real_browser_shows_the_same() -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = next(
        (path for path in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser")) if path.exists()), None
    )
    if chromium is None:
        pytest.skip(f"no {chromium}")
    files = {name: data for name, (data, _) in oriented_files().items()} | plain_files()
    script = """async data => {
        const image = new Image(); image.src = 'data:image/x;base64,' + data; await image.decode();
        const canvas = document.createElement('canvas');
        canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
        const context = canvas.getContext('2d');
        context.fillStyle = 'white'; context.fillRect(0, 0, canvas.width, canvas.height);
        context.drawImage(image, 0, 0);
        return [canvas.width, canvas.height,
                Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data)];
    }"""
    arguments = (
        "--no-sandbox --disable-gpu --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync"
    )
    with playwright.sync_playwright() as session:
        browser = session.chromium.launch(executable_path=str(chromium), args=arguments.split())
        page = browser.new_page()
        for name, data in files.items():
            width, height, values = page.evaluate(script, base64.b64encode(data).decode())
            shown = np.array(values, dtype=np.uint8).reshape(height, width, 4)[..., :3]
            ours = open_image(data)
            assert ours.shape == shown.shape, name
            assert np.abs(ours.astype(int) - shown).max() <= 2, name
        small = save(quarters(), "JPEG", exif=exif(1, resolution=144, shown=(30, 20)))
        assert page.evaluate(script, base64.b64encode(small).decode())[:2] == [30, 20]
        browser.close()
