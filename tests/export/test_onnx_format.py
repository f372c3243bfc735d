"""The ONNX file: what it says about itself, and what it gives for batches of any size."""

import importlib
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from fastreid_uda.errors import UserError
from fastreid_uda.evaluation.evaluated_network import EvaluatedNetwork
from fastreid_uda.export import onnx_format
from tests.export.runs import RESNET, write_run

JOINED = ["MODEL.HEADS.NAME", "MultiViewHead", "MODEL.HEADS.PARTS.NAMES", "('a', 'b', 'c')",
          "TEST.VIEWS", "('global', 'a', 'c')", "INPUT.SIZE_TEST", "[40, 24]"]  # fmt: skip
PYRAMID = ["MODEL.HEADS.NAME", "PyramidHead", "MODEL.HEADS.PYRAMID.LEVELS", "3",
           "MODEL.HEADS.EMBEDDING_DIM", "32",
           "MODEL.HEADS.POOL_LAYER", "GeneralizedMeanPoolingP"]  # fmt: skip


def session_of(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def only_with(exporter, monkeypatch):
    """Export with one exporter of torch, which torch 2.1 to 2.4 may not have."""
    if exporter not in onnx_format._exporters():
        pytest.skip(f"torch {torch.__version__} has no exporter {exporter}")
    monkeypatch.setattr(onnx_format, "_exporters", lambda: [exporter])


def features_of(path, images):
    return torch.from_numpy(session_of(path).run(["features"], {"images": images.numpy()})[0])


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("options", [JOINED, PYRAMID], ids=["joined", "pyramid with gem"])
def test_write_onnx__gives_the_tested_features_of_other_batch_sizes(
    run, export, tmp_path, monkeypatch, options, exporter
):
    only_with(exporter, monkeypatch)
    cfg, network, _ = write_run(run, *options, tested=False)
    (entry,) = export(run, "onnx")["files"]
    assert entry["exporter"] == exporter
    assert entry["max_relative_difference"] < 1e-4 and entry["max_unit_difference"] < 1e-4
    images = torch.rand(7, 3, *cfg.INPUT.SIZE_TEST) * 255
    tested = EvaluatedNetwork(network, cfg.TEST.VIEWS, cfg.TEST.ETA)
    with torch.no_grad():
        expected = tested({"images": images})
    found = features_of(tmp_path / "out/model.onnx", images)
    assert (F.normalize(found) - F.normalize(expected)).abs().max() < 1e-4
    assert (found - expected).norm() / expected.norm() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "exporter,options",
    [("torchscript", ["MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.BACKBONE.DEPTH",
                      "50x", "MODEL.BACKBONE.FEAT_DIM", "2048", "MODEL.BACKBONE.WITH_IBN", "True"]),
     ("torchscript", ["MODEL.BACKBONE.NAME", "build_osnet_backbone", "MODEL.BACKBONE.DEPTH",
                      "x0_25", "MODEL.BACKBONE.FEAT_DIM", "128"]),
     ("dynamo", [*RESNET, "MODEL.BACKBONE.WITH_NL", "True", "MODEL.BACKBONE.WITH_IBN",
                 "True"])],
    ids=["resnet50 ibn", "osnet", "non-local and ibn"],
)  # fmt: skip
def test_write_onnx__of_the_backbones_in_use(run, export, monkeypatch, exporter, options):
    only_with(exporter, monkeypatch)
    write_run(run, *options, tested=False)
    (entry,) = export(run, "onnx")["files"]
    assert entry["max_relative_difference"] < 1e-4 and entry["max_unit_difference"] < 1e-4


def test_write_onnx__says_what_it_is(run, export, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_format, "_exporters", lambda: ["torchscript"])
    cfg, _, checkpoint = write_run(run, *JOINED)
    content = export(run, "onnx", unit=True)
    model = onnx.load(tmp_path / "out/model.onnx")
    found = {prop.key: prop.value for prop in model.metadata_props}
    assert found["normalization"] == "inside" and found["color_order"] == "RGB"
    assert json.loads(found["mean"]) == pytest.approx([123.675, 116.28, 103.53])
    assert json.loads(found["std"]) == pytest.approx([58.395, 57.12, 57.375])
    assert json.loads(found["input_size"]) == [40, 24] == list(cfg.INPUT.SIZE_TEST)
    assert "Pillow bicubic to 40 x 24" in found["resize"]
    assert json.loads(found["views"]) == ["global", "a", "c"] and found["eta"] == "0.2"
    assert found["l2_normalized"] == "true" and found["feature_dim"] == str(3 * 64)
    assert found["source"] == str(run) and found["checkpoint"] == "model_final.pth"
    scores = json.loads(found["scores"])
    assert scores["mAP"] == checkpoint["records"][-1]["mAP"] == content["scores"]["mAP"]
    assert json.loads(found["versions"])["torch"] == torch.__version__
    (given,), (gives,) = model.graph.input, model.graph.output
    assert (given.name, gives.name) == ("images", "features")
    sizes = [d.dim_value or d.dim_param for d in given.type.tensor_type.shape.dim]
    assert sizes == ["batch", 3, 40, 24]
    assert content["files"][0]["opset"] == model.opset_import[0].version >= 17
    assert [path.name for path in (tmp_path / "out").glob("*onnx*")] == ["model.onnx"]


def test_write_onnx__normalisation_outside_and_features_of_length_1(run, export, tmp_path):
    _, network, _ = write_run(run, tested=False)
    content = export(run, "onnx", normalize=False, unit=True)
    assert content["normalization"] == "outside" and content["l2_normalized"]
    images = torch.rand(3, 3, 32, 32) * 255
    mean, std = (torch.tensor(content[name]).view(3, 1, 1) for name in ("mean", "std"))
    found = features_of(tmp_path / "out/model.onnx", (images - mean) / std)
    with torch.no_grad():
        expected = F.normalize(network({"images": images})["global"])
    np.testing.assert_allclose(found.norm(dim=1), 1, rtol=1e-5)
    assert (found - expected).abs().max() < 1e-4


def test_write_onnx__a_batch_size_that_is_baked_in_is_refused(run, export, tmp_path, monkeypatch):
    """ShuffleNet reads the batch size in a way that the old exporter takes for a constant."""
    monkeypatch.setattr(onnx_format, "_exporters", lambda: ["torchscript"])
    write_run(run, "MODEL.BACKBONE.NAME", "build_shufflenetv2_backbone", "MODEL.BACKBONE.DEPTH",
              "0.5x", "MODEL.BACKBONE.FEAT_DIM", "1024", tested=False)  # fmt: skip
    with pytest.raises(UserError, match=r"and nothing is written: torchscript \(\w+: .*Reshape"):
        export(run, "onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_write_onnx__the_next_exporter_if_one_fails(run, export, monkeypatch):
    def broken(*_):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(onnx_format, "_exporters", lambda: ["dynamo", "torchscript"])
    monkeypatch.setitem(onnx_format._EXPORT, "dynamo", broken)
    write_run(run, tested=False)
    assert export(run, "onnx")["files"][0]["exporter"] == "torchscript"


def test_write_onnx__other_features_are_refused_with_the_figures(run, export, monkeypatch):
    by_onnxruntime = onnx_format._run_by_onnxruntime

    def spoiled(path):
        features = by_onnxruntime(path)
        return lambda images: features(images) * 1.001

    monkeypatch.setattr(onnx_format, "_run_by_onnxruntime", spoiled)
    monkeypatch.setattr(onnx_format, "_exporters", lambda: ["torchscript"])
    write_run(run, tested=False)
    with pytest.raises(
        UserError, match=r"nothing is written: .*relative difference 1.0e-03.* below 1e-04"
    ):
        export(run, "onnx")


def test_write_onnx__is_quiet(run, export, capfd, recwarn):
    write_run(run, tested=False)
    capfd.readouterr()
    recwarn.clear()
    export(run, "onnx")
    heard = [line for line in capfd.readouterr().err.splitlines() if "formats:" not in line]
    assert [line for line in heard if line.strip()] == [] and list(recwarn) == []


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_check_packages__says_what_to_type(monkeypatch, missing):
    import_module = importlib.import_module

    def fails(name, *rest):
        if name == missing:
            raise ImportError(f"No module named '{name}'")
        return import_module(name, *rest)

    onnx_format.check_packages()
    monkeypatch.setattr(importlib, "import_module", fails)
    with pytest.raises(UserError, match=f"package {missing}, .*type `pip install onnx onnxruntime"):
        onnx_format.check_packages()
