"""tools/scan_eps.py and UDA.CLUSTER.EPS auto, as a user types them."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from fastreid_uda.cli import scan_eps
from fastreid_uda.config import build_labeler
from fastreid_uda.config_loading import load_config
from fastreid_uda.data.build import build_extraction_loader, load_training_images
from fastreid_uda.engine.checkpointing import save_checkpoint
from fastreid_uda.engine.feature_extraction import extract_features
from fastreid_uda.errors import UserError
from fastreid_uda.labeling.eps import FixedEps, Rho
from fastreid_uda.labeling.eps_scan import Scan
from fastreid_uda.modeling.build import build_network
from tests import processes
from tests.helpers import ROOT, TINY, make_features

TOOL = str(ROOT / "tools/scan_eps.py")
BASELINE = str(ROOT / "configs/Synthetic/baseline.yml")
SECRET = str(ROOT / "configs/Synthetic/secret.yml")
MSPLR = str(ROOT / "configs/Synthetic/msplr.yml")
FEW = ["UDA.DISTANCE.JACCARD.K1", "10", "UDA.CLUSTER.DBSCAN.MIN_SAMPLES", "3"]
NO_CAMERAS = ["UDA.CAMERA_NORMALIZATION", "False"]


@pytest.fixture
def run(capsys):
    """The tool in this process: exit code, output, errors."""

    def call(*arguments):
        try:
            code = scan_eps.main(list(map(str, arguments)))
        except SystemExit as stop:  # what argparse refuses
            code = stop.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def saved(tmp_path):
    """A file with cameras and identities."""
    features, identities = make_features(noise=0.4)
    path = tmp_path / "features.npz"
    np.savez(path, camera_ids=features.camera_ids, identities=identities, **features.views)
    return path


def test_table__recommends_what_auto_uses(run, saved):
    code, text, errors = run(saved, "--config-file", BASELINE, *FEW)
    assert code == 0, errors
    title, header, *lines = text.strip().splitlines()
    (chosen,) = (line for line in lines if line.endswith("<-"))
    assert len(lines) == 13 and header.split()[0] == "eps" and header.endswith("pair F1")
    assert title == f"View 'global': recommended UDA.CLUSTER.EPS {chosen.split()[0]}"
    labels = saved.with_name("labels.npz")
    auto = [ROOT / "tools/label_features.py", saved, "--config-file", BASELINE, "--out", labels]
    done = processes.run([*auto, *FEW, "UDA.CLUSTER.EPS", "auto"], timeout=60)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert line["eps"] == float(chosen.split()[0])
    assert line["clusters"] == int(chosen.split()[1])


def test_json_and_csv__hold_the_same_numbers(run, saved):
    arguments = [saved, "--config-file", BASELINE, "--eps", "0.2", "0.5", "4", *FEW]
    views = json.loads(run(*arguments, "--json")[1])
    lines = list(csv.DictReader(io.StringIO(run(*arguments, "--csv")[1])))
    rows = views["global"]["rows"]
    assert [row["eps"] for row in rows] == [0.2, 0.3, 0.4, 0.5]
    assert views["global"]["doubt"] == "" and len(lines) == 4
    for row, line in zip(rows, lines, strict=True):
        assert line["view"] == "global"
        assert int(line["recommended"]) == (row["eps"] == views["global"]["eps"])
        for name in ("eps", "clusters", "kept", "largest", "silhouette", "score", "pair_f1"):
            assert float(line[name]) == row[name]
    assert rows[0]["stability"] is None and lines[0]["stability"] == ""


def test_figure__each_view_and_only_what_is_known(run, tmp_path):
    features, identities = make_features(noise=0.4)
    views = {"global": features.views["global"], "top": features.views["global"][:, ::2]}
    np.savez(tmp_path / "known.npz", camera_ids=features.camera_ids, identities=identities, **views)
    np.savez(tmp_path / "unknown.npz", **views)
    shapes = []
    for name in ("known", "unknown"):
        figure = tmp_path / f"new/{name}.png"
        code, text, errors = run(
            tmp_path / f"{name}.npz", "--config-file", BASELINE, "--out", figure, *FEW, *NO_CAMERAS
        )
        assert code == 0, errors
        assert text.count("View ") == 2 and ("pair F1" in text) == (name == "known")
        pixels = np.array(Image.open(figure).convert("RGB"))
        shapes.append(pixels.shape)
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10
    assert shapes[0][0] > shapes[1][0] and shapes[0][1] == shapes[1][1]  # 8 panels and 6
    for suffix in ("pdf", "svg"):
        run(
            tmp_path / "known.npz",
            "--config-file",
            BASELINE,
            "--out",
            tmp_path / f"f.{suffix}",
            *FEW,
        )
        assert (tmp_path / f"f.{suffix}").stat().st_size > 1000


def test_settings_of_the_config__change_the_scan(run, saved):
    def rows(config, *overrides):
        return json.loads(run(saved, "--config-file", config, "--json", *FEW, *overrides)[1])

    plain = rows(BASELINE)
    for overrides in (
        NO_CAMERAS,
        ["UDA.DISTANCE.NAME", "Cosine"],
        ["UDA.CLUSTER.DBSCAN.MIN_SAMPLES", "6"],
    ):
        assert rows(BASELINE, *overrides) != plain
    assert rows(BASELINE, "UDA.CLUSTER.EPS", "0.9") == plain
    assert rows(BASELINE, "UDA.REFINERS", "('MSPLR',)") == plain


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """The OUTPUT_DIR of a run of a network with three views, and its features."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(data))
        cfg = load_config(
            SECRET, [*TINY, "MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False"]
        )
        network = build_network(cfg)
        save_checkpoint(str(folder / "model_final.pth"), {"model": network.state_dict()})
        (folder / "config.yaml").write_text(cfg.dump())
        images = load_training_images(cfg.UDA.TARGET, cfg)
        features = extract_features(network, build_extraction_loader(images, cfg), images)
    return folder, features, images.identities


def test_run__its_network_and_its_config(run, finished, data, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(data))
    folder, features, identities = finished
    copy = tmp_path / "features.npz"
    more = ["UDA.DISTANCE.NAME", "Cosine", "UDA.CLUSTER.SCAN.STEPS", "5"]
    code, text, errors = run("--run", folder, "--save-features", copy, "--json", *more)
    assert code == 0, errors
    assert list(json.loads(text)) == ["global", "top", "bottom"]
    arrays = np.load(copy)
    np.testing.assert_array_equal(arrays["identities"], identities)
    np.testing.assert_array_equal(arrays["camera_ids"], features.camera_ids)
    for view, x in features.views.items():
        np.testing.assert_allclose(arrays[view], x, atol=1e-5)
    again = run(copy, "--config-file", folder / "config.yaml", "--json", *more)[1]
    assert json.loads(again) == json.loads(text)
    (tmp_path / "config.yaml").write_text((folder / "config.yaml").read_text())
    code, _, errors = run("--run", tmp_path)
    assert code == 2 and "holds neither model_last.pth nor model_final.pth" in errors


BAD_OPTIONS = [
    (["--eps", "0.5", "0.2", "3"], "must be above the lowest"),
    (["--eps", "0.2", "1.5", "3"], "SCAN.HIGHEST is 1.5"),
    (["--eps", "0.2", "0.5", "2.5"], "UDA.CLUSTER.SCAN.STEPS"),
    (["--eps", "nan", "0.5", "3"], "UDA.CLUSTER.SCAN.LOWEST"),
    (["UDA.CLUSTER.NAME", "KMeans"], "no eps to scan"),
    (["--out", "f.xyz"], "f.xyz cannot be drawn"),
    (["--save-features", "/proc/f.npz"], "/proc/f.npz cannot be written"),
]


@pytest.mark.parametrize("options,sentence", BAD_OPTIONS)
def test_bad_options__one_sentence_and_code_2(run, saved, tmp_path, monkeypatch, options, sentence):
    monkeypatch.chdir(tmp_path)
    code, text, errors = run(saved, "--config-file", BASELINE, *FEW, *options)
    assert code == 2 and not text and sentence in errors
    assert errors.startswith("error: ") and len(errors.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "arguments,sentence",
    [
        ([], "give FEATURES.npz with --config-file FILE, or --run OUTPUT_DIR"),
        (["f.npz"], "give FEATURES.npz with --config-file FILE"),
        (["--config-file", BASELINE], "give FEATURES.npz with --config-file FILE"),
        (["--run", "nowhere"], "nowhere holds no config.yaml"),
        (["no.npz", "--config-file", BASELINE], "no such file"),
        (["no.npz", "--config-file", "nowhere.yml"], "nowhere.yml does not exist"),
        (["no.npz", "--config-file", BASELINE, "--eps", "0.2"], "expected 3 arguments"),
    ],
)
def test_bad_arguments__one_sentence_and_code_2(run, arguments, sentence):
    code, text, errors = run(*arguments)
    assert code == 2 and not text and sentence in errors.splitlines()[-1]


def test_crowded_eps__is_said_in_the_table(run, tmp_path):
    features, _ = make_features(num_identities=3, images=60, noise=0.05)
    np.savez(tmp_path / "f.npz", **features.views)
    arguments = [tmp_path / "f.npz", "--config-file", BASELINE, *NO_CAMERAS]
    _, text, _ = run(*arguments, "UDA.DISTANCE.NAME", "Cosine", "--eps", "0.2", "0.3", "3")
    assert "one cluster holds 33% of the images, more than a tenth" in text.splitlines()[1]


def labeler_of(*overrides):
    return build_labeler(load_config(MSPLR, list(overrides)))


def test_auto__is_the_rule_scan_with_its_keys():
    assert isinstance(labeler_of().eps, FixedEps)  # of the file
    assert labeler_of("UDA.CLUSTER.EPS", "auto").eps == Scan()
    keys = ["UDA.CLUSTER.SCAN.LOWEST", "0.1", "UDA.CLUSTER.SCAN.STEPS", "4"]
    assert labeler_of("UDA.CLUSTER.EPS", "auto", *keys).eps == Scan(0.1, 0.0, 4)
    assert labeler_of("UDA.CLUSTER.EPS", "auto", "UDA.CLUSTER.EPS", "0.3").eps == FixedEps(0.3)
    assert labeler_of("UDA.CLUSTER.EPS", "None").eps == Rho()


@pytest.mark.parametrize(
    "overrides,sentence",
    [
        (["UDA.CLUSTER.EPS", "automatic"], r"EPS is 'automatic', but it must be a number, auto"),
        (["UDA.CLUSTER.EPS", "True"], r"EPS is True, but it must be a number"),
        (["UDA.CLUSTER.EPS", "(0.3, 0.4)"], r"EPS is \(0\.3, 0\.4\), but it must be a number"),
        (["UDA.CLUSTER.EPS", "auto", "UDA.CLUSTER.NAME", "KMeans"],
         r"UDA\.CLUSTER\.EPS is auto.*UDA\.CLUSTER\.NAME is KMeans.*DBSCAN"),
        (["UDA.CLUSTER.EPS", "None", "UDA.CLUSTER.EPS_RULE", "Scan", "UDA.CLUSTER.NAME", "KMeans",
          "UDA.REFINERS", "('NPLP',)"], r"UDA\.CLUSTER\.EPS_RULE is Scan.*NAME is KMeans"),
        (["UDA.CLUSTER.EPS", "auto", "UDA.DISTANCE.NAME", "Jaccard",
          "UDA.CLUSTER.SCAN.HIGHEST", "1.0"], r"SCAN\.HIGHEST is 1\.0, but distances end at 1\.0"),
    ],
)  # fmt: skip
def test_auto__what_cannot_work_is_refused_at_the_start(overrides, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        labeler_of(*overrides)
    assert str(error.value).count(". ") == 0
