"""Who may import whom: read from the source, and tried in a fresh interpreter."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "fastreid_uda"

# package -> the packages of ours that it must not import
FORBIDDEN = {
    "labeling": {"modeling", "data", "engine", "evaluation", "export", "config", "plugin",
                 "compat"},
    "modeling": {"data", "engine", "evaluation", "config", "plugin", "export", "report", "cli"},
    "data": {"modeling", "engine", "evaluation", "plugin", "export", "report", "cli"},
    "evaluation": {"modeling", "data", "engine", "plugin", "export", "report", "cli"},
    "report": {"modeling", "engine", "config", "plugin", "compat", "cli", "export"},
    "engine": {"plugin", "export", "report", "cli"},
    "export": {"plugin", "cli"},
}  # fmt: skip
# stages of labeling in their order: a stage never imports a later one
STAGES = [
    "types", "cameras", "camera_normalization", "row_distances", "neighbors_tiles",
    "neighbors_torch", "neighbors_faiss", "neighbors", "jaccard_scipy", "jaccard", "jaccard_exact",
    "camera_aware_jaccard", "smallest", "pairwise", "blockwise", "distances", "silhouette",
    "label_silhouettes", "feature_map", "eps", "eps_scan", "hdbscan", "dbscan", "lloyd", "kmeans",
    "kmeans_torch", "kmeans_faiss", "clustering", "reliability", "uncertainty", "self_assessment",
    "refiners", "collapse", "pipeline", "label_files",
]  # fmt: skip


def imported(path):
    """Absolute names of all modules that a file imports, lazily or not."""
    package = ("fastreid_uda", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_imports__point_downwards(package):
    for path in (ROOT / package).rglob("*.py"):
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "fastreid_uda" and len(parts) > 1:
                assert parts[1] not in FORBIDDEN[package], f"{path.name} imports {name}"


def test_labeling__knows_no_framework():
    for path in (ROOT / "labeling").rglob("*.py"):
        for name in imported(path):
            assert name.split(".")[0] not in {"fastreid", "yacs", "torchvision"}, path


def test_labeling_stages__never_import_a_later_stage():
    for position, stage in enumerate(STAGES):
        later = set(STAGES[position + 1 :])
        source = ROOT / "labeling" / stage
        paths = source.rglob("*.py") if source.is_dir() else [source.with_suffix(".py")]
        for path in paths:
            for name in imported(path):
                if name.startswith("fastreid_uda.labeling."):
                    assert name.split(".")[2] not in later, f"{path.name} imports {name}"


@pytest.mark.parametrize(
    "module", ["fastreid_uda", "fastreid_uda.labeling.pipeline", "fastreid_uda.config_loading"]
)
def test_import__brings_no_torch(module):
    heavy = {"torch"} if module.endswith("loading") else {"torch", "fastreid", "yacs"}
    code = f"import sys, {module}; print(*({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_engine__private_attributes_of_the_host_only_in_trainer():
    # distributed.py: the gloo group; checks.py: the names in the registries
    allowed = {"trainer.py", "distributed.py", "checks.py"}
    for path in (ROOT / "engine").glob("*.py"):
        if path.name in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                owner = getattr(node.value, "id", "")
                private = node.attr.startswith("__") or owner in {"self", "cls"}
                assert private or owner == "", f"{path.name}: {owner}.{node.attr}"
