"""Each mend of fast-reid, by what a user of fast-reid sees."""

import collections
import os
import pickle
import subprocess
import sys
import textwrap
import types
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastreid_uda
from fastreid_uda import UserError, compat

torch = pytest.importorskip("torch")
pytest.importorskip("fastreid")

from fastreid.config import get_cfg  # noqa: E402
from PIL import Image  # noqa: E402

ROOT = Path(__file__).parents[1]
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="the mend is for CPUs")


def run_python(code, *options):
    """What a fresh process prints."""
    command = [sys.executable, *options, "-c", textwrap.dedent(code)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def small_cfg(*options):
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.PRETRAIN = False
    cfg.MODEL.HEADS.NUM_CLASSES = 3
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [64, 32]
    cfg.merge_from_list(list(options))
    return cfg


def rgb_image(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


# --------------------------------------------------------------------------- the import itself


def test_import__loads_the_standard_library_only():
    code = """
        import sys, fastreid_uda
        print([m for m in ("torch", "numpy", "yacs", "fastreid", "faiss") if m in sys.modules])
    """
    assert run_python(code) == "[]"


def test_import__every_module_of_fastreid_without_warnings_and_leaves_no_stub():
    code = """
        import collections, importlib, pkgutil, sys
        import fastreid_uda, fastreid
        for module in pkgutil.walk_packages(fastreid.__path__, "fastreid."):
            if not module.name.endswith((".setup", ".test_cython")):
                importlib.import_module(module.name)
        print("torch._six" in sys.modules, hasattr(collections, "Mapping"))
    """
    assert run_python(code, "-W", "error:Cython") == "False False"


def test_import__mends_what_was_imported_before():
    code = """
        from fastreid.solver import build_optimizer
        import fastreid.solver, fastreid.utils.comm as comm
        import fastreid_uda
        print(fastreid.solver.build_optimizer.__defaults__)
        print(comm._serialize_to_tensor.__module__)
    """
    assert run_python(code).splitlines() == ["(False,)", "fastreid_uda.compat"]


def test_import__without_fastreid_says_what_to_type():
    code = """
        import importlib.machinery as machinery, warnings
        find = machinery.PathFinder.find_spec
        machinery.PathFinder.find_spec = lambda name, *rest: (
            None if name == "fastreid" else find(name, *rest))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import fastreid_uda
        print(len(caught), caught[0].message)
        try:
            import fastreid
        except ModuleNotFoundError as error:
            print(error.name, error)
    """
    sentence = compat.NOT_INSTALLED
    assert "pip install --no-deps fastreid==1.4.0" in sentence
    assert run_python(code).splitlines() == [f"1 {sentence}", f"fastreid {sentence}"]


def test_install__twice_adds_one_finder():
    before = list(sys.meta_path)
    compat.install()
    assert sys.meta_path == before


def test_public_names__are_listed_and_unknown_ones_refused():
    assert set(fastreid_uda.__all__) <= set(dir(fastreid_uda))
    assert fastreid_uda.OUTLIER == -1
    with pytest.raises(AttributeError, match="has no attribute 'Trainer'"):
        _ = fastreid_uda.Trainer


# ---------------------------------------------------------------------------------------- data


def image_items(folder, num_identities=3, images_each=8):
    items = []
    for i in range(num_identities * images_each):
        path = folder / f"{i:02d}.png"
        rgb_image(i).save(path)
        items.append((str(path), i // images_each, i % 2))
    return items


@needs_no_gpu
@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.filterwarnings("error")
def test_loader__on_a_cpu_is_an_ordinary_data_loader(tmp_path, num_workers):
    from fastreid.data import CommDataset, build_reid_test_loader
    from fastreid.data.transforms import build_transforms

    items = image_items(tmp_path, images_each=2)
    data = CommDataset(items, build_transforms(small_cfg(), is_train=False))
    loader, _ = build_reid_test_loader(data, 4, 2, num_workers=num_workers)
    for _ in range(2):
        batches = list(loader)
        assert [len(batch["targets"]) for batch in batches] == [4, 2]
        assert batches[0]["images"].device.type == "cpu"
    loader.shutdown()


def test_loader__with_cuda_is_that_of_fastreid(monkeypatch):
    from fastreid.data.data_utils import DataLoaderX

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Stream", lambda rank: f"stream {rank}")
    assert DataLoaderX(0, dataset=[1]).stream == "stream 0"


def test_collator__keeps_numpy_numbers():
    from fastreid.data import build

    loader = build.build_reid_test_loader(
        [{"targets": np.int64(3), "weights": np.float32(0.5), "camids": 1, "img_paths": "a"}] * 2,
        test_batch_size=2,
        num_query=1,
        num_workers=0,
    )[0]
    batch = loader.collate_fn(loader.dataset)
    assert batch["targets"].tolist() == [3, 3] and batch["targets"].dtype == torch.int64
    assert batch["weights"].tolist() == [0.5, 0.5] and batch["camids"].tolist() == [1, 1]
    assert batch["img_paths"] == ["a", "a"]
    assert pickle.loads(pickle.dumps(loader.collate_fn)) is loader.collate_fn


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "YCbCr", "I", "F", "1", "I;16"])
def test_to_tensor__reads_every_mode(mode):
    from fastreid.data.transforms.transforms import ToTensor

    if mode == "I;16":
        image = Image.fromarray(np.arange(12, dtype=np.uint16).reshape(3, 4))
        expected = np.arange(12).reshape(3, 4)
    else:
        image = rgb_image().convert("L").convert(mode)
        expected = np.array(image, dtype=np.float32) * (255 if mode == "1" else 1)
    tensor = ToTensor()(image)
    assert tensor.is_contiguous() and tensor.dim() == 3
    assert np.array_equal(tensor.permute(1, 2, 0).squeeze(-1).numpy(), expected)
    assert tensor.dtype == {"I": torch.int32, "I;16": torch.int16}.get(mode, torch.float32)


AUGMENTATIONS = ["AFFINE", "CROP", "AUGMIX", "AUTOAUG", "CJ", "REA", "RPT", "PADDING"]


@pytest.mark.parametrize("key", AUGMENTATIONS)
def test_transforms__every_augmentation_runs(key):
    from fastreid.data.transforms import build_transforms

    cfg = small_cfg(f"INPUT.{key}.ENABLED", True)
    if hasattr(cfg.INPUT[key], "PROB"):
        cfg.INPUT[key].PROB = 1.0
    transforms = build_transforms(cfg, is_train=True)
    for seed in range(5):
        assert transforms(rgb_image(seed)).shape[0] == 3


# ------------------------------------------------------------------------------------ evaluation


def test_evaluator__compiles_nothing(monkeypatch):
    from fastreid.evaluation import ReidEvaluator

    monkeypatch.setattr(subprocess, "run", lambda *args, **kw: pytest.fail("ran a compiler"))
    ReidEvaluator(small_cfg(), num_query=1)


def test_rank__cuhk03_protocol_runs():
    from fastreid.evaluation.rank import evaluate_rank

    distances = np.array([[0.1, 0.2, 0.3]])
    args = [np.array([1]), np.array([1, 2, 3]), np.array([0]), np.array([1, 1, 1])]
    cmc, mean_ap = evaluate_rank(distances, *args, max_rank=3, use_metric_cuhk03=True)
    assert cmc.tolist() == [1, 1, 1] and mean_ap == 1


def test_euclidean_distance__is_squared_and_warns_nothing():
    from fastreid.utils.compute_dist import build_dist

    a, b = torch.randn(4, 3), torch.randn(5, 3)
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            distances = build_dist(a, b, "euclidean")
    finally:
        torch.set_warn_always(False)
    expected = ((a[:, None] - b[None]) ** 2).sum(-1).numpy()
    assert np.allclose(distances, expected, atol=1e-5)


@pytest.mark.parametrize("claims_cuda", [False, True])
def test_jaccard_distance__without_a_gpu_build_of_faiss_searches_on_the_cpu(
    monkeypatch, claims_cuda
):
    from fastreid.utils import compute_dist

    if hasattr(compute_dist.faiss, "StandardGpuResources"):
        pytest.skip("faiss has a GPU build")
    features = torch.nn.functional.normalize(torch.randn(40, 8))
    expected = compute_dist.compute_jaccard_distance(features, k1=10, k2=3, search_option=3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: claims_cuda)
    distances = compute_dist.build_dist(features[:5], features[5:], "jaccard", k1=10, k2=3)
    assert np.array_equal(distances, expected[:5, 5:])


# ----------------------------------------------------------------------------------- checkpoints


class RunsACommand:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def load_checkpoint(path):
    from fastreid.utils.checkpoint import Checkpointer

    return Checkpointer(torch.nn.Linear(1, 1)).load(str(path))


def load_pretrained(path):
    from fastreid.modeling.backbones import build_backbone

    options = ["MODEL.BACKBONE.PRETRAIN", True, "MODEL.BACKBONE.PRETRAIN_PATH", str(path)]
    return build_backbone(small_cfg("MODEL.BACKBONE.DEPTH", "18x", *options))


@pytest.mark.parametrize("load", [load_checkpoint, load_pretrained])
def test_checkpoint__with_code_is_refused_and_not_run(tmp_path, load):
    path, proof = tmp_path / "evil.pth", tmp_path / "proof"
    torch.save({"model": RunsACommand(proof)}, path)
    before = torch.load
    with pytest.raises(UserError, match=r"evil.pth, because it holds .*system.*save only its wei"):
        load(path)
    assert not proof.exists()
    assert torch.load is before


@pytest.mark.parametrize("content", [b"", b"garbage", "truncated"])
def test_checkpoint__damaged_is_refused(tmp_path, content):
    path = tmp_path / "model.pth"
    torch.save({"model": torch.nn.Linear(1, 1).state_dict()}, path)
    path.write_bytes(path.read_bytes()[:-200] if content == "truncated" else content)
    with pytest.raises(UserError, match=r"model.pth, because it is truncated or no checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("package", [b"numpy.core.", b"numpy._core."])
@pytest.mark.parametrize("number", [np.float64(0.5), np.float32(0.5), np.int64(3), np.bool_(True)])
def test_checkpoint__may_hold_numbers_of_either_numpy(tmp_path, package, number):
    path = tmp_path / "model.pth"
    extra = {"metric": number, "milestones": collections.Counter([3, 3])}
    data = {"model": torch.nn.Linear(1, 1).state_dict(), **extra}
    torch.save(data, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes().replace(b"numpy._core.", package).replace(b"numpy.core.", package)
    path.write_bytes(content)
    loaded = load_checkpoint(path)
    assert {key: loaded[key] for key in extra} == extra


@pytest.mark.skipif(
    not hasattr(torch.serialization, "add_safe_globals"), reason="torch < 2.4 restores no arrays"
)
@pytest.mark.parametrize("package", [b"numpy.core.", b"numpy._core."])
def test_checkpoint__may_hold_arrays_of_either_numpy(tmp_path, package):
    path = tmp_path / "model.pth"
    weights = {"weight": np.full((1, 1), 2, np.float32), "bias": np.zeros(1, np.float32)}
    torch.save({"model": weights}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes().replace(b"numpy._core.", package).replace(b"numpy.core.", package)
    path.write_bytes(content)
    assert load_checkpoint(path) == {}


# -------------------------------------------------------------------------------------- training

BACKBONES = {
    "build_resnet_backbone": ("18x", 512),
    "build_resnest_backbone": ("50x", 2048),
    "build_resnext_backbone": ("50x", 2048),
    "build_osnet_backbone": ("x0_25", 128),
    "build_mobilenetv2_backbone": ("0.1x", 1280),
    "build_mobilenetv3_backbone": ("Small", 1024),
    "build_shufflenetv2_backbone": ("0.5x", 1024),
    "build_repvgg_backbone": ("A0", 1280),
    "build_vit_backbone": ("small", 768),
    "build_regnet_backbone": ("200x", 368),
    "build_effnet_backbone": ("b0", 1280),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones__make_features_on_the_cpu(name):
    from fastreid.modeling import build_model

    depth, width = BACKBONES[name]
    options = ["NAME", name, "DEPTH", depth, "FEAT_DIM", width]
    options[::2] = [f"MODEL.BACKBONE.{key}" for key in options[::2]]
    model = build_model(small_cfg(*options)).eval()
    with torch.no_grad():
        features = model({"images": torch.rand(2, 3, 64, 32)})
    assert features.shape == (2, width)


def test_default_trainer__trains_evaluates_and_resumes_on_the_cpu(tmp_path, monkeypatch):
    from fastreid.data.datasets import DATASET_REGISTRY
    from fastreid.data.datasets.bases import ImageDataset
    from fastreid.engine import DefaultTrainer

    items = image_items(tmp_path)

    class CompatToy(ImageDataset):
        def __init__(self, root="", **kwargs):
            gallery = [(path, pid, camid + 2) for path, pid, camid in items]
            super().__init__(items, items[::4], gallery)

    monkeypatch.setitem(DATASET_REGISTRY._obj_map, "CompatToy", CompatToy)
    settings = {
        "MODEL.BACKBONE.DEPTH": "18x",
        "MODEL.BACKBONE.FEAT_DIM": 512,
        "DATASETS.NAMES": ("CompatToy",),
        "DATASETS.TESTS": ("CompatToy",),
        "DATALOADER.NUM_WORKERS": 0,
        "DATALOADER.SAMPLER_TRAIN": "TrainingSampler",
        "SOLVER.IMS_PER_BATCH": 12,
        "SOLVER.MAX_EPOCH": 2,
        "SOLVER.CHECKPOINT_PERIOD": 1,
        "TEST.EVAL_PERIOD": 1,
        "TEST.RERANK.ENABLED": True,
        "OUTPUT_DIR": str(tmp_path / "out"),
    }
    cfg = small_cfg(*[x for pair in settings.items() for x in pair])
    Path(cfg.OUTPUT_DIR).mkdir()
    trainer = DefaultTrainer(cfg)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    results = trainer.train()
    moved = [not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2
    assert 0 < results["mAP"] <= 100

    resumed = DefaultTrainer(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.start_epoch == 2
    for a, b in zip(trainer.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_build_optimizer__refuses_the_flat_buffer():
    from fastreid.solver import build_optimizer

    with pytest.raises(UserError, match="contiguous=True, which trains nothing"):
        build_optimizer(small_cfg(), torch.nn.Linear(1, 1), contiguous=True)


def test_profiler_hook__runs(tmp_path):
    from fastreid.engine.hooks import AutogradProfiler

    hook = AutogradProfiler(lambda trainer: True, str(tmp_path))
    hook.trainer = types.SimpleNamespace(iter=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hook.before_step()
        hook.after_step()
    assert list(tmp_path.iterdir())


def test_mixed_precision__warns_nothing_from_the_trainer():
    from fastreid.engine import train_loop

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Again, because pytest undoes the filter that the import has set.
        for mend in compat.MENDS[train_loop.__name__].after:
            mend(train_loop)
        names = {"__name__": train_loop.__name__}
        exec("from torch.cuda.amp import GradScaler\nGradScaler(enabled=False)", names)
    assert [w for w in caught if w.category is FutureWarning] == []


def test_collect_env_info__runs():
    from fastreid.utils.collect_env import collect_env_info

    assert "PyTorch" in collect_env_info()


# ------------------------------------------------------------------------------- several processes


def in_each_process(folder):
    from fastreid.engine import defaults
    from fastreid.utils import comm

    rank = torch.distributed.get_rank()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*Storage")
        total = torch.tensor(float(rank + 1))
        torch.distributed.all_reduce(total)
        result = {
            "sum": total.item(),
            "local": [comm.get_local_rank(), comm.get_local_size()],
            "all_gather": comm.all_gather({"rank": rank, "pad": "x" * rank}),
            "gather": comm.gather("ab"[rank], dst=0),
            "seed": comm.shared_random_seed(),
            "mean": comm.reduce_dict({"loss": torch.tensor(float(rank))})["loss"].item(),
        }
        model = defaults.DistributedDataParallel(
            torch.nn.Linear(1, 1), device_ids=[rank], broadcast_buffers=False
        )
        model(torch.full((1, 1), float(rank))).sum().backward()
        result["gradient"] = model.module.weight.grad.item()
    torch.save(result, f"{folder}/{rank}.pth")


@needs_no_gpu
def test_launch__two_processes_on_a_cpu(tmp_path):
    from fastreid.engine import launch

    launch(in_each_process, 2, dist_url="auto", args=(str(tmp_path),))
    first, second = (torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(2))
    assert first["sum"] == second["sum"] == 3
    assert first["local"] == [0, 2] and second["local"] == [1, 2]
    everyone = [{"rank": 0, "pad": ""}, {"rank": 1, "pad": "x"}]
    assert first["all_gather"] == second["all_gather"] == everyone
    assert first["gather"] == ["a", "b"] and second["gather"] == []
    assert first["seed"] == second["seed"]
    assert first["mean"] == 0.5
    assert first["gradient"] == second["gradient"] == 0.5
