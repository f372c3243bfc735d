"""Files for torch alone, read where neither fast-reid nor this package is to be found."""

import json
import subprocess
import sys
import warnings

import pytest
import torch

from fastreid_uda.errors import UserError
from fastreid_uda.evaluation.evaluated_network import EvaluatedNetwork
from fastreid_uda.export import torch_formats
from tests.export.runs import write_run


def has_torch_export():
    try:
        torch_formats.check_torch_export()
    except UserError:
        return False
    return True


needs_torch_export = pytest.mark.skipif(not has_torch_export(), reason="needs torch 2.2")

READER = """
import json, sys, torch
folder = sys.argv[1]
script = {"facts.json": ""}
program = {"facts.json": ""}
networks = [torch.jit.load(f"{folder}/model.ts", _extra_files=script),
            torch.export.load(f"{folder}/model.pt2", extra_files=program).module()]
for facts in (script, program):
    assert json.loads(facts["facts.json"])["feature_dim"] == 160
images, expected = torch.load(f"{folder}/expected.pth")
for network in networks:
    for size in (1, 3, 4, 9):
        found = network(images[:size])
        assert (found - expected[:size]).norm() < 1e-5 * expected[:size].norm(), size
assert not any(name.split(".")[0] in ("fastreid", "fastreid_uda") for name in sys.modules)
"""


@needs_torch_export
@pytest.mark.slow
def test_files__are_read_without_fastreid(run, export, tmp_path):
    cfg, network, _ = write_run(
        run, "MODEL.HEADS.NAME", "MultiViewHead", "MODEL.HEADS.EMBEDDING_DIM", "80",
        "TEST.VIEWS", "('global', 'top')", tested=False,
    )  # fmt: skip
    content = export(run, "torchscript", "torch-export")
    assert [entry["max_relative_difference"] < 1e-5 for entry in content["files"]] == [True] * 2
    images = torch.rand(9, 3, 32, 32) * 255
    with torch.no_grad():
        expected = EvaluatedNetwork(network, cfg.TEST.VIEWS, cfg.TEST.ETA)({"images": images})
    torch.save([images, expected], tmp_path / "out/expected.pth")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", READER, tmp_path / "out"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=100)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_write_torchscript__a_batch_size_that_is_baked_in_is_refused(run, export, tmp_path):
    write_run(run, "MODEL.BACKBONE.NAME", "build_shufflenetv2_backbone", "MODEL.BACKBONE.DEPTH",
              "0.5x", "MODEL.BACKBONE.FEAT_DIM", "1024", tested=False)  # fmt: skip
    with pytest.raises(UserError, match="cannot express this network.* shape .* is inv"):
        export(run, "torchscript")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_written__other_features_are_refused(run, export, monkeypatch):
    save = torch.jit.save

    def spoiled(traced, path, **options):
        with torch.no_grad():
            next(traced.parameters()).mul_(1.01)
        save(traced, path, **options)

    monkeypatch.setattr(torch.jit, "save", spoiled)
    write_run(run, tested=False)
    with pytest.raises(UserError, match="torchscript gives other features"):
        export(run, "torchscript")


@needs_torch_export
def test_check_torch_export__names_the_format_for_older_versions(monkeypatch):
    torch_formats.check_torch_export()
    monkeypatch.setattr(torch.export, "export", lambda module, arguments, constraints=None: None)
    with pytest.raises(UserError, match="needs torch 2.2 or newer, .*choose --format torchscript"):
        torch_formats.check_torch_export()


def test_facts__are_in_the_torchscript_file(run, export, tmp_path):
    write_run(run, tested=False)
    export(run, "torchscript")
    files = {torch_formats.FACTS: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.load(str(tmp_path / "out/model.ts"), _extra_files=files)
    facts = json.loads(files[torch_formats.FACTS])
    assert facts["normalization"] == "inside" and facts["views"] == ["global"]
