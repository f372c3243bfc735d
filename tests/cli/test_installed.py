"""The installed package, without the checkout: `pip install .` and then the console script."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import ROOT, TINY, make_features, write_market

COPIED = ("fastreid_uda", "configs", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md",
          "LICENSE", "CITATION.cff", "CHANGELOG.md")  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A function that runs the console script of an installation in a fresh folder."""
    root = tmp_path_factory.mktemp("installed")
    source, prefix, home = root / "source", root / "prefix", root / "home"
    source.mkdir(), home.mkdir()
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
         "--no-index", "--ignore-installed", "--prefix", prefix, "."],
        cwd=source, check=True, capture_output=True,
    )  # fmt: skip
    shutil.rmtree(source)
    (packages,) = prefix.glob("lib/python*/site-packages")

    def run(*words, **environment):
        return subprocess.run(
            [sys.executable, prefix / "bin/fastreid-uda", *map(str, words)], cwd=home, text=True,
            env=os.environ | {"PYTHONPATH": str(packages), **environment}, capture_output=True,
            timeout=300,
        )  # fmt: skip

    return run, home, packages


@pytest.mark.slow
def test_install__has_configs_and_is_typed(installed):
    run, _, packages = installed
    assert (packages / "fastreid_uda/py.typed").is_file()
    done = run("configs", "--folder")
    assert done.stdout.strip() == str(packages / "fastreid_uda/configs")
    assert run("configs").stdout.split() == sorted(
        path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").rglob("*.yml")
    )


@pytest.mark.slow
def test_install__labels_saved_features(installed):
    run, home, _ = installed
    features, _ = make_features(num_identities=10, images=12, noise=0.2)
    np.savez(home / "features.npz", **features.views, camera_ids=features.camera_ids)
    done = run("label", "features.npz", "--config-file", "Synthetic/baseline.yml",
               "--out", "labels.npz", FASTREID_UDA_COMPILED="0")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["clusters"] >= 5
    assert np.load(home / "labels.npz")["labels/global"].shape == (120,)


@pytest.mark.slow
def test_install__trains_from_a_config_of_its_own(installed):
    run, home, _ = installed
    write_market(home / "data")
    (home / "own.yml").write_text("_BASE_: configs/Synthetic/baseline.yml\nUDA:\n  ROUNDS: 1\n")
    options = [*TINY, "UDA.ROUNDS", "1", "OUTPUT_DIR", "logs"]
    variables = {"FASTREID_DATASETS": str(home / "data"), "FASTREID_UDA_COMPILED": "0"}
    done = run("train", "--config-file", "own.yml", *options, **variables)
    assert done.returncode == 0, done.stderr
    summary = json.loads((home / "logs/summary.json").read_text())
    assert summary["method"] == "baseline" and len(summary["rounds"]) == 1


@pytest.mark.slow
def test_install__tells_its_types(installed):
    _, home, packages = installed
    (home / "use.py").write_text(
        "import numpy as np\n"
        "from fastreid_uda import FeatureSet\n"
        "features = FeatureSet({'global': np.zeros((2, 3), np.float32)})\n"
        "reveal_type(features.num_images)\n"
        "FeatureSet(5)\n"
    )
    skipped = "".join(
        f"[mypy-{name}.*]\nfollow_imports = skip\n"
        for name in ("torch", "torchvision", "fastreid", "sklearn", "scipy")
    )
    (home / "mypy.ini").write_text(f"[mypy]\nignore_missing_imports = True\n{skipped}")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "use.py"], cwd=home, text=True, capture_output=True,
        env=os.environ | {"MYPYPATH": str(packages)}, timeout=120,
    )  # fmt: skip
    assert 'use.py:4: note: Revealed type is "int"' in done.stdout, done.stdout + done.stderr
    assert 'use.py:5: error: Argument 1 to "FeatureSet"' in done.stdout
