"""Packaging of fastreid_uda. fast-reid itself is installed with --no-deps: see README.md."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "fastreid_uda" / "__init__.py").read_text(), re.MULTILINE
).group(1)
EXPORT = ["onnx>=1.16", "onnxruntime>=1.18", "onnxscript>=0.2"]


class BuildWithConfigs(build_py):
    """Puts the folder configs/ into the package; in a checkout it stays where everybody sees it."""

    def run(self):
        """Build, then copy; an editable install finds the configs beside the package."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "fastreid_uda" / "configs"
            shutil.rmtree(target, ignore_errors=True)  # of an earlier build
            shutil.copytree(ROOT / "configs", target)


setup(
    name="fastreid_uda",
    version=VERSION,
    description="Unsupervised domain adaptation for person re-identification, a fast-reid plug-in",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["fastreid_uda", "fastreid_uda.*"]),
    package_data={"fastreid_uda": ["py.typed", "report/templates/*"]},
    cmdclass={"build_py": BuildWithConfigs},
    entry_points={"console_scripts": ["fastreid-uda = fastreid_uda.cli:main"]},
    # fastreid is not listed: its metadata pins torch 1.13.1, so it is installed with --no-deps, and
    # the packages that it imports are listed instead.
    install_requires=[
        "torch>=2.1",
        "torchvision>=0.16",
        "numpy>=1.26",
        "scipy>=1.11",
        "numba>=0.59",  # compiled kernels; all works without it, more slowly
        "scikit-learn>=1.3",
        "pillow>=9.4",
        "yacs>=0.1.8",
        "pyyaml>=6.0",
        "termcolor>=2.2",
        "tabulate>=0.9",
        "tqdm>=4.65",
        "tensorboard>=2.12",
        "jinja2>=3.1",
        "matplotlib>=3.7",
        "gdown>=4.7",
        "faiss-cpu>=1.7.4",
    ],
    extras_require={
        "gpu": ["faiss-gpu>=1.14"],
        "export": EXPORT,
        "dev": [
            *EXPORT,
            "mkdocs>=1.6,<2",
            "mkdocs-material>=9.5",
            "selenium>=4.20",  # reports are looked at in Chromium, where it is installed
            "pytest>=7.4",
            "pytest-xdist>=3.5",
            "hypothesis>=6.80",
            "ruff>=0.17,<0.18",
            "mypy>=1.10",
            "types-PyYAML",
            "types-tabulate",
            "types-tqdm",
        ],
    },
    classifiers=[
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
