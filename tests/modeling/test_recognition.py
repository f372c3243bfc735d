"""Which network tensors are of: every backbone of fast-reid, and none of them twice."""

import inspect
import re

import fastreid.modeling.backbones as backbones
import pytest

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config_loading import load_config
from fastreid_uda.modeling import recognition
from fastreid_uda.modeling.recognition import (
    FAMILIES,
    FLAGS,
    UnknownNetworkError,
    recognise_backbone,
    shapes_of,
)


@pytest.fixture(scope="module")
def cfg():
    return load_config("", ["UDA.STAGES", "()"])


def keys_of(name, depth, *flags):
    return {"NAME": name, "DEPTH": depth, **{flag: flag in flags for flag in FLAGS}}


def shapes(cfg, keys):
    """The tensors of a backbone, built without numbers."""
    trial = recognition._with_backbone(cfg, keys)
    return shapes_of(recognition._build_on_meta(trial).state_dict())


def test_families__are_all_backbones_of_fastreid():
    names = re.findall(r"\bbuild_\w+_backbone\b", " ".join(dir(backbones)))
    assert sorted(names) == sorted(FAMILIES)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_family__has_all_depths_of_its_builder(name):
    source = inspect.getsource(getattr(backbones, name))
    depths = set(re.findall(r"""["']([\w.]+)["']\s*:""", source)) - {"152x"}  # has no NL layers
    if name == "build_mobilenetv3_backbone":
        depths = {"Large", "Small"}
    if name == "build_shufflenetv2_backbone":
        depths = set(re.findall(r"model_size == '([\w.]+)'", inspect.getsource(
            backbones.shufflenet.ShuffleNetV2)))  # fmt: skip
    assert depths == set(FAMILIES[name].depths)


@pytest.mark.slow
def test_families__have_their_mark_and_no_two_networks_the_same_tensors(cfg):
    seen = {}
    for name, family in FAMILIES.items():
        for depth in family.depths:
            own = shapes(cfg, keys_of(name, depth))
            assert family.mark in own
            twin = seen.setdefault(frozenset(own.items()), (name, depth))
            assert twin == (name, depth)


@pytest.mark.parametrize(
    "keys,feat_dim",
    [
        (keys_of("build_resnet_backbone", "18x", "WITH_SE"), 512),
        (keys_of("build_resnet_backbone", "34x", "WITH_IBN"), 512),
        (keys_of("build_resnet_backbone", "50x", "WITH_IBN", "WITH_NL"), 2048),
        (keys_of("build_resnet_backbone", "101x", "WITH_IBN", "WITH_SE"), 2048),
        (keys_of("build_resnext_backbone", "50x", "WITH_IBN"), 2048),
        (keys_of("build_resnest_backbone", "50x"), 2048),
        (keys_of("build_osnet_backbone", "x0_25", "WITH_IBN"), 128),
        (keys_of("build_mobilenetv3_backbone", "Small"), 1024),
        (keys_of("build_regnet_backbone", "400x"), 384),
        (keys_of("build_effnet_backbone", "b1"), 1280),
        (keys_of("build_repvgg_backbone", "B1g2"), 2048),
        (keys_of("build_vit_backbone", "small"), 768),
    ],
    ids=lambda x: "-".join(map(str, x.values())) if isinstance(x, dict) else "",
)
def test_recognise_backbone__finds_what_was_built(cfg, keys, feat_dim):
    assert recognise_backbone(shapes(cfg, keys), cfg) == keys | {"FEAT_DIM": feat_dim}


def test_recognise_backbone__a_regnet_x_after_a_regnet_y(cfg):
    """fast-reid merges both into one config: the X had the layers of the Y."""
    plain = shapes(cfg, keys_of("build_regnet_backbone", "200x"))
    assert any(".se." in name for name in shapes(cfg, keys_of("build_regnet_backbone", "200y")))
    assert shapes(cfg, keys_of("build_regnet_backbone", "200x")) == plain
    assert not any(".se." in name for name in plain)


def test_recognise_backbone__one_tensor_of_another_shape_names_it(cfg):
    own = shapes(cfg, keys_of("build_vit_backbone", "base"))
    own["pos_embed"] = (1, 3, 768)
    with pytest.raises(
        UnknownNetworkError, match=r"build_vit_backbone base.* 1 of 150 .*pos_embed"
    ):
        recognise_backbone(own, cfg)


@pytest.mark.parametrize("change", [{"layer4.2.extra": (1,)}, {"layer1.0.conv1.weight": None}])
def test_recognise_backbone__a_tensor_too_many_or_too_few_is_unknown(cfg, change):
    own = shapes(cfg, keys_of("build_resnet_backbone", "18x")) | change
    own = {name: shape for name, shape in own.items() if shape}
    with pytest.raises(
        UnknownNetworkError, match=f"nearest is build_resnet_backbone 18x.*{next(iter(change))}"
    ):
        recognise_backbone(own, cfg)


def test_recognise_backbone__of_no_family(cfg):
    with pytest.raises(UnknownNetworkError, match="none of fast-reid's"):
        recognise_backbone({"stages.0.weight": (3, 4)}, cfg)
