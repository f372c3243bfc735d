"""The plain files: fast-reid builds, loads and tests them to the same figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from fastreid.config import get_cfg
from fastreid.evaluation.evaluator import inference_on_dataset
from fastreid.modeling.meta_arch import build_model
from torch import nn

from fastreid_uda.errors import UserError
from fastreid_uda.export import fastreid_format
from fastreid_uda.export.sources import open_source
from fastreid_uda.export.writing import Request, write_export
from tests.export.runs import RESNET, write_run
from tests.helpers import ROOT

SCRIPT = Path(__file__).with_name("fastreid_scores.py")
TEACHERS = ["UDA.MEAN_TEACHER.ENABLED", "True", "UDA.MEAN_TEACHER.STUDENTS", "2"]
PYRAMID = ["MODEL.HEADS.NAME", "PyramidHead", "MODEL.HEADS.PYRAMID.LEVELS", "1"]
OSNET = ["MODEL.BACKBONE.NAME", "build_osnet_backbone", "MODEL.BACKBONE.DEPTH", "x0_25",
         "MODEL.BACKBONE.FEAT_DIM", "128"]  # fmt: skip

NETWORKS = {
    "baseline": ([], {}),
    "gem": (["MODEL.HEADS.POOL_LAYER", "GeneralizedMeanPoolingP", "MODEL.HEADS.EMBEDDING_DIM",
             "32", "MODEL.HEADS.NECK_FEAT", "after"], {}),
    "no neck": (["MODEL.HEADS.WITH_BNNECK", "False"], {}),
    "teacher 2": (TEACHERS, {"number": 2}),
    "student 1": (TEACHERS, {"kind": "student"}),
    "parts": (["MODEL.HEADS.NAME", "MultiViewHead"], {}),
    "pyramid": ([*PYRAMID, "MODEL.HEADS.EMBEDDING_DIM", "32"], {}),
    "pyramid without linear layer": ([*PYRAMID, "MODEL.HEADS.EMBEDDING_DIM", "0"], {}),
}  # fmt: skip
GEM = ["MODEL.HEADS.POOL_LAYER", "GeneralizedMeanPooling"]
WHOLE = {
    "teacher 2": ([*RESNET, *TEACHERS, "MODEL.BACKBONE.WITH_IBN", "True"], {"number": 2}),
    "parts": ([*RESNET, *GEM, "MODEL.HEADS.NAME", "MultiViewHead"], {}),
    "pyramid": ([*OSNET, *PYRAMID, "MODEL.HEADS.EMBEDDING_DIM", "32"], {}),
    "cropped, euclidean": (["INPUT.CROP.ENABLED", "True", "INPUT.CROP.SIZE", "[24, 32]", *OSNET,
                            "TEST.METRIC", "euclidean"], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_write_fastreid__gives_the_features_of_the_network(run, export, tmp_path, name):
    options, choice = NETWORKS[name]
    _, network, _ = write_run(run, *options, tested=False)
    content = export(run, **choice)
    assert content["files"][0]["max_relative_difference"] < 1e-5
    assert "does not know the backbone build_small_backbone" in content["notes"][0]
    chosen = {"teacher 2": lambda: network.teachers[1], "student 1": lambda: network.students[0]}
    expected = chosen.get(name, lambda: network)()
    images = torch.rand(3, 3, 32, 32) * 255
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "out/config.yaml"))
    plain = build_model(cfg)
    assert type(plain).__module__ == "fastreid.modeling.meta_arch.baseline"
    assert type(plain.heads).__module__ == "fastreid.modeling.heads.embedding_head"
    state = torch.load(tmp_path / "out/model.pth", weights_only=True)
    assert set(state) == {"model"}
    plain.load_state_dict(state["model"], strict=True)
    with torch.no_grad():
        found = plain.eval()({"images": images.clone()})
        wanted = expected({"images": images})["global"]
    assert found.std() > 1e-3
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_write_fastreid__fastreids_own_test_gives_the_same_scores(tmp_path):
    expected, folders = [], []
    for n, (options, choice) in enumerate(WHOLE.values()):
        run = tmp_path / f"run {n}"
        run.mkdir()
        write_run(run, *options)
        folders.append(str(tmp_path / f"out {n}"))
        request = Request(folders[-1], ("fastreid",), **choice)
        expected.append(write_export(open_source(str(run)), request)["scores"])
    done = subprocess.run([sys.executable, SCRIPT, *folders], cwd=tmp_path, text=True,
                          capture_output=True, timeout=200)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(found) == len(expected)
    for name, ours, theirs in zip(WHOLE, expected, found, strict=True):
        assert 5 < ours["mAP"] < 99, name
        assert {k: theirs[k] for k in ours} == pytest.approx(ours, abs=0.01), name
    assert len({round(scores["mAP"], 2) for scores in expected}) == len(WHOLE)


@pytest.mark.parametrize("method", ["msplr", "secret", "inclr", "p2lr"])
def test_config__has_keys_and_values_of_fastreid_alone(run, export, tmp_path, method):
    cfg, _, _ = write_run(run, method=method, tested=False)
    export(run)
    written = yaml.safe_load((tmp_path / "out/config.yaml").read_text())
    plain = get_cfg()
    assert keys(written) == keys(plain)
    assert "UDA" not in written and "SMOOTHING" not in written["MODEL"]["LOSSES"]["CE"]
    assert set(written["MODEL"]["LOSSES"]["NAME"]) <= set(fastreid_format._LOSSES)
    assert written["SOLVER"]["SCHED"] == "MultiStepLR"
    assert written["INPUT"]["SIZE_TEST"] == cfg.INPUT.SIZE_TEST == [32, 32]
    assert written["DATASETS"]["TESTS"] == ["Market1501"]
    assert written["MODEL"]["HEADS"]["NUM_CLASSES"] == 7
    assert not written["MODEL"]["BACKBONE"]["PRETRAIN"]
    # fast-reid writes its config and log there, and would replace the run's.
    assert written["OUTPUT_DIR"] != cfg.OUTPUT_DIR


def keys(node, prefix=""):
    return {
        key
        for name, value in node.items()
        for key in (keys(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name})
    }


def test_config__fastreid_trains_on_with_it(run, export, tmp_path):
    """All that a trainer builds of a config before its first step."""
    from fastreid.solver import build_lr_scheduler, build_optimizer
    from fastreid.utils.events import EventStorage

    write_run(run, method="msplr", tested=False)
    export(run)
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "out/config.yaml"))
    model = build_model(cfg).train()
    optimizer, _ = build_optimizer(cfg, model, contiguous=False)
    build_lr_scheduler(cfg, optimizer, 10)
    batch = {"images": torch.rand(8, 3, 32, 32) * 255, "targets": torch.arange(8) // 2}
    with EventStorage():
        sum(model(batch).values()).backward()


@pytest.mark.parametrize(
    "options,views,sentence",
    [
        (["MODEL.HEADS.NAME", "PyramidHead", "MODEL.HEADS.EMBEDDING_DIM", "32"], None,
         "MODEL.HEADS.PYRAMID.LEVELS is 2, but .* choose --format onnx, torchscript or torch-exp"),
        (["MODEL.HEADS.NAME", "MultiViewHead"], ("global", "top"),
         "--views is global,top, but .* --format onnx, torchscript or torch-export, which can, or"),
        (["MODEL.HEADS.NAME", "MultiViewHead"], ("top",), "--views is top, but fast-reid"),
        ([], ("top",), "--views is top, but the views of this network are global"),
        ([], ("global", "global"), "--views is global,global, but the views"),
        ([], ("",), "--views is empty, but the views"),
    ],
)  # fmt: skip
def test_check_expressible__refuses_what_fastreid_has_no_layer_for(
    run, export, tmp_path, options, views, sentence
):
    write_run(run, *options, tested=False)
    with pytest.raises(UserError, match=sentence):
        export(run, views=views)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_notes__say_what_differs_from_the_runs_test(run, export):
    write_run(run, "MODEL.HEADS.NAME", "MultiViewHead", "TEST.VIEWS", "('global', 'top')",
              "TEST.FLIP.ENABLED", "True", "DATASETS.TESTS", "('PersonFolder', 'VehicleID')",
              tested=False)  # fmt: skip
    notes = export(run)["notes"]
    parts = ("joined", "mirror", "small_backbone", "PersonFolder:", "VehicleID is")
    assert len(notes) == len(parts)
    assert all(part in note for part, note in zip(parts, notes, strict=True))


def test_flip_test_of_fastreid__normalises_the_mirror_image_twice(run, export, tmp_path):
    """Why TEST.FLIP is off in the config; if this fails, fast-reid has mended it."""
    write_run(run, "TEST.FLIP.ENABLED", "True", tested=False)
    export(run)
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "out/config.yaml"))
    assert cfg.TEST.FLIP.ENABLED is False
    plain, seen = build_model(cfg), []
    plain.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    loader = Loader()
    inference_on_dataset(plain, loader, Keeper(), flip_test=True)
    first, mirrored = seen
    assert not torch.allclose(first, mirrored.flip(3), atol=0.1)
    twice = (first.flip(3) - plain.pixel_mean) / plain.pixel_std
    torch.testing.assert_close(mirrored, twice)


class Loader(list):
    def __init__(self):
        super().__init__([{"images": torch.rand(2, 3, 32, 32) * 255}])
        self.dataset = [0, 0]


class Keeper:
    def reset(self):
        pass

    def process(self, inputs, outputs):
        pass

    def evaluate(self):
        return {}


@pytest.mark.parametrize("spoil", ["heads.bottleneck.0.running_mean", "backbone.conv1.0.weight"])
def test_write_fastreid__refuses_what_gives_other_features(
    run, export, tmp_path, monkeypatch, spoil
):
    plain_state = fastreid_format.plain_state

    def spoiled(network):
        state = plain_state(network)
        state[spoil] = state[spoil] + 1e-3
        return state

    monkeypatch.setattr(fastreid_format, "plain_state", spoiled)
    write_run(run, tested=False)
    with pytest.raises(UserError, match="fastreid gives other features than the network"):
        export(run)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_write_fastreid__batch_norm_of_groups_leaves_no_trace(run, export, tmp_path):
    _, network, _ = write_run(run, "UDA.BN_GROUP", "4", tested=False)
    assert any(type(m).__name__ == "GroupedBatchNorm" for m in network.modules())
    export(run)
    state = torch.load(tmp_path / "out/model.pth", weights_only=True)["model"]
    assert set(state) == {n for n in network.state_dict() if not n.startswith("criteria.")}
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())


def test_bottleneck_of_a_pyramid__is_linear_up_to_rounding():
    """A batch norm that only adds: mean 0, variance 1, weight sqrt(1 + eps)."""
    norm = nn.BatchNorm2d(3).eval()
    nn.init.constant_(norm.weight, (1 + norm.eps) ** 0.5)
    x = torch.randn(2, 3, 1, 1)
    torch.testing.assert_close(norm(x), x, rtol=1e-6, atol=0)


def test_script__is_where_the_docs_say():
    assert SCRIPT.is_relative_to(ROOT)
