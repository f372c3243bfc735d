"""docs/extending.md: its files are put into a folder of a user, and its commands are run there."""

import json
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from fastreid_uda.labeling.types import OUTLIER
from tests.helpers import ROOT, TINY, make_features, read_summary, write_market

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r'^```(\w+)(?: title="([\w.]+)")?\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)
FILES = {title: text for kind, title, text in BLOCKS if kind in ("python", "yaml")}
COMMANDS = {re.search(r"--config-file (\w+)\.yml", text)[1]: text
            for kind, _, text in BLOCKS if kind == "bash"}  # fmt: skip
SMALL = ["MODEL.BACKBONE.PRETRAIN", "False", "DATALOADER.NUM_WORKERS", "0",
         "UDA.BN_GROUP", "0", "MODEL.DEVICE", "cpu"]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A folder outside of the checkout, with the files of the page and the command."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = tmp_path / "bin/fastreid-uda"
    command.parent.mkdir()
    command.write_text(
        f"#!{sys.executable}\nimport sys\nfrom fastreid_uda.cli import main\n"
        'if __name__ == "__main__":\n    sys.exit(main())\n'
    )
    command.chmod(0o755)
    features, identities = make_features(images=16, noise=0.1)
    ranks = np.array([np.count_nonzero(identities[:n] == i) for n, i in enumerate(identities)])
    kept = ranks < 5 + identities  # identity k, 0 to 11, has 5 + k images
    features, identities = features.subset(np.flatnonzero(kept)), identities[kept]
    np.savez(
        tmp_path / "features.npz", identities=identities, camera_ids=features.camera_ids,
        **features.views,
    )  # fmt: skip
    return tmp_path


def shell(folder, script, **environment):
    """What bash says of a script, which must not fail."""
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=folder, capture_output=True, text=True, timeout=300,
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"} | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def labels_of(folder, name="labels.npz"):
    with np.load(folder / name) as file:
        return file["labels/global"]


def sizes_of(labels):
    return sorted(np.bincount(labels[labels != OUTLIER]).tolist())


def test_page__has_five_complete_examples():
    assert set(COMMANDS) == {"largest", "components", "power", "confidence_penalty", "street"}
    for name in COMMANDS:
        assert f'PLUGINS: ("{name}.py",)' in FILES[f"{name}.yml"] and f"{name}.py" in FILES


def test_refiner__keeps_the_share_of_the_page(folder):
    lines = shell(folder, COMMANDS["largest"]).splitlines()
    kept = [json.loads(line)["kept"] for line in lines]
    clusters = [json.loads(line)["clusters"] for line in lines]
    assert clusters[0] > clusters[1] and kept[0] > kept[1]
    all_sizes, sizes = (sizes_of(labels_of(folder, f"{name}.npz")) for name in ("labels", "fewer"))
    assert sizes == all_sizes[-len(sizes) :] and len(sizes) == clusters[1]  # the largest of them


def test_refiner__mistake_in_its_key_is_one_sentence(folder):
    command = "! fastreid-uda label features.npz --config-file largest.yml --out x.npz " \
              "UDA.LARGEST.SHARE 2.0 2>&1"  # fmt: skip
    said = shell(folder, command)
    assert said.strip() == "error: UDA.LARGEST.SHARE is 2.0, but it must be in (0, 1]."
    assert not (folder / "x.npz").exists()


def test_clusterer__joins_what_is_within_eps(folder):
    shell(folder, COMMANDS["components"])
    labels = labels_of(folder)
    with np.load(folder / "features.npz") as file:
        identities = file["identities"]
    pairs = set(zip(labels.tolist(), identities.tolist(), strict=True))
    assert len({label for label, _ in pairs} - {OUTLIER}) == 12 == len(pairs)
    assert np.bincount(labels[labels != OUTLIER]).min() >= 4


def test_distance__is_measured(folder):
    shell(folder, f"{COMMANDS['power'].strip()} UDA.CLUSTER.RHO.FRACTION 0.06")
    with np.load(folder / "features.npz") as file:
        x = file["global"] / np.linalg.norm(file["global"], axis=1, keepdims=True)
    roots = np.sign(x) * np.sqrt(np.abs(x))
    ascending = np.sort(pdist(roots / np.linalg.norm(roots, axis=1, keepdims=True)))
    with np.load(folder / "labels.npz") as file:
        eps = ascending[: round(0.06 * len(ascending))].mean()
        assert file["eps/global"] == pytest.approx(eps, rel=1e-4)
        assert file["labels/global"].max() > 0


def test_criterion_of_p2lr__decides_which_images_are_kept(folder):
    page = (ROOT / "docs/methods/p2lr.md").read_text(encoding="utf-8")
    (code,) = re.findall(r'^```python title="ratio.py"\n(.*?)^```$', page, re.M | re.S)
    (command,) = re.findall(r"^```bash\n(fastreid-uda label .*?)^```$", page, re.M | re.S)
    (folder / "ratio.py").write_text(code, encoding="utf-8")
    said = shell(folder, f"{command.strip()} UDA.CLUSTER.KMEANS.NUM_CLUSTERS 12")
    images = len(labels_of(folder))
    assert json.loads(said)["kept"] == pytest.approx(0.3 * images, abs=1)


def train(folder, script, data, leave_out=(), extra=()):
    """Run a script of the page with a small network and few iterations."""
    pairs = [(k, v) for k, v in zip(TINY[::2], TINY[1::2], strict=True) if k not in leave_out]
    overrides = shlex.join([word for pair in pairs for word in pair] + SMALL + list(extra))
    script = re.sub(r"^export FASTREID_DATASETS=.*$", "", script, flags=re.MULTILINE)
    script = re.sub(r"^(fastreid-uda train .*)$", rf"\1 {overrides}", script, flags=re.MULTILINE)
    return shell(folder, script, FASTREID_DATASETS=str(data))


@pytest.mark.slow
def test_loss__trains_on_two_processes_and_is_resumed(folder):
    write_market(folder / "data")
    script = COMMANDS["confidence_penalty"].replace("train ", "train --num-gpus 2 ")
    train(folder, script, folder / "data", extra=["UDA.STAGES", "('adapt',)", "UDA.ROUNDS", "1"])
    lines = (folder / "logs/confidence_penalty/metrics.json").read_text().splitlines()
    losses = map(json.loads, lines)
    assert any(-0.2 < row.get("loss_confidence", 1) < 0 for row in losses)
    # config.yaml names the file by its absolute path: it can be resumed from anywhere
    script = "cd / && fastreid-uda train --resume --config-file " \
             f"{folder}/logs/confidence_penalty/config.yaml OUTPUT_DIR " \
             f"{folder}/logs/confidence_penalty UDA.ROUNDS 2"  # fmt: skip
    said = shell(folder, script, FASTREID_DATASETS=str(folder / "data"))
    assert f"Plug-ins: {folder}/confidence_penalty.py" in said
    assert len(read_summary(folder / "logs/confidence_penalty")["rounds"]) == 2


@pytest.mark.slow
def test_data_set__is_adapted_to_without_identities(folder):
    market = write_market(folder / "data")
    street = folder / "data/street"
    for image in (market / "bounding_box_train").iterdir():
        place = street / "train" / re.search(r"_(c\d)s", image.name)[1]
        place.mkdir(parents=True, exist_ok=True)
        (place / image.name).write_bytes(image.read_bytes())
    for name, source in (("query", "query"), ("gallery", "bounding_box_test")):
        (street / name).mkdir()
        rows = []
        for image in (market / source).iterdir():
            (street / name / image.name).write_bytes(image.read_bytes())
            identity, camera = map(int, re.match(r"(\d+)_c(\d)", image.name).groups())
            rows.append({"file": f"{name}/{image.name}", "identity": identity, "camera": camera})
        (street / f"{name}.json").write_text(json.dumps(rows))
    train(folder, COMMANDS["street"], folder / "data", ("UDA.TARGET", "DATASETS.TESTS"))
    summary = read_summary(folder / "logs/street")
    assert summary["target"] == ["Street"] or summary["target"] == "Street"
    assert summary["last"]["mAP"] > 0
    paths = (folder / "logs/street/labels/images.txt").read_text().splitlines()
    assert len(paths) == 36 and all("/street/train/c" in path for path in paths)
