"""A whole run of SECRET as a user types it: three views, a mean teacher, a kill, a joint test."""

import numpy as np
import pytest

from fastreid_uda.labeling.refiners.secret import mutual_refinement
from fastreid_uda.labeling.types import OUTLIER
from tests.helpers import ROOT, TINY, read_summary, train_net

CONFIG = ROOT / "configs/Synthetic/secret.yml"
OPTIONS = [*TINY, "UDA.ROUNDS", "3"]
VIEWS = ("global", "top", "bottom")


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    process = train_net(CONFIG, "OUTPUT_DIR", str(out), *OPTIONS, data=data)
    return out, process


@pytest.mark.slow
def test_run__records_every_view_and_their_consistency(whole):
    summary = read_summary(whole[0])
    assert summary["method"] == "SECRET"
    for entry in summary["rounds"]:
        quality = entry["quality"]
        assert {"consistency", "clusters/consistency", "consistency/global-top"} <= set(quality)
        assert {"accuracy", "top/accuracy", "bottom/accuracy", "top/eps"} <= set(quality)
        assert entry["kept"] <= min(quality[f"{view}/kept"] for view in VIEWS)
        assert 0 <= entry["mAP"] <= 100


@pytest.mark.slow
def test_run__labels_are_the_mutual_refinement_of_the_clusters(whole):
    out, _ = whole
    for path in sorted(out.glob("labels/round_*.npz")):
        arrays = np.load(path)
        clusters = {view: arrays[f"clusters/{view}"] for view in VIEWS}
        keep = mutual_refinement(clusters, ("top", "bottom"), 0.4, "valid")
        for view in VIEWS:
            assert ((arrays[f"labels/{view}"] != OUTLIER) == keep[view]).all()
        kept_in_all = np.logical_and.reduce(list(keep.values()))
        assert ((arrays["weights"] > 0) == kept_in_all).all()


@pytest.mark.slow
def test_eval_only__global_as_in_the_run_and_jointly(whole, data, tmp_path):
    out, _ = whole
    weights = ["MODEL.WEIGHTS", str(out / "model_final.pth")]
    command = [CONFIG, "--eval-only", "OUTPUT_DIR", str(tmp_path), *OPTIONS, *weights]
    process = train_net(*command, data=data)
    assert f"mAP {read_summary(out)['last']['mAP']:.2f}" in process.stdout
    joint = train_net(*command, "TEST.VIEWS", str(VIEWS), data=data)
    top = train_net(*command, "TEST.VIEWS", "('top',)", "TEST.FLIP.ENABLED", "True", data=data)
    scores = [p.stdout.split("Scores on Market1501: ")[1][:20] for p in (process, joint, top)]
    assert len(set(scores)) == 3


@pytest.mark.slow
def test_without_a_source__runs_from_the_first_weights(data, tmp_path):
    train_net(
        CONFIG, "OUTPUT_DIR", str(tmp_path), *OPTIONS, "DATASETS.NAMES", "()",
        "UDA.STAGES", "('adapt',)", "UDA.RESTART_SCHEDULE", "False", "SOLVER.STEPS", "[1, 2]",
        "SOLVER.STEP_FACTORS", "[0.3, 0.1]", data=data,
    )  # fmt: skip
    summary = read_summary(tmp_path)
    assert summary["source"] == "" and len(summary["rounds"]) == 3
    rates = [
        line.split("lr: ")[1].split()[0]
        for line in (tmp_path / "log.txt").read_text().splitlines()
        if "lr: " in line
    ]
    assert [float(rate) for rate in rates] == pytest.approx([7e-4, 2.1e-4, 7e-5])
