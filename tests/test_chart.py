"""Charts of learning curves: where things stand, in SVG and in PNG."""

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageColor

from maskloop_learner.select.chart import draw_svg
from maskloop_learner.select.layout import BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Line, Point, ticks
from maskloop_learner.select.picture import draw_png


def make_chart(*, name: str = "power") -> Chart:
    """Two lines with bands over three budgets."""
    random = Line("random", [Point(8, 0.4, 0.35, 0.45), Point(16, 0.5, 0.45, 0.55), Point(24, 0.6, 0.5, 0.7)], True)
    other = Line(name, [Point(8, 0.4, 0.35, 0.45), Point(16, 0.55, 0.5, 0.6), Point(24, 0.62, 0.6, 0.64)])
    return Chart(title="Dice by labels", x_title="labels", y_title="Dice", lines=[random, other], levels=[0.58])


@settings(deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(0, 1e3))
def test_ticks_are_round_and_hold_their_values(low: float, span: float) -> None:
    """The first is at or below, the last at or above, and there are not too many."""
    found = ticks(low, low + span)
    slack = 1e-6 * max(1, abs(low), span)
    assert found[0] <= low + slack
    assert found[-1] >= low + span - slack
    assert 2 <= len(found) <= 13
    assert len(set(found)) == len(found)
    assert np.allclose(np.diff(found), found[1] - found[0])


def test_ticks_of_dice_are_those_a_person_would_choose() -> None:
    """Not 0.347."""
    assert ticks(0.35, 0.7) == pytest.approx([0.3, 0.4, 0.5, 0.6, 0.7])
    with pytest.raises(ValueError, match="finite bounds"):
        ticks(0.7, 0.3)


def test_points_lie_between_the_margins_and_in_order() -> None:
    """More labels to the right, more Dice up."""
    chart = make_chart()
    for line in chart.lines:
        for point in line.points:
            for height in (point.y, point.low or 0, point.high or 0):
                x, y = chart.place(point.x, height)
                assert LEFT <= x <= WIDTH - RIGHT
                assert TOP <= y <= HEIGHT - BOTTOM
    assert chart.place(8, 0.4)[0] < chart.place(16, 0.4)[0]
    assert chart.place(8, 0.5)[1] < chart.place(8, 0.4)[1]


def test_many_budgets_are_marked_by_round_numbers_within_the_axis() -> None:
    """No number stands left of the axis or among the names."""
    chart = Chart(title="", x_title="", y_title="", lines=[Line("loss", [Point(x, 1 / x) for x in range(3, 98)])])
    assert chart.x_ticks == [20, 40, 60, 80]
    few = Chart(title="", x_title="", y_title="", lines=[Line("loss", [Point(x, 1 / x) for x in range(3, 9)])])
    assert few.x_ticks == [3, 4, 5, 6, 7, 8]


def test_names_do_not_cover_each_other() -> None:
    """However near the lines end; and none is below the axis."""
    lines = [Line(f"line {number}", [Point(8, 0.5), Point(16, 0.5 + number / 1e4)]) for number in range(12)]
    heights = sorted(height for _, height in Chart(title="", x_title="", y_title="", lines=lines).named())
    assert min(np.diff(heights)) >= 20
    assert heights[-1] <= HEIGHT - BOTTOM


def test_an_svg_is_well_formed_and_says_in_words_what_it_shows() -> None:
    """For a screen reader, and when the mouse rests on a point; names are escaped."""
    text = draw_svg(make_chart(name="<power>"))
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img"
    assert "<power> ends at 0.620" in (root.get("aria-label") or "")
    titles = [each.text for each in root.iter("title")]
    assert "random, 16: 0.500 (0.450 to 0.550)" in titles
    assert len(list(root.iter("polyline"))) == len(list(root.iter("polygon"))) == 2


def test_one_point_and_no_band_can_be_drawn() -> None:
    """A simulation of one seed has no band; a figure may be known of one round alone."""
    chart = Chart(title="", x_title="", y_title="", lines=[Line("random", [Point(8, 0.5)]), Line("none", [])])
    root = ElementTree.fromstring(draw_svg(chart))
    assert list(root.iter("polygon")) == []
    assert draw_png(chart).startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="at least one point"):
        draw_svg(Chart(title="", x_title="", y_title="", lines=[Line("none", [])]))


def test_a_picture_has_its_lines_where_the_svg_has_them() -> None:
    """Twice as large, in the same colours."""
    chart = make_chart()
    picture = np.asarray(Pillow.open(io.BytesIO(draw_png(chart))).convert("RGB"))
    assert picture.shape == (2 * HEIGHT, 2 * WIDTH, 3)
    for x, y in (chart.place(16, 0.55), chart.place(24, 0.62)):
        assert tuple(picture[round(2 * y), round(2 * x)]) == ImageColor.getrgb(COLOURS[0])
    x, y = chart.place(24, 0.52)
    veiled = picture[round(2 * y) + 4, round(2 * x) - 6]
    assert (veiled < 255).all()
    assert (veiled > 200).all()
    assert re.search('viewBox="0 0 860 440"', draw_svg(chart))
