"""What the page says, in words; how it is drawn is in test_drawing.py and test_browser.py."""

import json

import pytest

from tests.report.runs import write_run, write_summary

pytestmark = pytest.mark.usefixtures("undrawn")


def test_json__names_of_any_bytes_and_the_footer_names_the_file(report, tmp_path):
    write_run(tmp_path, rounds=1, images=False)
    (tmp_path / "labels/images.txt").write_bytes(b"a\xff.jpg\n" * 80)
    options = ["--no-tensorboard", "--map-rounds", 0, "--clusters", 1]
    assert report(tmp_path, *options, "--json", tmp_path / "figures.json")[0] == 0
    text = (tmp_path / "figures.json").read_text(encoding="utf-8")
    assert '"a?.jpg"' in text and "\\udc" not in text
    assert "also in figures.json" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_advice__is_of_what_the_run_has(report, tmp_path):
    write_run(tmp_path / "a", rounds=1, images=False)
    write_run(tmp_path / "b", rounds=1, images=False, kmeans=True, cameras=False)
    for name in "ab":
        options = ["--no-tensorboard", "--map-rounds", 1, "--clusters", 1]
        assert report(tmp_path / name, *options)[0] == 0
        text = (tmp_path / name / "report.html").read_text(encoding="utf-8")
        for words in ("UDA.CLUSTER.EPS", "one eps", "UDA.CAMERA_NORMALIZATION", "and cameras"):
            assert (words in text) == (name == "a"), words
        assert "UDA.MSPLR" not in text and "UDA.P2LR.P0" not in text  # no uncertainty


def test_run_under_way__is_said_and_each_tile_names_its_round(report, tmp_path):
    write_run(tmp_path, images=False)
    summary = json.loads((tmp_path / "summary.json").read_text())
    summary |= {"rounds": summary["rounds"][:2], "last": summary["rounds"][1]}
    write_summary(tmp_path, summary)
    assert report(tmp_path, "--no-tensorboard", "--map-rounds", 0, "--clusters", 0)[0] == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Round 2 is under way, or was cut off" in text
    assert "after round 1, +6.0 against direct transfer (15.0)" in text
    assert "in round 2, of 10 identities" in text and "of round 2, of kept images" in text
