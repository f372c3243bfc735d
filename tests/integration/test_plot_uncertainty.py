"""tools/plot_uncertainty.py as a user types it."""

import json

import numpy as np
import pytest
from PIL import Image

from fastreid_uda.cli import plot_uncertainty


@pytest.fixture
def run(capsys):
    """The tool in this process: exit code, output, errors."""

    def call(*arguments):
        code = plot_uncertainty.main(list(map(str, arguments)))
        return code, *capsys.readouterr()

    return call


ROUND = {
    "labels/global": np.array([0, 0, -1, 1, -1]),
    "clusters/global": np.array([0, 0, 0, 1, -1]),
    "uncertainty": np.array([0.1, 0.3, 2.0, 0.2, np.nan], np.float32),
}
IDENTITIES = {"identities": np.array([4, 4, 5, 6, 4])}


def test_plot__figure_and_line(run, tmp_path):
    np.savez(tmp_path / "labels.npz", **ROUND, **IDENTITIES)
    code, line, errors = run(tmp_path / "labels.npz", "--out", tmp_path / "new" / "figure.png")
    assert code == 0, errors
    assert json.loads(line) == {
        "uncertainty/auc": 1.0, "uncertainty/mean": pytest.approx(0.65),
        "uncertainty/right": pytest.approx(0.2), "uncertainty/wrong": pytest.approx(2.0),
    }  # fmt: skip
    pixels = np.array(Image.open(tmp_path / "new" / "figure.png").convert("RGB"))
    assert pixels.shape == (400, 600, 3) and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10


def test_plot__identities_of_another_file_and_other_formats(run, tmp_path):
    np.savez(tmp_path / "labels.npz", **ROUND)
    np.savez(tmp_path / "features.npz", **IDENTITIES)
    for name in ("figure.pdf", "figure.svg", "figure"):
        code, _, errors = run(
            tmp_path / "labels.npz", "--identities", tmp_path / "features.npz",
            "--out", tmp_path / name,
        )  # fmt: skip
        assert code == 0, errors
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize(
    "arrays,name,sentence",
    [
        (ROUND, "f.png", "'identities' is missing; give --identities"),
        ({"labels/global": np.arange(3)} | IDENTITIES, "f.png", "'uncertainty' is missing"),
        ({"uncertainty": np.ones(5)} | IDENTITIES, "f.png", "'clusters/global' is missing"),
        (ROUND | {"identities": np.arange(4)}, "f.png", "'identities' and 'uncertainty' differ"),
        (ROUND | IDENTITIES, "f.xyz", "f.xyz cannot be drawn"),
    ],
)
def test_bad_input__one_sentence_and_code_2(run, tmp_path, arrays, name, sentence):
    np.savez(tmp_path / "labels.npz", **arrays)
    code, _, errors = run(tmp_path / "labels.npz", "--out", tmp_path / name)
    assert code == 2 and sentence in errors and len(errors.strip().splitlines()) == 1
    assert not (tmp_path / name).exists()
