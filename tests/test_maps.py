"""Maps of uncertainty as they are kept: small, grey, in steps of 1/255."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskloop_learner.pool.maps import LONGEST, MapError, decode_map, encode_map, map_size


@given(width=st.integers(1, 5000), height=st.integers(1, 5000))
def test_a_map_has_the_images_shape_and_at_most_so_many_pixels(width: int, height: int) -> None:
    """Never enlarged, never without a pixel, the aspect kept to half a pixel."""
    columns, rows = map_size(width, height)
    assert 1 <= columns <= min(width, LONGEST)
    assert 1 <= rows <= min(height, LONGEST)
    scale = min(1.0, LONGEST / max(width, height))
    assert abs(columns - width * scale) <= max(0.5, 1 - width * scale)
    assert abs(rows - height * scale) <= max(0.5, 1 - height * scale)


@given(seed=st.integers(0, 10_000), width=st.integers(1, 256), height=st.integers(1, 256))
def test_what_needs_no_scaling_comes_back_in_steps_of_8_bits(seed: int, width: int, height: int) -> None:
    entropy = np.random.default_rng(seed).random((height, width), dtype=np.float32)
    data = encode_map(entropy, width=width, height=height)
    assert data == encode_map(entropy.copy(), width=width, height=height), "a digest names the map"
    back = decode_map(data)
    assert back.dtype == np.float32
    assert np.abs(back - entropy).max() <= 0.5 / 255 + 1e-6


def test_nothing_and_all_keep_their_values_at_any_size() -> None:
    """Scaling invents no entropy: 0 stays 0, and 1 stays 1."""
    for value in (0.0, 1.0):
        entropy = np.full((224, 224), value, np.float32)
        for width, height in ((1, 1), (224, 224), (4000, 3000), (17, 2000)):
            assert set(np.unique(decode_map(encode_map(entropy, width=width, height=height)))) == {value}


def test_a_bright_spot_stays_where_it_is() -> None:
    """The model's square view is stretched back over the image."""
    entropy = np.zeros((100, 100), np.float32)
    entropy[70:80, 20:30] = 1
    back = decode_map(encode_map(entropy, width=400, height=100))
    rows, columns = np.nonzero(back > 0.5)
    assert back.shape == (64, 256)
    assert 0.69 < rows.mean() / 64 < 0.81
    assert 0.19 < columns.mean() / 256 < 0.31


@pytest.mark.parametrize(
    ("entropy", "said"),
    [
        (np.zeros((0, 3)), "at least one pixel"),
        (np.zeros((2, 2, 3)), r"\(2, 2, 3\)"),
        (np.array([[0.5, np.nan]]), "nan"),
        (np.array([[0.5, 1.5]]), "1.5"),
        (np.array([[-0.2, 0.5]]), "-0.2"),
    ],
)
def test_what_is_no_map_is_refused_by_name(entropy: Any, said: str) -> None:
    with pytest.raises(MapError, match=said):
        encode_map(entropy, width=4, height=4)


def test_an_image_without_pixels_has_no_map() -> None:
    with pytest.raises(MapError, match="0 x 4"):
        encode_map(np.zeros((2, 2)), width=0, height=4)


def test_what_is_read_must_be_a_grey_picture() -> None:
    coloured = io.BytesIO()
    Image.new("RGB", (2, 2)).save(coloured, "PNG")
    with pytest.raises(MapError, match="RGB"):
        decode_map(coloured.getvalue())
    with pytest.raises(MapError, match="no image"):
        decode_map(b"something else")
