"""Features of a folder of images, and an index of them for `search`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import UserError
from ..progress import show_on_stderr
from .ending import exit_code


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage="%(prog)s [-h] CROPS (--run DIR | --weights FILE)\n"
        "                            --out OUT [options] [KEY VALUE ...]",
    )
    add = parser.add_argument
    add("crops", metavar="CROPS", help="folder of images, searched through its subfolders")
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument("--run", metavar="DIR", help="OUTPUT_DIR of a run: its result, or teacher")
    network.add_argument("--weights", metavar="FILE", help="a checkpoint of fast-reid or of a run")
    add("--config-file", default="", metavar="FILE",
        help="with --weights: image size, last stride, pooling (default: fast-reid's)")  # fmt: skip
    add("--out", required=True, metavar="OUT", help="the folder to write; an older index goes")
    cameras = parser.add_mutually_exclusive_group()
    cameras.add_argument("--camera-pattern", metavar="REGEX",
        help="e.g. '^(?P<camera>[^/]+)/', in the path inside CROPS "
        "(default: none; the run's for its folder)")  # fmt: skip
    cameras.add_argument("--csv", metavar="FILE", help="table of path, camera, identity")
    add("--teacher", type=int, default=1, metavar="N", help="which mean teacher (default: 1)")
    add("--copy-weights", action="store_true", help="keep a copy of the network in OUT")
    add("opts", nargs="*", metavar="KEY VALUE", help="overrides of config keys")
    return parser.parse_intermixed_args(arguments)


def extract(args: argparse.Namespace) -> str:
    """Read, embed, write; returns what is printed."""
    import fastreid_uda.plugin  # noqa: F401  registers data sets, networks and losses

    from ..data.build import forget_datasets, load_dataset, load_training_images
    from ..data.image_files import check_images
    from ..engine.embedding import embed, load_network
    from ..engine.from_weights import network_line
    from ..evaluation.feature_index import FeatureIndex, file_digest, file_stamp, write_index
    from ..evaluation.index_folder import check_index_folder

    check_index_folder("--out", args.out)
    if args.teacher < 1:
        raise UserError(f"--teacher is {args.teacher}, but teachers are numbered from 1.")
    cfg = _config(args)
    _check_weights_stay(args, cfg.MODEL.WEIGHTS)
    forget_datasets()
    with _names_of_options(args):
        images = load_training_images(("PersonFolder",), cfg)
    items = sorted(load_dataset("PersonFolder", cfg).train, key=lambda item: item[0])
    check_images(images.paths)
    stamps = tuple(file_stamp(path) or (0, 0) for path, _, _ in items)
    network = load_network(cfg, args.teacher - 1)
    if args.weights:
        print(network_line(cfg))
    folder = os.path.abspath(cfg.DATASETS.FOLDER.TRAIN)
    index = FeatureIndex(
        features=embed(network, images, cfg),
        paths=tuple(os.path.relpath(path, folder) for path, _, _ in items),
        cameras=tuple(camera for _, _, camera in items),
        identities=tuple(identity for _, identity, _ in items),
        images=folder,
        weights=cfg.MODEL.WEIGHTS,
        digest=file_digest(cfg.MODEL.WEIGHTS),
        teacher=args.teacher - 1,
        stamps=stamps,
    )
    facts = {"camera_ids": images.camera_ids, "identities": images.identities}
    arrays = {name: values for name, values in facts.items() if values is not None}
    copy = _copier(cfg.MODEL.WEIGHTS, args.teacher - 1) if args.copy_weights else None
    write_index(args.out, index, cfg.dump(), arrays, copy)
    cameras = len(set(index.cameras) - {None})
    return (
        f"{len(images)} images of {cameras or 'unknown'} camera(s), {index.features.shape[1]} "
        f"dimensions, network {cfg.MODEL.WEIGHTS}: written to {args.out}."
    )


def _config(args: argparse.Namespace) -> Any:
    from ..engine.embedding import file_config, run_config

    if args.config_file and args.run:
        raise UserError("--config-file belongs to --weights: a run has a config of its own.")
    overrides = [*_folder_keys(args), *args.opts]
    if args.run:
        return run_config(args.run, overrides)
    return file_config(args.weights, args.config_file, overrides)


def _folder_keys(args: argparse.Namespace) -> list[str]:
    """KEY VALUE of the folder of images; a run's own folder keeps the run's cameras."""
    keys = ["DATASETS.FOLDER.TRAIN", os.path.abspath(args.crops)]
    for name in ("QUERY", "GALLERY"):
        keys += [f"DATASETS.FOLDER.{name}", ""]
    pattern, table = args.camera_pattern or "", args.csv or ""
    if args.run and not pattern and not table:
        from ..engine.run_features import load_run_config

        own = load_run_config(args.run).DATASETS.FOLDER
        if own.TRAIN and os.path.realpath(own.TRAIN) == os.path.realpath(args.crops):
            pattern, table = own.PATTERN, own.CSV
    return [*keys, "DATASETS.FOLDER.PATTERN", pattern, "DATASETS.FOLDER.CSV", table]


def _check_weights_stay(args: argparse.Namespace, weights: str) -> None:
    inside = os.path.dirname(os.path.realpath(weights)) == os.path.realpath(args.out)
    if inside and not args.copy_weights:
        raise UserError(
            f"--weights is {args.weights or weights}, a file of --out, which is written anew; add "
            "--copy-weights, or name another folder."
        )


@contextmanager
def _names_of_options(args: argparse.Namespace) -> Iterator[None]:
    """Errors name what the user has given, not the config keys that it sets."""
    names = {"TRAIN": "CROPS"}
    names |= {"PATTERN": "--camera-pattern"} if args.camera_pattern else {}
    names |= {"CSV": "--csv"} if args.csv else {}
    try:
        yield
    except UserError as error:
        text = str(error)
        for key, name in names.items():
            text = text.replace(f"DATASETS.FOLDER.{key}", name)
        raise UserError(text) from error


def _copier(path: str, teacher: int) -> Any:
    """Writes the one network of a checkpoint that is used."""
    from ..engine.checkpointing import load_checkpoint, save_checkpoint
    from ..engine.weights import state_of_one_network

    def copy(target: str) -> None:
        state = state_of_one_network(load_checkpoint(path), path, teacher)
        save_checkpoint(target, {"model": state})

    return copy


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    args = parse_arguments(arguments)
    show_on_stderr()
    return exit_code(lambda: print(extract(args)))
