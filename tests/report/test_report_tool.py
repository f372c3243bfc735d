"""tools/report.py as a user types it, on small runs of every kind."""

import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests import processes
from tests.helpers import ROOT, TINY, train_net
from tests.report.runs import ODD, write_run, write_summary

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Checks that elements are closed in order; keeps ids, sources of images and addresses."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.images, self.addresses, self.titles = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        self.titles += [values["title"]] if "title" in values else []
        self.images += [values["src"]] if tag == "img" else []
        self.addresses += [v for k, v in attributes if k in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        if tag not in VOID:
            self.handle_starttag(tag, attributes)
            self.open.pop()
        else:
            self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page_of(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_report__page_json_and_tensorboard(report, tmp_path):
    folder = tmp_path / ODD.replace("/", "_")
    paths = write_run(folder, uncertainty=True)
    code, output, errors = report(folder, "--map-rounds", 2, "--clusters", 3)
    assert code == 0, errors
    assert "report.html" in output and "report.json" in output
    page = page_of(folder)
    sections = "warnings scores sizes truth uncertainty map certain doubtful costs"
    assert set(sections.split()) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert page.images and all(uri.startswith("data:image/jpeg;base64,") for uri in page.images)
    assert all(a.startswith(("data:", "#")) for a in page.addresses), "nothing from elsewhere"
    assert any(title.startswith(paths[0][:20]) for title in page.titles)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "A &lt;b&gt;warning&lt;/b&gt; &amp; more" in text and "<b>warning" not in text
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)
    figures = json.loads((folder / "report.json").read_text())
    assert figures["format"] == 1 and len(figures["map"]["rounds"]) == 2

    events = EventAccumulator(str(folder / "report_tensorboard"), {"images": 0, "histograms": 0})
    events.Reload()
    assert [e.value for e in events.Scalars("report/mAP")] == [20.0, 21.0, 22.0]
    tags = events.Tags()
    assert {"cluster_sizes/global", "uncertainty/right"} <= set(tags["histograms"])
    assert "charts/clusters" in tags["images"] and "report/silhouette" in tags["scalars"]
    assert [e.step for e in events.Images("map")] == [e["round"] for e in figures["map"]["rounds"]]
    for entry in figures["labels"]:
        cameras = events.Histograms("cameras_per_cluster/global")[entry["round"]].histogram_value
        assert cameras.num == sum(entry["views"]["global"]["cameras_per_cluster"])
    (own,) = [c for c in figures["labels"][-1]["views"]["global"]["by_camera"] if c["camera"] == 1]
    logged = events.Scalars("kept_by_camera/global/1")[-1].value
    assert logged == pytest.approx(own["kept"] / own["images"])


VARIANTS = {
    "nothing known": {"identities": False, "cameras": False, "scores": False, "images": False},
    "no test set": {"scores": False},
    "no cameras": {"cameras": False},
    "one round": {"rounds": 1},
    "k-means": {"kmeans": True},
    "two teachers": {"teachers": 2, "uncertainty": True},
    "views": {"views": ("global", "top", "bottom")},
    "uncertainty without identities": {"uncertainty": True, "identities": False},
    "no map": {"map_images": 0},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_report__of_every_kind_of_run(report, tmp_path, name):
    write_run(tmp_path / "run", **VARIANTS[name])
    options = ["--no-tensorboard", "--map-rounds", 1, "--clusters", 2]
    code, _, errors = report(tmp_path / "run", *options)
    assert code == 0, errors
    page = page_of(tmp_path / "run")
    assert ("truth" in page.ids) == VARIANTS[name].get("identities", True)
    assert ("scores" in page.ids) == VARIANTS[name].get("scores", True)
    assert ("map" in page.ids) == (name != "no map")
    assert bool(page.images) == VARIANTS[name].get("images", True)
    assert not (tmp_path / "run/report_tensorboard").exists()


def test_report__images_that_are_gone_are_said(report, tmp_path):
    write_run(tmp_path / "run", images=False)
    assert report(tmp_path / "run", "--no-tensorboard", "--map-rounds", 0)[0] == 0
    text = (tmp_path / "run/report.html").read_text()
    assert "An image cannot be shown: images/" in text and "--image-root" in text
    assert page_of(tmp_path / "run").images == []
    notes = json.loads((tmp_path / "run/report.json").read_text())["notes"]
    assert len(notes) == 1


def test_report__of_labels_alone_and_of_a_summary_alone(report, tmp_path):
    write_run(tmp_path / "labels")
    (tmp_path / "labels/summary.json").unlink()
    write_run(tmp_path / "summary", images=False)
    for path in (tmp_path / "summary/labels").iterdir():
        path.unlink()
    for name in ("labels", "summary"):
        code, _, errors = report(tmp_path / name, "--no-tensorboard", "--map-rounds", 1)
        assert code == 0, errors
        ids = page_of(tmp_path / name).ids
        assert ("costs" in ids) == (name == "summary") and ("certain" in ids) == (name == "labels")


def test_report__collapsed_rounds_have_no_file(report, tmp_path):
    write_run(tmp_path / "run", images=False)
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    summary["rounds"][1] |= {"collapsed": "Round 1: one cluster."}
    (tmp_path / "run/summary.json").write_text(json.dumps(summary))
    (tmp_path / "run/labels/round_001.npz").unlink()
    (tmp_path / "run/labels/images.txt").write_bytes(b"a\xff.jpg\n" * 80)  # no UTF-8
    assert report(tmp_path / "run", "--no-tensorboard", "--map-rounds", 1)[0] == 0
    notes = json.loads((tmp_path / "run/report.json").read_text())["notes"]
    assert len(notes) == 1 and "cannot be shown" in notes[0]
    assert "a?.jpg" in (tmp_path / "run/report.html").read_text(encoding="utf-8")


def test_report__label_file_of_an_earlier_version(report, tmp_path):
    write_run(tmp_path / "run", rounds=1)
    path = tmp_path / "run/labels/round_000.npz"
    old = {name: x for name, x in np.load(path).items()
           if not name.startswith(("silhouette", "map", "camera"))}  # fmt: skip
    np.savez(path, **old)
    code, _, errors = report(tmp_path / "run", "--no-tensorboard")
    assert code == 0, errors
    assert "it is not known how certain images are" in (tmp_path / "run/report.html").read_text()


@pytest.mark.parametrize(
    "options,sentence",
    [
        (["--round", "9"], "--round is 9, but"),
        (["--clusters", "-1"], "--clusters is -1"),
        (["--map-rounds", "-2"], "--map-rounds is -2"),
        (["--image-root", "/no/where"], "--image-root is /no/where, which is no folder"),
        (["--out", ""], "--out is empty"),
        (["--json", "{run}/summary.json"], "which is read too"),
        (["--json", "{run}/report.html"], "name two files"),
        (["--json", "{run}/labels/../report.html"], "name two files"),
        (["--out", "/proc/x.html"], "--out is /proc/x.html, but no file can be made in /proc"),
    ],
)
def test_mistakes__one_sentence_and_nothing_written(report, tmp_path, options, sentence):
    run = tmp_path / "run"
    write_run(run, rounds=1, images=False)
    before = sorted(tmp_path.rglob("*"))
    code, _, errors = report(run, *(word.format(run=run) for word in options))
    assert code == 2 and sentence in errors and len(errors.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_no_run__one_sentence(report, tmp_path):
    code, _, errors = report(tmp_path)
    assert code == 2 and "holds no round, neither in summary.json nor in labels" in errors


@pytest.mark.parametrize("summary", [{"a": 1}, {"method": "P2LR", "rounds": []}])
def test_no_round__one_sentence_that_names_the_log(report, tmp_path, summary):
    write_summary(tmp_path, summary)
    (tmp_path / "log.txt").write_text("")
    code, _, errors = report(tmp_path)
    assert code == 2 and f"{tmp_path}/log.txt says how far" in errors
    assert not (tmp_path / "report.html").exists()


def test_no_round__all_label_files_damaged(report, tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/round_000.npz").write_bytes(b"x")
    code, _, errors = report(tmp_path)
    assert code == 2 and "holds no round that can be shown. Round 0 is left out" in errors


def test_tensorboard__what_is_in_its_way_is_said_before_the_work(report, tmp_path, monkeypatch):
    write_run(tmp_path, rounds=1, images=False)
    (tmp_path / "report_tensorboard").write_text("")
    code, _, errors = report(tmp_path)
    assert code == 2 and "report_tensorboard is no folder" in errors
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, errors = report(tmp_path)
    assert code == 2 and "by torch, which is not installed; install it, or give" in errors
    assert not (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_report__of_a_trained_run_in_a_fresh_process(tmp_path, data):
    out = tmp_path / "out"
    train_net(ROOT / "configs/Synthetic/msplr.yml", "OUTPUT_DIR", str(out), *TINY, data=data)
    done = processes.run([ROOT / "tools/report.py", out, "--clusters", "2"], timeout=120)
    assert done.returncode == 0, done.stderr
    page, figures = page_of(out), json.loads((out / "report.json").read_text())
    assert len(figures["map"]["rounds"]) == 2 and page.images
    assert {"scores", "truth", "map", "costs"} <= set(page.ids)
    assert figures["rounds"][0]["quality"]["silhouette"] <= 1
    assert list((out / "report_tensorboard").glob("events.out.tfevents.*"))


@pytest.mark.slow
def test_help__is_quick_and_fits_a_screen():
    done = processes.run_fresh([ROOT / "tools/report.py", "--help"], timeout=60, COLUMNS="80")
    assert done.returncode == 0 and len(done.stdout.splitlines()) <= 24
    assert done.stdout.count("default") >= 5
