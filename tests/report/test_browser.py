"""The page in a real browser: Chromium without a screen, driven by Selenium."""

import os
import shutil
import time

import pytest

from fastreid_uda.cli.report import main
from tests.report.runs import ODD, write_run

BROWSER, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (BROWSER and DRIVER), reason="chromium or chromedriver is not installed"
    ),
]
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--window-size=1280,900",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of two views, opened; its console and its requests are in the driver's logs."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    folder = tmp_path_factory.mktemp("browser") / ODD.replace("/", "_")
    write_run(folder, views=("global", "top"), uncertainty=True, teachers=2)
    options = ["--no-tensorboard", "--map-rounds", "2", "--clusters", "3"]
    assert main([str(folder), *options, "--out", str(folder.parent / "report.html")]) == 0
    settings = selenium.ChromeOptions()
    settings.binary_location = BROWSER
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        settings.add_argument(option)
    settings.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    os.environ.setdefault("SE_OFFLINE", "true")
    driver = selenium.Chrome(service=selenium.ChromeService(DRIVER), options=settings)
    driver.get((folder.parent / "report.html").as_uri())
    yield driver
    driver.quit()


def sizes(page, selector):
    script = """return [...document.querySelectorAll(arguments[0])].map((node) => {
        const box = node.getBoundingClientRect(); return [box.width, box.height]; })"""
    return page.execute_script(script, selector)


def points(page):
    """The pixels of the map, as one text."""
    return page.execute_script("return document.querySelector('#map canvas').toDataURL()")


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing has happened"
        time.sleep(0.05)


def test_page__no_error_and_no_request(page):
    errors = [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []
    requests = [
        entry["message"] for entry in page.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]  # fmt: skip
    foreign = [m for m in requests if '"url":"file:' not in m and '"url":"data:' not in m]
    foreign = [m for m in foreign if '"url":"chrome:' not in m]  # the browser's own first page
    assert requests and foreign == []
    assert page.execute_script("return document.title").startswith("P2LR <&> on T")


def test_page__charts_histograms_and_pictures_are_seen(page):
    for selector, least in ((".chart svg", 14), (".histogram svg", 4), (".picture img", 10)):
        found = sizes(page, selector)
        assert len(found) >= least, selector
        assert all(width > 20 and height > 40 for width, height in found), selector
    loaded = "return [...document.images].every((image) => image.complete && image.naturalWidth)"
    assert page.execute_script(loaded)
    bars = page.execute_script(
        "return [...document.querySelectorAll('#histogram-sizes rect')]"
        ".filter((bar) => bar.getBoundingClientRect().height > 0).length"
    )
    assert bars > 0


@pytest.mark.parametrize("width", [1280, 390])
def test_page__nothing_sticks_out(page, width):
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False,
    })  # fmt: skip
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    # All of a chart's text lies inside its card.
    script = """return [...document.querySelectorAll('figure.card svg text')].filter((text) => {
        const box = text.getBoundingClientRect();
        const card = text.closest('figure').getBoundingClientRect();
        return box.left < card.left - 1 || box.right > card.right + 1;
    }).map((text) => text.textContent)"""
    assert page.execute_script(script) == []
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_map__colours_and_rounds_can_be_chosen(page):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "features": [{"name": "prefers-reduced-motion", "value": "reduce"}],
    })  # fmt: skip
    width, height = sizes(page, "#map canvas")[0]
    assert width > 200 and height > 150
    buttons = page.find_elements("css selector", "#map-colors button")
    assert [button.text for button in buttons] == [
        "cluster", "identity", "camera", "right or wrong", "certainty",
    ]  # fmt: skip
    page.execute_script(
        "document.getElementById('map').scrollIntoView({block: 'center', behavior: 'instant'})"
    )
    seen = {points(page)}
    assert buttons[1].get_attribute("aria-pressed") == "true"  # identities keep their colours
    for button in buttons:
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        assert page.find_element("css selector", "#map .legend").text
        seen.add(points(page))
    assert len(seen) == len(buttons)
    before = points(page)
    move(page, "#map-round", 0)
    wait_for(lambda: points(page) != before)
    assert page.find_element("css selector", "#map-round ~ output").text == "0"


def test_sliders__show_another_round_in_all_histograms(page):
    heights = """return [...document.querySelectorAll('#histogram-sizes rect')]
        .map((bar) => bar.getAttribute('height')).join()"""
    before = page.execute_script(heights)
    move(page, "#sizes .round-choice", 0)
    wait_for(lambda: page.execute_script(heights) != before)
    outputs = page.find_elements("css selector", ".round-choice ~ output")
    assert [output.text for output in outputs] == ["0", "0"]


def move(page, selector, value):
    script = """const slider = document.querySelector(arguments[0]);
        slider.value = arguments[1]; slider.dispatchEvent(new Event('input'));"""
    page.execute_script(script, selector, value)


def test_page__dark_and_light_differ(page):
    colors = set()
    for scheme in ("dark", "light"):
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": scheme}],
        })  # fmt: skip
        colors.add(page.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert len(colors) == 2


def test_page__still_without_errors_at_the_end(page):
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []
