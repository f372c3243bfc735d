import re
from xml.etree import ElementTree

import numpy as np
import pytest

from fastreid_uda.report.chart import BLUE, INK, RED, Chart, Series
from fastreid_uda.report.drawing import to_pixels, to_svg

CHARTS = {
    "lines": Chart("lines", "t", "y <&>", [0, 1, 2],
                   [Series("a <b> & c", [1.0, None, 3.0], BLUE), Series("d", [2, 2, 2], INK, True)],
                   levels={"before": 1.5}),
    "bars": Chart("bars", "t", "y", [0, 4],
                  [Series("a", [1, None], BLUE), Series("b", [2, 3], RED)], stacked=True),
    "one": Chart("one", "t", "y", [7], [Series("a", [0.0], BLUE)], from_zero=True),
    "flat": Chart("flat", "t", "y", list(range(60)), [Series("a", [5] * 60, BLUE)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CHARTS)
def test_svg__is_well_formed_themed_and_named(name):
    chart, svg = CHARTS[name], to_svg(CHARTS[name])
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg") and "viewBox" in root.attrib and "width" not in root.attrib
    texts = "".join(root.itertext())
    for text in ("round", chart.y, *(series.name for series in chart.series), *chart.levels):
        assert text in texts
    assert "var(--c0072b2, #0072b2)" in svg and "var(--soft, " in svg
    assert "<metadata" not in svg and to_svg(chart) == svg


def test_svg__ids_of_two_charts_differ():
    first, second = (
        set(re.findall(r'\bid="([^"]+)"', to_svg(CHARTS[n]))) for n in ("lines", "bars")
    )
    assert first and second and not first & second
    svg = to_svg(CHARTS["lines"])
    for target in re.findall(r'(?:href="|url\()#([^")]+)', svg):
        assert f'id="{target}"' in svg


def test_svg__an_axis_of_shares_ends_at_100():
    chart = Chart("share", "t", "% of images", [0, 1], [Series("a", [100, 100], BLUE)], True)
    ticks = re.findall(r">(\d+)</text>", to_svg(chart))
    assert "100" in ticks and not {"105", "108", "110", "120"} & set(ticks)


def test_pixels__show_the_series():
    pixels = to_pixels(CHARTS["bars"])
    assert pixels.dtype == np.uint8 and pixels.shape[2] == 3
    blue = (pixels == [0x00, 0x72, 0xB2]).all(axis=2).mean()
    assert 0.02 < blue < 0.5
