import numpy as np
import pytest

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.cameras import require_cameras


def test_require_cameras__gives_them_back():
    cameras = np.array([4, 4, 7])
    assert require_cameras(cameras, 2, "X") is cameras


@pytest.mark.parametrize(
    ("cameras", "message"),
    [(None, "no camera ids, but X"), (np.array([4, 4]), r"1 camera\(s\), fewer than 2, but X")],
)
def test_require_cameras__says_who_needs_them(cameras, message):
    with pytest.raises(UserError, match=message):
        require_cameras(cameras, 2, "X needs them; set Y")
