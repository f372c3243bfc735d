"""MODEL.FROM_WEIGHTS: checkpoints as fast-reid writes them, and what comes out of them."""

import argparse
import logging
import pickle

import pytest
import torch
from fastreid.config import get_cfg
from fastreid.modeling.meta_arch import build_model

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config_loading import load_config
from fastreid_uda.engine.defaults import build_config
from fastreid_uda.engine.from_weights import (
    network_line,
    read_network,
    take_network_from_weights,
    take_network_of_run,
)
from fastreid_uda.engine.weights import load_weights
from fastreid_uda.errors import UserError
from fastreid_uda.modeling.build import build_network
from fastreid_uda.modeling.recognition import FAMILIES, without_numbers
from tests.helpers import ROOT

BASELINE = str(ROOT / "configs/OwnCameras/baseline.yml")
RESNET = {"NAME": "build_resnet_backbone", "DEPTH": "18x", "FEAT_DIM": 512}
SMALL = {"NAME": "build_shufflenetv2_backbone", "DEPTH": "0.5x", "FEAT_DIM": 1024}


def with_statistics(network):
    """Running statistics as after training, so that a neck that is not loaded shows."""
    for module in network.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def fastreid_network(backbone=(), heads=(), seed=0, device="cpu"):
    """A network of fast-reid's own classes."""
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "Baseline", device
    cfg.MODEL.BACKBONE.update({"PRETRAIN": False, **RESNET, **dict(backbone)})
    defaults = {"NAME": "EmbeddingHead", "WITH_BNNECK": True, "NUM_CLASSES": 7}
    cfg.MODEL.HEADS.update(defaults | dict(heads))
    torch.manual_seed(seed)
    return with_statistics(build_model(cfg))


def zeros(backbone):
    """The tensors of a network of fast-reid's own classes, without the time of random numbers."""
    with without_numbers():
        state = fastreid_network(backbone, device="meta").state_dict()
    return {name: torch.zeros(()).expand(tensor.shape) for name, tensor in state.items()}


def our_network(config=BASELINE, *overrides):
    cfg = load_config(
        config, ["MODEL.BACKBONE.PRETRAIN", "False", "MODEL.DEVICE", "cpu", *overrides]
    )
    torch.manual_seed(1)
    return with_statistics(build_network(cfg))


def taken(path, config=BASELINE, *overrides):
    cfg = load_config(config, ["MODEL.WEIGHTS", str(path), "MODEL.DEVICE", "cpu", *overrides])
    take_network_from_weights(cfg)
    cfg.MODEL.BACKBONE.PRETRAIN = False
    return cfg


def loaded(cfg):
    network = build_network(cfg)
    load_weights(network, [cfg.MODEL.WEIGHTS])
    return network.eval()


@torch.no_grad()
def features(network, size=(64, 32)):
    torch.manual_seed(2)
    batch = {"images": 255 * torch.rand(3, 3, *size)}  # fast-reid normalises its batch in place
    outputs = network(batch)
    return outputs["global"] if isinstance(outputs, dict) else outputs


def save(tmp_path, state):
    path = tmp_path / "network.pth"
    torch.save(state, path)
    return path


def renamed(state, *pairs):
    for old, new in pairs:
        state = {name.replace(old, new): tensor for name, tensor in state.items()}
    return state


NETWORKS = {
    "plain": ({}, {}),
    "ibn": ({"WITH_IBN": True}, {}),
    "se": ({"WITH_SE": True, "WITH_IBN": True}, {}),
    "non-local": ({"DEPTH": "50x", "FEAT_DIM": 2048, "WITH_NL": True}, {}),
    "gem": ({}, {"POOL_LAYER": "GeneralizedMeanPoolingP"}),
    "no neck": ({}, {"WITH_BNNECK": False}),
    "embedding": ({}, {"EMBEDDING_DIM": 32}),
    "embedding, no neck": ({}, {"EMBEDDING_DIM": 32, "WITH_BNNECK": False}),
    "osnet": ({"NAME": "build_osnet_backbone", "DEPTH": "x0_25", "FEAT_DIM": 128}, {}),
    "mobilenet": ({"NAME": "build_mobilenetv2_backbone", "DEPTH": "0.1x", "FEAT_DIM": 1280}, {}),
    "shufflenet": (SMALL, {}),
    "regnet": ({"NAME": "build_regnet_backbone", "DEPTH": "200y", "FEAT_DIM": 368}, {}),
    "repvgg": ({"NAME": "build_repvgg_backbone", "DEPTH": "A0", "FEAT_DIM": 1280}, {}),
}


VIT = {"NAME": "build_vit_backbone", "DEPTH": "small", "FEAT_DIM": 768}
FURTHER = {
    "resnext": {"NAME": "build_resnext_backbone", "DEPTH": "50x", "FEAT_DIM": 2048},
    "resnest": {"NAME": "build_resnest_backbone", "DEPTH": "50x", "FEAT_DIM": 2048},
    "mobilenetv3": {"NAME": "build_mobilenetv3_backbone", "DEPTH": "Small", "FEAT_DIM": 1024},
    "effnet": {"NAME": "build_effnet_backbone", "DEPTH": "b0", "FEAT_DIM": 1280},
    "vit": VIT,
    "vit, overlapping patches": VIT | {"STRIDE_SIZE": (12, 12)},
}


def test_take_network__is_tested_on_all_families():
    tested = [RESNET | backbone for backbone, _ in NETWORKS.values()] + list(FURTHER.values())
    assert {keys["NAME"] for keys in tested} == set(FAMILIES)


@pytest.mark.parametrize("name", FURTHER)
def test_take_network__of_a_further_family(tmp_path, name):
    keys = FURTHER[name]
    state = zeros(keys)
    stride = ["MODEL.BACKBONE.STRIDE_SIZE", str(keys.get("STRIDE_SIZE", (16, 16)))]
    cfg = taken(save(tmp_path, {"model": state}), BASELINE, *stride)
    assert {key: cfg.MODEL.BACKBONE[key] for key in keys} == keys
    assert network_line(cfg)


def test_take_network__a_transformer_gives_the_features_of_fastreids_own(tmp_path):
    theirs = fastreid_network(VIT)
    cfg = taken(save(tmp_path, {"model": theirs.state_dict()}))
    torch.testing.assert_close(
        features(loaded(cfg), (256, 128)), features(theirs, (256, 128)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_take_network__gives_the_features_of_fastreids_own(tmp_path, name):
    theirs = fastreid_network(*NETWORKS[name])
    cfg = taken(save(tmp_path, {"model": theirs.state_dict(), "iteration": 9}))
    torch.testing.assert_close(features(loaded(cfg)), features(theirs), rtol=1e-5, atol=1e-5)


FORMS = {
    "plain": lambda state: state,
    "module": lambda state: {"model": {f"module.{k}": v for k, v in state.items()}},
    "no classifier": lambda state: {k: v for k, v in state.items() if k != "heads.weight"},
    "before 1.0": lambda state: {"model": renamed(
        state, ("heads.bottleneck.0", "heads.bnneck"), ("heads.weight", "heads.classifier.weight")
    )},
    "before batch norm counted": lambda state: {
        k: v for k, v in state.items() if "num_batches" not in k},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_take_network__of_a_file_of_this_form(tmp_path, form, caplog):
    theirs = fastreid_network(SMALL)
    cfg = taken(save(tmp_path, FORMS[form](theirs.state_dict())))
    assert cfg.MODEL.HEADS.WITH_BNNECK
    with caplog.at_level(logging.WARNING, "fastreid_uda"):
        network = loaded(cfg)
    assert not caplog.records
    torch.testing.assert_close(features(network), features(theirs), rtol=1e-5, atol=1e-5)


def test_take_network__old_file_without_a_neck_has_none(tmp_path):
    theirs = fastreid_network(SMALL, {"WITH_BNNECK": False})
    state = renamed(theirs.state_dict(), ("heads.weight", "heads.classifier.weight"))
    assert not taken(save(tmp_path, state)).MODEL.HEADS.WITH_BNNECK


def test_take_network__colours_of_an_old_file(tmp_path):
    state = fastreid_network(SMALL).state_dict()
    state["pixel_mean"] = torch.tensor([100.0, 110.0, 120.0]).view(1, 3, 1, 1)
    state["pixel_std"] = torch.tensor([0.229, 0.224, 0.225]).mul(255).view(1, 3, 1, 1)
    cfg = taken(save(tmp_path, state))
    assert list(cfg.MODEL.PIXEL_MEAN) == [100.0, 110.0, 120.0]
    assert list(cfg.MODEL.PIXEL_STD) == [0.229 * 255, 0.224 * 255, 0.225 * 255]  # as configured


def test_take_network__a_pooling_with_a_tensor_goes_where_the_file_has_none(tmp_path):
    path = save(tmp_path, fastreid_network(SMALL).state_dict())
    gem = ["MODEL.HEADS.POOL_LAYER", "GeneralizedMeanPoolingP"]
    assert taken(path, BASELINE, *gem).MODEL.HEADS.POOL_LAYER == "GlobalAvgPool"
    kept = ["MODEL.HEADS.POOL_LAYER", "GlobalMaxPool"]
    assert taken(path, BASELINE, *kept).MODEL.HEADS.POOL_LAYER == "GlobalMaxPool"


def small(**keys):
    """Overrides for a small network of ours, with further keys of MODEL.HEADS."""
    words = [word for key, value in SMALL.items() for word in (f"MODEL.BACKBONE.{key}", str(value))]
    for key, value in keys.items():
        words += [f"MODEL.HEADS.{key.replace('__', '.')}", str(value)]
    return ["MODEL.FROM_WEIGHTS", "False", *words]


OURS = {
    "secret": {"NAME": "MultiViewHead"},
    "inclr": {"NAME": "MultiViewHead", "PARTS__NAMES": "('a','c','b')", "PARTS__BOTTLENECK": False},
    "nplp": {"NAME": "PyramidHead", "EMBEDDING_DIM": 24, "PYRAMID__LEVELS": 3},
    "concatenation": {"NAME": "PyramidHead", "PYRAMID__LEVELS": 2, "WITH_BNNECK": False},
}


@pytest.mark.parametrize("name", OURS)
def test_take_network__of_a_head_of_ours(tmp_path, name):
    own = our_network(BASELINE, *small(**OURS[name]))
    cfg = taken(save(tmp_path, {"model": own.state_dict()}))
    for key, value in OURS[name].items():
        node = cfg.MODEL.HEADS
        *groups, last = key.split("__")
        for group in groups:
            node = node[group]
        assert str(node[last]).replace(" ", "") == str(value)
    network = loaded(cfg)
    assert network.views == own.views
    torch.testing.assert_close(features(network), features(own), rtol=1e-5, atol=1e-5)


def test_take_network__of_mean_teachers_is_the_first_teacher(tmp_path):
    teachers = ["UDA.MEAN_TEACHER.ENABLED", "True", "UDA.MEAN_TEACHER.STUDENTS", "2"]
    own = our_network(BASELINE, *small(), *teachers)
    cfg = taken(save(tmp_path, {"model": own.state_dict()}))
    assert SMALL["NAME"] == cfg.MODEL.BACKBONE.NAME
    torch.testing.assert_close(
        features(loaded(cfg)), features(own.teachers[0]), rtol=1e-5, atol=1e-5
    )


def test_take_network__a_config_with_parts_keeps_them_and_says_that_they_are_new(tmp_path, caplog):
    path = save(tmp_path, fastreid_network(SMALL).state_dict())
    cfg = taken(path, str(ROOT / "configs/OwnCameras/secret.yml"))
    assert cfg.MODEL.HEADS.NAME == "MultiViewHead"
    with caplog.at_level(logging.WARNING, "fastreid_uda"):
        loaded(cfg)
    assert "view(s) top, bottom: they start at random" in caplog.text


def test_take_network__leaves_the_config_alone_unless_asked(tmp_path):
    path = save(tmp_path, fastreid_network(SMALL).state_dict())
    cfg = load_config(BASELINE, ["MODEL.WEIGHTS", str(path), "MODEL.FROM_WEIGHTS", "False"])
    before = cfg.dump()
    take_network_from_weights(cfg)
    assert cfg.dump() == before


def test_network_line__says_what_a_file_does_not_show(tmp_path):
    line = network_line(taken(save(tmp_path, fastreid_network({"WITH_IBN": True}).state_dict())))
    for words in (
        "build_resnet_backbone 18x, WITH_IBN",
        "LAST_STRIDE 1",
        "GlobalAvgPool",
        "[256, 128]",
    ):
        assert words in line


def test_network_line__colours_and_what_is_not_used(tmp_path):
    state = fastreid_network(SMALL).state_dict()
    line = network_line(taken(save(tmp_path, state)))
    before, _, not_shown = line.partition("A file does not show these")
    assert "MODEL.PIXEL_MEAN [123.675, 116.28, 103.53], MODEL.PIXEL_STD [58.395" in not_shown
    assert "LAST_STRIDE 1, MODEL.BACKBONE.NORM BN" in not_shown
    assert "PIXEL" not in before and "not used" not in before and "no head" not in before
    state |= {name: torch.full((1, 3, 1, 1), 127.5) for name in ("pixel_mean", "pixel_std")}
    state |= {"loss.centers": torch.zeros(7, 4), "queue": torch.zeros(2, 4)}
    cfg = taken(save(tmp_path, state))
    assert list(cfg.MODEL.PIXEL_STD) == [127.5] * 3
    before, _, not_shown = network_line(cfg).partition("A file does not show these")
    assert "PIXEL_STD [127.5, 127.5, 127.5] as the file has it" in before
    assert "not used: loss.centers, queue." in before and "PIXEL" not in not_shown


def test_network_line__no_head_in_the_file(tmp_path):
    state = fastreid_network(SMALL).state_dict()
    bare = {name: tensor for name, tensor in state.items() if name.startswith("backbone.")}
    assert "no head in the file" in network_line(taken(save(tmp_path, bare)))


def test_network_line__of_a_transformer(tmp_path):
    state = zeros(VIT)
    path = save(tmp_path, state)
    assert "STRIDE_SIZE [16, 16], MODEL.HEADS.POOL" in network_line(taken(path))
    with pytest.raises(
        UserError, match=r"129, 768.* in the file, .*193, 768.*; set INPUT.SIZE_TRA"
    ):
        taken(path, BASELINE, "INPUT.SIZE_TRAIN", "[384,128]")


def test_take_network__an_exponent_without_a_dimension(tmp_path):
    theirs = fastreid_network(SMALL, {"POOL_LAYER": "GeneralizedMeanPoolingP"})
    state = theirs.state_dict()
    state["heads.pool_layer.p"] = state["heads.pool_layer.p"][0]
    network = loaded(taken(save(tmp_path, state)))
    torch.testing.assert_close(features(network), features(theirs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", ["object", "pickle"])
def test_read_network__what_could_run_code_is_to_be_saved_without(tmp_path, how):
    path = tmp_path / "network.pth"
    if how == "object":
        torch.save({"model": torch.nn.Linear(1, 1)}, path)
    else:
        path.write_bytes(pickle.dumps({"backbone.weight": torch.zeros(1)}))
    with pytest.raises(UserError, match=r"run any code; save only its weights, as torch.save"):
        read_network(str(path))
    with pytest.raises(UserError, match=r"run any code; save only its weights, as torch.save"):
        load_weights(our_network(BASELINE, *small()), [str(path)])


def test_take_network_of_run__what_a_file_decides_and_nothing_else(tmp_path):
    own = [*small(NAME="MultiViewHead", EMBEDDING_DIM=24), "MODEL.PIXEL_STD", "[1.,2.,3.]"]
    run = load_config(BASELINE, [*own, "OUTPUT_DIR", str(tmp_path)])
    (tmp_path / "config.yaml").write_text(run.dump())
    words = ["OUTPUT_DIR", str(tmp_path), "MODEL.WEIGHTS", "gone.pth", "MODEL.HEADS.SCALE", "3"]
    cfg = load_config(BASELINE, [*words, "MODEL.HEADS.POOL_LAYER", "GlobalMaxPool"])
    take_network_of_run(cfg)
    cfg.MODEL.HEADS.SCALE, kept = run.MODEL.HEADS.SCALE, cfg.MODEL.HEADS.SCALE
    cfg.MODEL.HEADS.POOL_LAYER, pooling = "GlobalAvgPool", cfg.MODEL.HEADS.POOL_LAYER
    cfg.MODEL.WEIGHTS, cfg.MODEL.FROM_WEIGHTS = run.MODEL.WEIGHTS, run.MODEL.FROM_WEIGHTS
    assert (kept, pooling) == (3, "GlobalMaxPool")  # said by the checks of a resumed run
    assert cfg.MODEL == run.MODEL


@pytest.mark.parametrize("missing", ["", "config.yaml", "model_last.pth"])
def test_build_config__a_run_that_goes_on_does_not_need_the_file(tmp_path, missing):
    out, start = ["OUTPUT_DIR", str(tmp_path)], tmp_path / "start.pth"
    start.write_text("another file has this name now")
    run = load_config(BASELINE, [*small(), *out])
    (tmp_path / "config.yaml").write_text(run.dump())
    (tmp_path / "model_last.pth").touch()
    if missing:
        (tmp_path / missing).unlink()
    words = [*out, "MODEL.WEIGHTS", str(start)]

    def built(**options):
        options = {"resume": True, "eval_only": False} | options
        return build_config(argparse.Namespace(config_file=BASELINE, opts=words, **options))

    if missing:
        with pytest.raises(UserError, match=r"Cannot load .*start.pth"):
            built()
        return
    assert built().MODEL.BACKBONE.DEPTH == "0.5x"
    for options in ({"resume": False}, {"eval_only": True}):
        with pytest.raises(UserError, match=r"Cannot load .*start.pth"):
            built(**options)


def bad(tmp_path, state):
    with pytest.raises(UserError) as caught:
        taken(save(tmp_path, state))
    assert str(tmp_path / "network.pth") in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_take_network__unknown_networks_are_refused(tmp_path):
    state = fastreid_network(SMALL).state_dict()
    bare = renamed(state, ("backbone.", ""))
    assert "PRETRAIN_PATH" in bad(tmp_path, bare)
    wider = {k: v for k, v in state.items() if k != "backbone.features.3.branch_main.0.weight"}
    text = bad(tmp_path, wider)
    assert "nearest is build_shufflenetv2_backbone 0.5x" in text and "MODEL.BACKBONE.*" in text
    assert "features.3.branch_main.0.weight" in text
    assert "heads.odd is unknown" in bad(tmp_path, state | {"heads.odd": torch.zeros(3)})
    assert "holds no network" in bad(tmp_path, {"model": {}})
    assert "pool_layer.p is of shape (2,), not (1,)" in bad(
        tmp_path, state | {"heads.pool_layer.p": torch.zeros(2)}
    )
    reduction = state | {"heads.bnneck.weight": torch.zeros(1024)}
    assert "ReductionHead" in bad(tmp_path, reduction)
    narrow = state | {f"heads.bottleneck.0.{n}": torch.zeros(9) for n in
                      ("weight", "bias", "running_mean", "running_var")}  # fmt: skip
    assert "9 channels" in bad(tmp_path, narrow)


def test_take_network__without_a_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"FROM_WEIGHTS is True, but MODEL.WEIGHTS is empty"):
        taken("")
    with pytest.raises(UserError, match="no such file"):
        taken(tmp_path / "no.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(UserError, match=r"Cannot load .*text.pth"):
        taken(tmp_path / "text.pth")


def test_load_weights__old_names_are_read_without_from_weights_too(tmp_path):
    theirs = fastreid_network(SMALL)
    path = save(tmp_path, FORMS["before 1.0"](theirs.state_dict()))
    network = our_network(BASELINE, *small())
    load_weights(network, [str(path)], tested=("global",))
    torch.testing.assert_close(features(network), features(theirs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("heads", [{}, {"POOL_LAYER": "GeneralizedMeanPoolingP"}])
def test_load_weights__layers_of_the_file_that_are_not_used_are_said(tmp_path, heads, caplog):
    path = save(tmp_path, fastreid_network(SMALL, heads).state_dict())
    network = our_network(BASELINE, *small(WITH_BNNECK=bool(heads)))
    with caplog.at_level(logging.WARNING, "fastreid_uda"):
        load_weights(network, [str(path)])
    assert "has layers of a head that the network does not use" in caplog.text
    assert ("heads.pool_layer.p" if heads else "heads.bottleneck.0.weight") in caplog.text
