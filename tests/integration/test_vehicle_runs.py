"""Vehicles as a user types them: the real configs on tiny sets in the layout of the real ones."""

import numpy as np
import pytest

from tests.helpers import ROOT, TINY, read_summary, train_net
from tests.vehicles import write_vehicle_id, write_veri

SMALL = [
    *TINY[TINY.index("MODEL.BACKBONE.NAME") :], "MODEL.BACKBONE.WITH_IBN", "False",
    "MODEL.BACKBONE.PRETRAIN", "False", "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0",
    "UDA.BN_GROUP", "0", "SOLVER.MAX_EPOCH", "1", "TEST.EVAL_PERIOD", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def vehicles(tmp_path_factory):
    root = tmp_path_factory.mktemp("Fahrzeuge ü")
    write_veri(root)
    write_vehicle_id(root)
    return root


@pytest.mark.slow
def test_veri_target__with_its_cameras(vehicles, tmp_path):
    config = ROOT / "configs/VehicleID2VeRi/msplr.yml"
    options = ["OUTPUT_DIR", str(tmp_path), "UDA.FREEZE_EPOCHS", "0"]
    train_net(config, *SMALL, *options, data=vehicles)
    summary = read_summary(tmp_path)
    assert (summary["method"], summary["source"], summary["target"]) == (
        "MSPLR", "VehicleID", "VeRi",
    )  # fmt: skip
    assert len(summary["rounds"]) == 2 and {"mAP", "Rank-1"} <= set(summary["last"])
    labels = np.load(tmp_path / "labels/round_000.npz")
    assert labels["labels/global"].shape == (36,)


@pytest.mark.slow
def test_vehicle_id_target__without_cameras_on_drawn_galleries(vehicles, tmp_path):
    config = ROOT / "configs/VeRi2VehicleID/p2lr.yml"
    options = [*SMALL, "UDA.CLUSTER.KMEANS.NUM_CLUSTERS", "5", "TEST.GALLERY_DRAWS", "3"]
    out = tmp_path / "out"
    train_net(config, *options, "OUTPUT_DIR", str(out), data=vehicles)
    summary = read_summary(out)
    assert (summary["source"], summary["target"]) == ("VeRi", "SmallVehicleID")
    assert summary["rounds"][-1]["clusters"] == 5
    assert "cross_camera" not in str(summary["last"]["quality"])
    assert "Means over 3 drawn galleries" in (out / "log.txt").read_text()
    again = train_net(
        config, "--eval-only", *options, "OUTPUT_DIR", str(tmp_path / "again"), "UDA.SEED", "5",
        "MODEL.WEIGHTS", str(out / "model_final.pth"), data=vehicles,
    )  # fmt: skip
    assert f"mAP {summary['last']['mAP']:.2f}" in again.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "options,sentence",
    [
        (["UDA.CAMERA_NORMALIZATION", "True"], "UDA.CAMERA_NORMALIZATION needs them"),
        (["UDA.REFINERS", "('MSPLR',)"], "set UDA.MSPLR.MIN_CAMERAS to 1"),
    ],
)
def test_vehicle_id_target__refuses_what_needs_cameras(vehicles, tmp_path, options, sentence):
    config = ROOT / "configs/VeRi2VehicleID/baseline.yml"
    out = tmp_path / "out"
    process = train_net(
        config, *SMALL, *options, "OUTPUT_DIR", str(out), data=vehicles, check=False
    )
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert process.stderr.startswith("error: The target images have no camera ids, but")
    assert sentence in process.stderr and not out.exists()
