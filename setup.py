"""Packaging of fastreid_uda. fast-reid itself is installed with --no-deps: see README.md."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "fastreid_uda" / "__init__.py").read_text(), re.MULTILINE
).group(1)

setup(
    name="fastreid_uda",
    version=VERSION,
    description="Unsupervised domain adaptation for person re-identification, a fast-reid plug-in",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["fastreid_uda", "fastreid_uda.*"]),
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
        "matplotlib>=3.7",
        "gdown>=4.7",
        "faiss-cpu>=1.7.4",
    ],
    extras_require={
        "gpu": ["faiss-gpu>=1.14"],
        "dev": [
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
