"""What is broken in fast-reid 1.4.0 on current Python, torch and NumPy, and how we mend it.

fast-reid stays unmodified. `install` places one finder on `sys.meta_path`; when a module named in
`MENDS` is imported, the finder lets the ordinary loader run and applies the mends around and after
it. This file imports the standard library only, because importing `fastreid_uda.labeling` must
not import torch: what a mend needs is imported by the mend.

`FR` in the docstrings is the folder `fastreid` of the 1.4.0 wheel.
"""

from __future__ import annotations

import codecs
import collections
import contextlib
import functools
import importlib.util
import inspect
import os
import pathlib
import pickle
import random
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from .errors import UserError

NOT_INSTALLED = (
    "fast-reid is not installed; type `pip install --no-deps fastreid==1.4.0` "
    "(--no-deps, because its metadata pins torch 1.13.1)."
)


# --------------------------------------------------------------------------- around the import


@contextlib.contextmanager
def _temporarily(owner: Any, name: str, value: Any) -> Iterator[None]:
    missing = object()
    before = getattr(owner, name, missing)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


@contextlib.contextmanager
def torch_six() -> Iterator[None]:
    """FR data/build.py:11 imports `string_classes` from `torch._six`, removed in torch 2.0."""
    name = "torch._six"
    if importlib.util.find_spec(name) is not None:
        yield
        return
    stub = types.ModuleType(name)
    stub.string_classes = (str, bytes)  # type: ignore[attr-defined]
    sys.modules[name] = stub
    try:
        yield
    finally:
        # Others ask for `torch._six` to learn the version of torch, so the stub does not stay.
        sys.modules.pop(name, None)


def collections_mapping() -> AbstractContextManager[None]:
    """FR data/build.py:12, evaluation/testing.py:5 use `collections.Mapping`, gone in 3.10."""
    if hasattr(collections, "Mapping"):
        return contextlib.nullcontext()
    return _temporarily(collections, "Mapping", Mapping)


@contextlib.contextmanager
def no_cython_warning() -> Iterator[None]:
    """FR evaluation/rank.py:14, roc.py:18 tell users to compile; we never do."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Cython (rank|roc) evaluation")
        yield


# ----------------------------------------------------------------------------- after the import


def _replace(module: types.ModuleType, name: str, new: Any) -> None:
    """Set `module.name`, also where loaded fast-reid modules have imported it by name."""
    old = getattr(module, name)
    for path, loaded in list(sys.modules.items()):
        if path.partition(".")[0] == "fastreid" and loaded is not None:
            for key in [key for key, value in vars(loaded).items() if value is old]:
                setattr(loaded, key, new)


def numpy_bool(module: types.ModuleType) -> None:
    """FR evaluation/rank.py:69 needs `np.bool`, which NumPy 1.24 to 1.26 lack."""
    import numpy as np

    # Not hasattr: NumPy 1.26 answers that with a FutureWarning.
    if "bool" not in vars(np):
        setattr(np, "bool", np.bool_)  # noqa: B010  what NumPy 2 says


def loader_without_cuda(module: types.ModuleType) -> None:
    """FR data/data_utils.py:127,151,182,190 call CUDA in each loader, which fails on a CPU."""
    import torch

    cpu, cuda = torch.utils.data.DataLoader, module.DataLoaderX
    cuda_init, cuda_iter, cuda_shutdown = cuda.__init__, cuda.__iter__, cuda.shutdown

    def __init__(self: Any, local_rank: int, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            cuda_init(self, local_rank, **kwargs)
        else:
            cpu.__init__(self, **{**kwargs, "pin_memory": False})
            self.local_rank = local_rank

    def __iter__(self: Any) -> Any:
        return cuda_iter(self) if torch.cuda.is_available() else cpu.__iter__(self)

    def shutdown(self: Any) -> None:
        # Without CUDA there is no prefetch thread; worker processes end with their iterator.
        if torch.cuda.is_available():
            cuda_shutdown(self)

    cuda.__init__, cuda.__iter__, cuda.shutdown = __init__, __iter__, shutdown


def collate_numpy_scalars(module: types.ModuleType) -> None:
    """FR data/build.py:168-187 returns None, silently, for a batch of NumPy integers or floats."""
    import numpy as np

    original = module.fast_batch_collator
    if original([np.int64(0), np.int64(1)]) is not None:
        return

    @functools.wraps(original)
    def collate(batched_inputs: Sequence[Any]) -> Any:
        if isinstance(batched_inputs[0], np.generic):
            batched_inputs = [x.item() if isinstance(x, np.generic) else x for x in batched_inputs]
        return original(batched_inputs)

    _replace(module, "fast_batch_collator", collate)


def image_to_tensor(module: types.ModuleType) -> None:
    """FR data/transforms/functional.py:38-46 reads images by ways that torch and NumPy dropped.

    `ByteStorage.from_buffer` warns on torch 2 for each image; `np.array(..., copy=False)` raises
    on NumPy 2 for 1 and 16 bit images, and gives torch memory it must not write to for others.
    """
    import numpy as np
    import torch

    original = module.to_tensor
    if not hasattr(torch, "UntypedStorage"):
        return
    dtypes = {"I": np.int32, "I;16": np.int16, "F": np.float32}

    @functools.wraps(original)
    def to_tensor(pic: Any) -> Any:
        if isinstance(pic, np.ndarray):
            return original(pic)
        pixels = np.array(pic).astype(dtypes.get(pic.mode, np.uint8))
        if pic.mode == "1":
            pixels *= 255
        chw = np.ascontiguousarray(np.moveaxis(np.atleast_3d(pixels), 2, 0))
        tensor = torch.from_numpy(chw)
        return tensor.float() if tensor.dtype == torch.uint8 else tensor

    _replace(module, "to_tensor", to_tensor)


def random_affine(module: types.ModuleType) -> None:
    """FR data/transforms/build.py:78 (INPUT.AFFINE) passes arguments that torchvision removed."""
    transforms = module.T
    if "resample" in inspect.signature(transforms.RandomAffine).parameters:
        return

    def affine(*args: Any, resample: Any = False, fillcolor: Any = 0, **kwargs: Any) -> Any:
        # fast-reid's only value, resample=False, was the nearest pixel, still the default.
        return transforms.RandomAffine(*args, fill=fillcolor, **kwargs)

    module.T = types.SimpleNamespace(**{**vars(transforms), "RandomAffine": affine})  # type: ignore[attr-defined]


def evaluate_without_compiler(module: types.ModuleType) -> None:
    """FR evaluation/reid_evaluation.py:128-142 runs `make` in site-packages, exits if it fails."""
    if hasattr(module.ReidEvaluator, "_compile_dependencies"):
        module.ReidEvaluator._compile_dependencies = lambda self: None


def _loading_safely(function: Callable) -> Callable:
    """`function`, with every `torch.load` in it restricted to tensors and plain values."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        import torch

        original = torch.load

        def load(file: Any, map_location: Any = "cpu", **_: Any) -> Any:
            try:
                return original(file, map_location=map_location, weights_only=True)
            except (FileNotFoundError, PermissionError, MemoryError):
                raise
            except Exception as error:
                raise UserError(_refusal(file, error)) from error

        with _temporarily(torch, "load", load):
            return function(*args, **kwargs)

    return wrapped


def _refusal(file: Any, error: Exception) -> str:
    found = re.search(r"(?:GLOBAL|Unsupported class) ([\w.]+)", str(error))
    reason = "it is truncated or no checkpoint of weights; copy or download it again"
    if found:
        reason = (
            f"it holds the Python object {found[1].rstrip('.')}, which could run any code; "
            "save only its weights, as torch.save({'model': state_dict}, path)"
        )
    return f"Cannot load {getattr(file, 'name', file)}, because {reason}."


def safe_checkpoints(module: types.ModuleType) -> None:
    """FR utils/checkpoint.py:216 unpickles anything before torch 2.6, refuses NumPy since then."""
    import torch

    checkpointer = module.Checkpointer
    checkpointer._load_file = _loading_safely(checkpointer._load_file)
    if hasattr(torch.serialization, "add_safe_globals"):
        _allow_numpy()
    else:
        _allow_numpy_scalars_before_torch_2_4()


def safe_pretrained_weights(module: types.ModuleType) -> None:
    """FR modeling/backbones/*.py call `torch.load` as checkpoint.py:216 does, see there."""
    _replace(module, "build_backbone", _loading_safely(module.build_backbone))


# What torch itself allows since 2.5: bytes (of NumPy numbers), the milestones of MultiStepLR.
_PLAIN_VALUES = {"_codecs.encode": codecs.encode, "collections.Counter": collections.Counter}


def _allow_numpy() -> None:
    """Let `torch.load(weights_only=True)` accept numbers and numeric arrays of NumPy 1 and 2."""
    import numpy as np
    import torch

    def renamed(function: Callable, package: str) -> Callable:
        def alias(*args: Any) -> Any:
            return function(*args)

        # torch before 2.6 takes the name to allow from these and from nowhere else.
        alias.__module__ = f"{package}.multiarray"
        alias.__name__ = alias.__qualname__ = function.__name__
        return alias

    scalar: Any = np.float64(0).__reduce__()[0]
    reconstruct: Any = np.zeros(0).__reduce__()[0]
    numbers = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64"
    torch.serialization.add_safe_globals(
        [renamed(f, p) for f in (scalar, reconstruct) for p in ("numpy.core", "numpy._core")]
        + [np.ndarray, np.dtype, *_PLAIN_VALUES.values()]
        + [type(np.dtype(number)) for number in numbers.split()]
    )


def _allow_numpy_scalars_before_torch_2_4() -> None:
    """The same for torch 2.1 to 2.3, which have no list to add to, for single numbers only.

    Their unpickler restores no state but that of tensors, and a pickled NumPy dtype has some. So
    the dtype is a parameter while the file is read, and the number comes out as Python's.
    """
    import numpy as np
    import torch
    from torch._weights_only_unpickler import _get_allowed_globals

    def dtype(code: str, *_: Any) -> Any:
        stand_in: Any = torch.nn.Parameter(torch.empty(0), requires_grad=False)
        stand_in.numpy_dtype = np.dtype(code)
        stand_in.__setstate__ = lambda state: None
        return stand_in

    def scalar(dtype: Any, data: bytes) -> Any:
        return np.frombuffer(data, dtype.numpy_dtype)[0].item()

    allowed = _get_allowed_globals()  # cached by torch, so what is added stays
    allowed.update({"numpy.dtype": dtype, **_PLAIN_VALUES})
    allowed.update({f"numpy.{core}.multiarray.scalar": scalar for core in ("core", "_core")})


def packaged_configs(module: types.ModuleType) -> None:
    """FR modeling/backbones/regnet/regnet.py:568, effnet.py:253 open a path in `fastreid/`.

    It is relative, so it is found only where the working directory is a checkout of fast-reid. And
    it is merged into one config for all networks: a RegNetX that is built after a RegNetY in the
    same process has the layers of a RegNetY. So each begins with the defaults.
    """
    merge, root = module.cfg.merge_from_file, pathlib.Path(str(module.__file__)).parents[4]
    defaults = module.cfg.clone()

    def merge_from_file(path: str) -> None:
        module.cfg.merge_from_other_cfg(defaults)
        merge(path if os.path.exists(path) else str(root / path))

    # Past CfgNode.__setattr__, which would make it a key of the config.
    object.__setattr__(module.cfg, "merge_from_file", merge_from_file)


def euclidean_distance(module: types.ModuleType) -> None:
    """FR utils/compute_dist.py:183 calls `addmm_` in a form that torch is about to remove."""
    import torch

    one, warn_always = torch.ones(1, 1), torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            module.compute_euclidean_distance(one, one)
        return
    except (UserWarning, TypeError, RuntimeError):
        pass  # needed
    finally:
        torch.set_warn_always(warn_always)

    @functools.wraps(module.compute_euclidean_distance)
    @torch.no_grad()
    def distance(features: Any, others: Any) -> Any:
        squares = features.pow(2).sum(dim=1, keepdim=True) + others.pow(2).sum(dim=1)
        return torch.addmm(squares, features, others.t(), alpha=-2).cpu().numpy()

    _replace(module, "compute_euclidean_distance", distance)


def jaccard_without_gpu(module: types.ModuleType) -> None:
    """FR utils/compute_dist.py:53,66-90 searches on the GPU, with names that new faiss lacks."""
    import torch

    original = module.compute_jaccard_distance
    cpu = 3
    names = {0: ["bruteForceKnn", "cast_integer_to_long_ptr"], 1: ["cast_integer_to_long_ptr"]}

    @functools.wraps(original)
    def distance(
        features: Any, k1: int = 20, k2: int = 6, search_option: int = 0, **kw: Any
    ) -> Any:
        needed = ["StandardGpuResources", *names.get(search_option, [])]
        if not torch.cuda.is_available() or not all(hasattr(module.faiss, n) for n in needed):
            search_option = cpu
        return original(features, k1, k2, search_option, **kw)

    _replace(module, "compute_jaccard_distance", distance)


def serialize_to_tensor(module: types.ModuleType) -> None:
    """FR utils/comm.py:107 builds tensors by `ByteStorage`, which torch 2 warns about."""
    import torch

    if not hasattr(torch, "UntypedStorage"):
        return

    def serialize(data: Any, group: Any) -> Any:
        on_cpu = torch.distributed.get_backend(group) == "gloo"
        buffer = bytearray(pickle.dumps(data))  # writable, as torch demands
        return torch.frombuffer(buffer, dtype=torch.uint8).to("cpu" if on_cpu else "cuda")

    _replace(module, "_serialize_to_tensor", serialize)


def launch_without_cuda(module: types.ModuleType) -> None:
    """FR engine/launch.py:77-92 asserts CUDA; the spawned children would lack our mends, too."""
    _replace(module, "_distributed_worker", distributed_worker)


def distributed_worker(
    local_rank: int,
    main_func: Callable,
    world_size: int,
    num_gpus_per_machine: int,
    machine_rank: int,
    dist_url: str,
    args: tuple,
) -> None:
    """One process of fast-reid's `launch`.

    The children of `launch` find their first function by its module; since that is this one, they
    import `fastreid_uda` and with it the mends.
    """
    import torch

    from .distributed import run_process

    run_process(
        main_func,
        args,
        url=dist_url,
        rank=machine_rank * num_gpus_per_machine + local_rank,
        world_size=world_size,
        local_rank=local_rank,
        local_size=num_gpus_per_machine,
        on_gpu=torch.cuda.is_available(),
    )


def optimizer_that_trains(module: types.ModuleType) -> None:
    """FR solver/build.py:180 flattens the parameters; then torch 2 trains nothing, silently.

    `zero_grad` sets the gradient of the flat buffer to None and the optimizer skips it.
    """
    import torch

    weight = torch.nn.Parameter(torch.zeros(1))
    group = {"params": [weight], "freeze_status": "normal", "lr": 1.0, "weight_decay": 0.0}
    probe = torch.optim.SGD(module.ContiguousParams([group]).contiguous(), lr=1.0)
    probe.zero_grad()
    weight.sum().backward()
    probe.step()
    if weight.item() != 0:
        return
    original = module.build_optimizer

    @functools.wraps(original)
    def build_optimizer(cfg: Any, model: Any, contiguous: bool = False) -> Any:
        if contiguous:
            raise UserError(
                "build_optimizer was called with contiguous=True, which trains nothing on "
                f"torch {torch.__version__}; leave the argument out."
            )
        return original(cfg, model, contiguous=False)

    _replace(module, "build_optimizer", build_optimizer)


def data_parallel_on_cpu(module: types.ModuleType) -> None:
    """FR engine/defaults.py:207 gives DistributedDataParallel a GPU number also on a CPU."""
    original = module.DistributedDataParallel

    def data_parallel(model: Any, device_ids: Any = None, **kwargs: Any) -> Any:
        on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
        return original(model, device_ids=None if on_cpu else device_ids, **kwargs)

    module.DistributedDataParallel = data_parallel  # type: ignore[attr-defined]


def profiler_argument(module: types.ModuleType) -> None:
    """FR engine/hooks.py:307 passes `use_cuda` to torch's profiler, which now says `use_device`."""
    import torch

    profile = torch.autograd.profiler.profile
    if "use_cuda" in inspect.signature(profile).parameters:
        return

    def before_step(self: Any) -> None:
        self._profiler = None
        if self._enable_predicate(self.trainer):
            cuda = self._use_cuda and torch.cuda.is_available()
            self._profiler = profile(use_device="cuda" if cuda else None)
            self._profiler.__enter__()

    module.AutogradProfiler.before_step = before_step


def no_amp_warning(module: types.ModuleType) -> None:
    """FR engine/train_loop.py:325,336 spell mixed precision `torch.cuda.amp`, which still works."""
    warnings.filterwarnings(
        "ignore",
        message=r"`torch\.cuda\.amp\.",
        category=FutureWarning,
        module=re.escape(module.__name__),
    )


def vehicle_id_without_cameras(module: types.ModuleType) -> None:
    """FR data/datasets/vehicleid.py:66 makes cameras of the numbers of the images, :70 draws anew.

    The data set knows no cameras. The gallery is drawn with Python's global generator, so that each
    process of a run, and each run, scores another one.

    `has_cameras` and `gallery_is_drawn` are what `data/build.py` asks of any data set.
    """
    cls = module.VehicleID
    draw = cls.process_dir

    @functools.wraps(draw)
    def process_dir(self: Any, list_file: str, is_train: bool = True) -> Any:
        state = random.getstate()
        random.seed(0)
        try:
            return draw(self, list_file, is_train)
        finally:
            random.setstate(state)

    cls.process_dir = process_dir
    cls.has_cameras, cls.gallery_is_drawn = False, True


# ------------------------------------------------------------------------------------ machinery


@dataclass(frozen=True)
class Mends:
    """What one module of fast-reid needs: contexts to import it in, changes once it is there."""

    around: tuple[Callable[[], AbstractContextManager[None]], ...] = ()
    after: tuple[Callable[[types.ModuleType], None], ...] = ()


MENDS: Mapping[str, Mends] = {
    "fastreid.data.build": Mends((torch_six, collections_mapping), (collate_numpy_scalars,)),
    "fastreid.data.data_utils": Mends(after=(loader_without_cuda,)),
    "fastreid.data.datasets.vehicleid": Mends(after=(vehicle_id_without_cameras,)),
    "fastreid.data.transforms.build": Mends(after=(random_affine,)),
    "fastreid.data.transforms.functional": Mends(after=(image_to_tensor,)),
    "fastreid.engine.defaults": Mends(after=(data_parallel_on_cpu,)),
    "fastreid.engine.hooks": Mends(after=(profiler_argument,)),
    "fastreid.engine.launch": Mends(after=(launch_without_cuda,)),
    "fastreid.engine.train_loop": Mends(after=(no_amp_warning,)),
    "fastreid.evaluation.rank": Mends((no_cython_warning,), (numpy_bool,)),
    "fastreid.evaluation.reid_evaluation": Mends(after=(evaluate_without_compiler,)),
    "fastreid.evaluation.roc": Mends(around=(no_cython_warning,)),
    "fastreid.evaluation.testing": Mends(around=(collections_mapping,)),
    "fastreid.modeling.backbones.build": Mends(after=(safe_pretrained_weights,)),
    "fastreid.modeling.backbones.regnet.config": Mends(after=(packaged_configs,)),
    "fastreid.solver.build": Mends(after=(optimizer_that_trains,)),
    "fastreid.utils.checkpoint": Mends(after=(safe_checkpoints,)),
    "fastreid.utils.comm": Mends(after=(serialize_to_tensor,)),
    "fastreid.utils.compute_dist": Mends(after=(euclidean_distance, jaccard_without_gpu)),
}


class _MendingLoader:
    """The ordinary loader of a module, with the mends."""

    def __init__(self, loader: Any, mends: Mends) -> None:
        self._loader = loader
        self._mends = mends

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        with contextlib.ExitStack() as stack:
            for around in self._mends.around:
                stack.enter_context(around())
            self._loader.exec_module(module)
        for mend in self._mends.after:
            mend(module)


class _MendingFinder:
    """Finds the modules in `MENDS` as Python would without us, and wraps their loaders."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "fastreid" and name not in MENDS:
            return None
        spec = self.find_elsewhere(name, path, target)
        if spec is None and name == "fastreid":
            raise ModuleNotFoundError(NOT_INSTALLED, name=name)
        if spec is not None and name in MENDS:
            spec.loader = _MendingLoader(spec.loader, MENDS[name])
        return spec

    def find_elsewhere(self, name: str, path: Any = None, target: Any = None) -> Any:
        for finder in sys.meta_path:
            if not isinstance(finder, _MendingFinder):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    return spec
        return None


def install() -> None:
    """Mend fast-reid in this process, now for what is imported already and else when it is."""
    if any(isinstance(finder, _MendingFinder) for finder in sys.meta_path):
        return
    finder = _MendingFinder()
    sys.meta_path.insert(0, finder)  # type: ignore[arg-type]
    for name, mends in MENDS.items():
        if name in sys.modules:
            for mend in mends.after:
                mend(sys.modules[name])
    if "fastreid" not in sys.modules and finder.find_elsewhere("fastreid") is None:
        warnings.warn(NOT_INSTALLED, stacklevel=3)
