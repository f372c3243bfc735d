"""Own cameras as a user has them: a released checkpoint, a folder of crops, nothing else."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fastreid.config import get_cfg
from fastreid.modeling.meta_arch import build_model
from PIL import Image

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.cli.extract import main as extract
from fastreid_uda.cli.search import main as search
from fastreid_uda.data.build import load_training_images
from fastreid_uda.engine.embedding import run_config
from fastreid_uda.engine.run_features import extract_run_features
from fastreid_uda.engine.trainer import UDATrainer
from fastreid_uda.errors import UserError
from fastreid_uda.labeling.label_files import read_feature_set
from tests.helpers import ROOT, train_net, write_market

PATTERN = r"^(?P<camera>[^/]+)/"
SIZE = ["INPUT.SIZE_TRAIN", "[32,32]", "INPUT.SIZE_TEST", "[32,32]", "MODEL.DEVICE", "cpu",
        "DATALOADER.NUM_WORKERS", "0"]  # fmt: skip
QUICK = [*SIZE, "UDA.ROUNDS", "2", "UDA.ITERS_PER_EPOCH", "2", "SOLVER.IMS_PER_BATCH", "16",
         "UDA.CLUSTER.DBSCAN.MIN_SAMPLES", "2", "UDA.MSPLR.MIN_IMAGES", "2",
         "UDA.DISTANCE.JACCARD.K1", "8",
         "UDA.CLUSTER.EPS", "0.5", "UDA.CLUSTER.KMEANS.IMAGES_PER_CLUSTER", "6"]  # fmt: skip


def write_zoo_checkpoint(path):
    """A checkpoint with the names and the content of fast-reid's model zoo."""
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "Baseline", "cpu"
    cfg.MODEL.BACKBONE.update({"NAME": "build_shufflenetv2_backbone", "DEPTH": "0.5x",
                               "FEAT_DIM": 1024, "PRETRAIN": False})  # fmt: skip
    cfg.MODEL.HEADS.update({"NAME": "EmbeddingHead", "WITH_BNNECK": True, "NUM_CLASSES": 9,
                            "POOL_LAYER": "GeneralizedMeanPoolingP"})  # fmt: skip
    torch.manual_seed(0)
    network = build_model(cfg).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # one batch gives the statistics of a trained network
    images = torch.rand(64, 2, 3, 1, 1).repeat_interleave(16, dim=3).repeat(1, 1, 1, 1, 32)
    colours = 4 * (torch.cat(list(images.unbind(1)), dim=2) - 0.5)  # as those of `write_market`
    with torch.no_grad():
        network.heads.bottleneck(network.heads.pool_layer(network.backbone(colours)))
    torch.save({"model": network.state_dict(), "iteration": 7}, path)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """`zoo.pth`, `crops/<camera>/<image>` of 6 people and 3 cameras, `cameras.csv`, `query.jpg`."""
    home = tmp_path_factory.mktemp("home")
    write_zoo_checkpoint(home / "zoo.pth")
    base = write_market(home / "market", per_camera=3)
    rows = []
    for file in sorted((base / "bounding_box_train").iterdir()):
        person, rest = file.name.split("_c")
        folder = home / "crops" / f"Straße {rest[0]}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / f"人 {person} {rest}")
        rows.append((f"Straße {rest[0]}/人 {person} {rest}", f"camera {rest[0]}", person))
    with open(home / "cameras.csv", "w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows([("path", "camera", "identity"), *rows])
    shutil.copy(home / "crops" / rows[0][0], home / "query.jpg")
    return home


@pytest.fixture(autouse=True)
def in_home(home, monkeypatch):
    monkeypatch.chdir(home)


def tool(name, *words, check=True):
    """A tool in a new interpreter, in the current folder."""
    process = subprocess.run(
        [sys.executable, str(ROOT / f"tools/{name}.py"), *map(str, words)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if check:
        assert process.returncode == 0, process.stdout + process.stderr
    return process


def rows_of(index):
    with open(Path(index) / "index.csv", newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table))


@pytest.fixture(scope="module")
def plain_index(home):
    """An index of the checkpoint as it is, without cameras."""
    index = home / "plain_index"
    words = [home / "crops", "--weights", home / "zoo.pth", "--out", index, *SIZE]
    assert extract(list(map(str, words))) == 0
    return index


@pytest.mark.slow
def test_one_command_then_extract_then_search(home):
    folder = ["DATASETS.FOLDER.TRAIN", home / "crops", "DATASETS.FOLDER.PATTERN", PATTERN]
    shutil.copy("zoo.pth", "start.pth")
    words = ["MODEL.WEIGHTS", home / "start.pth", *folder, "OUTPUT_DIR", home / "logs/my_cameras"]
    config = "configs/OwnCameras/msplr.yml"
    run = tool("train_net", "--config-file", config, *words, *QUICK)
    log = Path("logs/my_cameras/log.txt").read_text()
    assert "start.pth: build_shufflenetv2_backbone 0.5x; PseudoLabelHead" in run.stdout
    assert "start at random" not in log and "does not use" not in log
    summary = json.loads(Path("logs/my_cameras/summary.json").read_text())
    assert len(summary["rounds"]) == 2 and summary["rounds"][0]["clusters"] > 1
    written = yaml.safe_load(Path("logs/my_cameras/config.yaml").read_text())
    assert written["MODEL"]["BACKBONE"]["FEAT_DIM"] == 1024
    assert written["MODEL"]["HEADS"]["POOL_LAYER"] == "GeneralizedMeanPoolingP"
    Path("start.pth").unlink()  # its weights are in the checkpoint of the run
    resumed = train_net(config, *words, *QUICK, "--resume").stdout
    assert "starting from epoch 2" in resumed
    assert "my_cameras: build_shufflenetv2_backbone 0.5x; PseudoLabelHead" in resumed
    assert "The config is not that of" not in resumed

    said = tool("extract", "crops", "--run", "logs/my_cameras", "--out", "index").stdout
    assert said.startswith("54 images of 3 camera(s), 1024 dimensions, network ")
    rows = rows_of("index")
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    assert {row["camera"] for row in rows} == {"Straße 1", "Straße 2", "Straße 3"}  # the run's

    query = rows[0]["path"]
    table = tool("search", "index", f"crops/{query}", "--top", "5", "--out", "sheet.png").stdout
    lines = table.splitlines()
    assert f"crops/{query} (row 0 of the index, camera Straße 1)" in lines[0]
    assert lines[1].split() == ["rank", "distance", "camera", "path"] and len(lines) == 3 + 5
    assert query not in "\n".join(lines[1:])
    with Image.open("sheet.png") as sheet:
        assert sheet.mode == "RGB" and sheet.width > 5 * 112 and sheet.height > 224

    found = json.loads(tool("search", "index", "query.jpg", "--json", "--top", "2").stdout)
    match = found["queries"][0]["matches"][0]
    assert match["path"] == query and match["distance"] == pytest.approx(0, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["baseline", "secret", "p2lr"])
def test_every_config_without_cameras_runs(method, home, tmp_path):
    files = ["MODEL.WEIGHTS", home / "zoo.pth", "DATASETS.FOLDER.TRAIN", home / "crops"]
    config = ROOT / f"configs/OwnCameras/{method}.yml"
    run = train_net(config, *files, "OUTPUT_DIR", tmp_path, *QUICK)
    assert (tmp_path / "model_final.pth").is_file()
    assert ("start at random" in run.stdout) == (method == "secret")
    assert extract(["crops", "--run", str(tmp_path), "--out", str(tmp_path / "index")]) == 0
    features, _ = read_feature_set(tmp_path / "index/features.npz")
    own = run_config(str(tmp_path))
    if method != "p2lr":  # of which a run clusters the mean of both teachers
        expected, _ = extract_run_features(str(tmp_path))
        np.testing.assert_allclose(features.views["global"], expected.views["global"], atol=1e-6)
    assert own.TEST.VIEWS == ("global",) and not own.UDA.MEAN_TEACHER.ENABLED
    if method == "p2lr":
        words = ["crops", "--run", str(tmp_path), "--out", str(tmp_path / "index")]
        assert extract([*words, "--teacher", "2"]) == 0
        second, _ = read_feature_set(tmp_path / "index/features.npz")
        assert not np.allclose(second.views["global"], features.views["global"])
        assert extract([*words, "--teacher", "3"]) == 2


def test_extract__is_what_the_evaluation_scores(home, plain_index, monkeypatch):
    """The same batches through `UDATrainer.evaluate`, whose evaluator keeps its features."""
    from fastreid_uda.engine import trainer
    from fastreid_uda.engine.embedding import file_config
    from fastreid_uda.engine.weights import load_weights

    words = ["DATASETS.FOLDER.TRAIN", "crops", "DATASETS.FOLDER.QUERY", "crops",
             "DATASETS.FOLDER.GALLERY", "crops", "DATASETS.FOLDER.CSV", "cameras.csv",
             "DATASETS.TESTS", "('PersonFolder',)", "TEST.FLIP.ENABLED", "True"]  # fmt: skip
    cfg = file_config("zoo.pth", "", [*SIZE, *words])
    kept = []

    class Keeping(trainer.BlockwiseReidEvaluator):
        def process(self, inputs, outputs):
            kept.append(outputs.numpy().copy())
            super().process(inputs, outputs)

    monkeypatch.setattr(trainer, "BlockwiseReidEvaluator", Keeping)
    network = UDATrainer.build_model(cfg)
    load_weights(network, ["zoo.pth"])
    UDATrainer.evaluate(cfg, network)
    scored = np.concatenate(kept)
    out = ["--out", "flipped", "TEST.FLIP.ENABLED", "True"]
    assert extract(["crops", "--weights", "zoo.pth", *out, *SIZE]) == 0
    features, _ = read_feature_set("flipped/features.npz")
    images = load_training_images(("PersonFolder",), cfg)
    # Batches are of other images, so the sums of a convolution may be in another order.
    np.testing.assert_allclose(features.views["global"], scored[: len(images)], atol=2e-6)
    plain, _ = read_feature_set(plain_index / "features.npz")
    assert not np.allclose(plain.views["global"], features.views["global"], atol=1e-4)


def test_extract__with_a_table_knows_cameras_and_identities(capsys):
    words = ["crops", "--weights", "zoo.pth", "--out", "by_table", "--csv", "cameras.csv", *SIZE]
    assert extract([*words, "--copy-weights"]) == 0
    assert "54 images of 3 camera(s)" in capsys.readouterr().out
    features, identities = read_feature_set("by_table/features.npz")
    rows = rows_of("by_table")
    assert features.camera_ids.tolist() == [int(row["camera"][-1]) - 1 for row in rows]
    assert identities.tolist() == [int(row["identity"]) - 1 for row in rows]
    os.rename("by_table", "moved")
    assert search(["moved", "query.jpg", "--camera", "camera 1", "--other-cameras", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["queries"][0]["matches"]
    assert {match["camera"] for match in found} == {"camera 2", "camera 3"}
    assert found[0]["identity"] is not None and len(found) == 20


def test_label_features__reads_an_index(plain_index, tmp_path):
    from fastreid_uda.cli.label import main as label

    config = ["--config-file", "configs/OwnCameras/p2lr.yml", "UDA.REFINERS", "()"]
    out = ["--out", str(tmp_path / "labels.npz")]
    assert label([str(plain_index / "features.npz"), *config, *out]) == 0


def refused(capsys, command, *words):
    assert command(list(map(str, words))) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    return error


def test_extract__what_is_refused(tmp_path, capsys, plain_index):
    def no(*words, crops="crops", weights="zoo.pth"):
        out = ["--out", tmp_path / "index"] if "--out" not in words else []
        text = refused(capsys, extract, crops, "--weights", weights, *words, *out, *SIZE)
        assert not (tmp_path / "index").exists()
        return text

    (tmp_path / "empty").mkdir()
    bad = tmp_path / "bad"
    bad.mkdir()
    Image.new("RGB", (8, 8)).save(bad / "ok.png")
    (bad / "böse.jpg").write_text("no image")
    assert no(crops="none").startswith("error: CROPS is ") and "not a folder" in no(crops="none")
    assert "holds no images" in no(crops=tmp_path / "empty")
    assert "böse.jpg" in no(crops=bad)
    (bad / "böse.jpg").unlink()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(bad / "cut.png")
    whole = (bad / "cut.png").read_bytes()
    (bad / "cut.png").write_bytes(whole[: len(whole) // 2])
    assert "cut.png" in no(crops=bad)
    assert "no such file" in no(weights="zo.pth")
    assert "Cannot load cameras.csv" in no(weights="cameras.csv")
    assert "does not match" in no("--camera-pattern", r"(?P<camera>\d{9})")
    assert "--camera-pattern" in no("--camera-pattern", "(")
    assert "--csv" in no("--csv", "none.csv")
    assert "other things than an index" in no("--out", ".")
    assert "teacher" in no("--teacher", "0").lower()
    assert "1 network(s)" in no("--teacher", "2")
    assert "holds no config.yaml" in refused(
        capsys, extract, "crops", "--run", tmp_path, "--out", tmp_path / "index"
    )
    assert "belongs to --weights" in refused(
        capsys, extract, "crops", "--run", "x", "--config-file", "y", "--out", tmp_path / "index"
    )


def test_search__what_is_refused(tmp_path, capsys, plain_index):
    def no(*words, index=plain_index):
        return refused(capsys, search, index, *words)

    assert "no query" in no()
    assert "is no index" in no("query.jpg", index=tmp_path)
    assert "0 to 53" in no("--row", "54")
    assert "0 to 53" in no("--row", "-1")
    assert "--top is 0" in no("--row", "1", "--top", "0")
    assert "ends in .png" in no("--row", "1", "--out", "sheet.gif")
    assert "is read too" in no("query.jpg", "--out", "query.jpg")
    assert "The query gone.jpg is not there" in no("gone.jpg")
    assert "--images is 'none'" in no("--row", "1", "--images", "none")
    assert "no image of the index is there" in no("--row", "1", "--images", tmp_path)
    assert "The query cameras.csv cannot be read" in no("cameras.csv")
    assert "knows no cameras" in no("--row", "1", "--other-cameras")
    changed = tmp_path / "changed"
    shutil.copytree(plain_index, changed)
    facts = json.loads((changed / "index.json").read_text())
    (changed / "index.json").write_text(json.dumps(facts | {"weights_sha256": "0"}))
    assert "zoo.pth has changed since" in no("query.jpg", index=changed)
    assert search([str(changed), "--row", "3"]) == 0  # needs no network


def test_extract__a_checkpoint_of_nan(tmp_path, capsys):
    zoo = torch.load("zoo.pth")
    zoo["model"]["heads.bottleneck.0.weight"][:] = float("nan")
    torch.save(zoo, tmp_path / "nan.pth")
    words = ["crops", "--weights", tmp_path / "nan.pth", "--out", tmp_path / "index", *SIZE]
    text = refused(capsys, extract, *words)
    assert "nan.pth gives features that are NaN or infinite for 54 of 54 image(s)" in text
    assert not (tmp_path / "index").exists()


def test_search__crops_that_were_moved_or_changed(tmp_path, capsys, caplog, plain_index):
    shutil.copytree("crops", tmp_path / "crops")
    words = [tmp_path / "crops", "--weights", "zoo.pth", "--out", tmp_path / "index", *SIZE]
    assert extract([*map(str, words), "--copy-weights"]) == 0
    text = refused(
        capsys, extract, words[0], "--weights", tmp_path / "index/weights.pth", *words[3:]
    )
    assert "add --copy-weights" in text
    paths = [row["path"] for row in rows_of(tmp_path / "index")]

    def answer(*more):
        caplog.clear()
        assert search([str(tmp_path / "index"), "--json", "--top", "60", *map(str, more)]) == 0
        return json.loads(capsys.readouterr().out)["queries"][0]

    expected = answer(tmp_path / "crops" / paths[3], "--rerank")
    assert expected["row"] == 3 and len(expected["matches"]) == 53 and not caplog.records
    os.rename(tmp_path / "crops", tmp_path / "now")
    assert answer(tmp_path / "now" / paths[3])["matches"][0]["row"] == 3  # not known as itself
    assert f"54 of 54 images are not under {tmp_path / 'crops'} any more" in caplog.text
    images = ["--images", tmp_path / "now"]
    found = answer(tmp_path / "now" / paths[3], "--rerank", *images)
    assert found["matches"] == expected["matches"] and not caplog.records
    with open(tmp_path / "now" / paths[3], "ab") as file:
        file.write(b"x")
    assert answer(tmp_path / "now" / paths[3], *images)["row"] == 3
    assert "1 of 54 images have changed since" in caplog.text and paths[3] in caplog.text


def test_search__an_index_of_one_image(tmp_path, capsys):
    (tmp_path / "one").mkdir()
    shutil.copy("query.jpg", tmp_path / "one")
    words = [tmp_path / "one", "--weights", "zoo.pth", "--out", tmp_path / "index", *SIZE]
    assert extract([*map(str, words)]) == 0
    capsys.readouterr()
    assert search([str(tmp_path / "index"), "--row", "0", "--rerank", "--out", "one.png"]) == 0
    assert "(row 0 of the index): the index has no other image." in capsys.readouterr().out


def test_extract__has_no_more_workers_than_cores(tmp_path, monkeypatch):
    from fastreid_uda.engine import embedding

    seen = []

    def loader(images, cfg):
        seen.append(cfg.DATALOADER.NUM_WORKERS)
        raise UserError("enough")

    monkeypatch.setattr(embedding, "build_extraction_loader", loader)
    monkeypatch.setattr(embedding, "num_cores", lambda: 3)
    for asked in ("8", "1"):
        words = ["crops", "--weights", "zoo.pth", "--out", str(tmp_path / "index"), *SIZE[:-1]]
        assert extract([*words, asked]) == 2
    assert seen == [3, 1]


def test_search__cameras_that_are_unknown(capsys, plain_index):
    words = ["crops", "--weights", "zoo.pth", "--out", "by_folder", "--camera-pattern", PATTERN]
    assert extract([*words, *SIZE]) == 0
    text = refused(capsys, search, "by_folder", "query.jpg", "--camera", "roof")
    assert "'roof', but the index knows: Straße 1, Straße 2, Straße 3." in text
    text = refused(capsys, search, "by_folder", "query.jpg", "--other-cameras")
    assert "add --camera" in text
    capsys.readouterr()
    assert search(["by_folder", "--row", "0", "--row", "20", "--other-cameras", "--rerank"]) == 0
    table = capsys.readouterr().out.split("\n\n")
    assert len(table) == 2 and "cosine, re-ranked" in table[0]
    assert "Straße 1" not in table[0].split("\n", 2)[2]
