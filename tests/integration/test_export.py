"""A network is taken away by the command, and used as the examples of docs/export.md say."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import torch

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.data.image_files import load_image
from fastreid_uda.data.transforms import build_transforms
from fastreid_uda.export.networks import load_network
from fastreid_uda.export.sources import open_source
from tests import processes
from tests.export.runs import RESNET
from tests.helpers import ROOT, TINY, read_summary, train_net, write_market

PAGE = (ROOT / "docs/export.md").read_text(encoding="utf-8")
TOOL = ROOT / "tools/export.py"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
EXAMPLES = dict(zip(("onnxruntime", "fastreid", "torch"), BLOCKS, strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A fresh folder with a run of SECRET, its export and two images."""
    root = tmp_path_factory.mktemp("a fresh folder")
    write_market(root / "data", test_identities=12, seed=3)
    train_net(ROOT / "configs/Synthetic/secret.yml", *TINY, *RESNET, "OUTPUT_DIR",
              str(root / "run"), "UDA.CLUSTER.EPS", "0.4", data=root / "data")  # fmt: skip
    done = processes.run([TOOL, root / "run", "--out", root / "exported", "--format",
                          "fastreid", "onnx", "torch-export"], 200,
                         FASTREID_DATASETS=str(root / "data"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "model.onnx" in done.stdout and "images of Market1501" in done.stdout
    images = sorted((root / "data").rglob("query/*.jpg"))
    shutil.copy(images[0], root / "a.jpg")
    shutil.copy(images[-1], root / "b.jpg")
    return root


def run_example(name, folder, before=""):
    environment = {"FASTREID_DATASETS": str(folder / "data"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", before + EXAMPLES[name]], cwd=folder, text=True,
                          env=processes.os.environ | environment, capture_output=True,
                          timeout=200)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_fastreid__its_own_test_gives_the_score_of_the_run(folder):
    found = float(re.search(r"^mAP (\S+)$", run_example("fastreid", folder), re.M)[1])
    last = read_summary(folder / "run")["last"]["mAP"]
    assert found == pytest.approx(last, abs=0.01) and 5 < last < 99
    assert json.loads((folder / "exported/export.json").read_text())["scores"]["mAP"] == last


@pytest.mark.slow
def test_onnxruntime__two_image_files_are_as_alike_as_in_the_run(folder):
    found = float(run_example("onnxruntime", folder).removeprefix("cosine"))
    source = open_source(str(folder / "run"))
    network, transform = load_network(source), build_transforms(source.cfg, is_train=False)
    images = torch.stack([transform(load_image(str(folder / f))) for f in ("a.jpg", "b.jpg")])
    with torch.no_grad():
        first, second = network.module({"images": images})["global"]
    expected = torch.nn.functional.cosine_similarity(first, second, dim=0).item()
    assert found == pytest.approx(expected, abs=1e-4) and expected < 0.9999


@pytest.mark.slow
def test_torch__gives_features_of_another_batch_size(folder):
    size = json.loads((folder / "exported/export.json").read_text())["input_size"]
    out = run_example("torch", folder, before=f"SIZE = {size}\n")
    assert out.strip() == "features (4, 512)"


@pytest.mark.slow
@pytest.mark.parametrize(
    "words,sentence",
    [
        (["{run}", "--out", "{run}"], "--out is .*, which is not empty; name a new or an empty"),
        (["{run}", "--out", "{new}", "--format", "caffe"], "--format is 'caffe', but the known"),
        (["{run}", "--out", "{new}", "--number", "3", "--format", "fastreid"], "--number is 3"),
        (["{new}", "--out", "{new}"], "neither the OUTPUT_DIR of a run nor a checkpoint"),
        (["{run}", "--out", "{new}", "--checkpoint", "first"], "--checkpoint is 'first', but"),
        (["{run}", "--out", "{new}", "--views", "left"], "--views is left, but the views of this"),
        (["{run}", "--out", "{new}", "TEST.ETA"], "overrides come in pairs"),
    ],
)
def test_mistakes__end_with_one_sentence(folder, words, sentence):
    places = {"run": folder / "run", "new": folder / "new"}
    done = processes.run([TOOL, *(word.format(**places) for word in words)], 60)
    assert done.returncode == 2 and done.stdout == ""
    assert re.search(f"^error: .*{sentence}", done.stderr.strip().splitlines()[-1])
    assert len(done.stderr.strip().splitlines()) == 1 and not places["new"].exists()


def test_help__fits_a_screen():
    done = processes.run([TOOL, "--help"], 60, COLUMNS="80")
    assert done.returncode == 0 and len(done.stdout.splitlines()) <= 24
    assert "default: fastreid,onnx" in " ".join(done.stdout.split())
