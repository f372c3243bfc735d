import os

import pytest

from fastreid_uda import memory
from fastreid_uda.errors import UserError
from fastreid_uda.memory import free_memory, peak_rss_mb, require_memory


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Writes files of a made-up /proc and /sys/fs/cgroup; 8 GB are available."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path / "cgroup")
    write("proc/meminfo", "MemTotal: 9765625 kB\nMemAvailable: 7812500 kB\n")
    return write


def test_peak_rss_mb__is_that_of_this_process():
    if os.path.exists("/proc/self/status"):
        assert 5 < peak_rss_mb() < 100_000


def test_free_memory__without_proc(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_PROC", tmp_path / "nothing")
    assert free_memory() is None and peak_rss_mb() is None
    require_memory("Anything", 10**15, "use less")  # nothing is known, nothing is refused


def test_free_memory__without_groups(system):
    assert free_memory() == 8_000_000_000


def test_free_memory__in_a_job_of_version_2(system):
    system("proc/self/cgroup", "0::/jobs/17\n")
    system("cgroup/jobs/memory.max", "max\n")
    system("cgroup/jobs/memory.current", "7000000000\n")
    system("cgroup/jobs/17/memory.max", "3000000000\n")
    system("cgroup/jobs/17/memory.current", "2500000000\n")
    system("cgroup/jobs/17/memory.stat", "anon 1\ninactive_file 400000000\n")
    assert free_memory() == 900_000_000  # the file cache of the job can be had


def test_free_memory__in_a_container_of_version_1(system):
    # Docker without name spaces: the path is that of the host and does not exist inside.
    system("proc/self/cgroup", "5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n")
    system("cgroup/memory/memory.limit_in_bytes", "2000000000\n")
    system("cgroup/memory/memory.usage_in_bytes", "500000000\n")
    assert free_memory() == 1_500_000_000


def test_free_memory__of_a_group_that_has_used_it_up(system):
    system("proc/self/cgroup", "0::/\n")
    system("cgroup/memory.max", "1000\n")
    system("cgroup/memory.current", "4000\n")
    assert free_memory() == 0


def test_require_memory__refuses_in_one_sentence(system):
    with pytest.raises(UserError) as error:
        require_memory("Sorting 7 images", 12_340_000_000, "lower UDA.A or set UDA.B to c")
    assert str(error.value) == (
        "Sorting 7 images needs about 12.3 GB of memory, but only 8.0 GB of it is free; "
        "lower UDA.A or set UDA.B to c."
    )


def test_require_memory__announces_what_is_worth_it(system, caplog):
    caplog.set_level("INFO")
    require_memory("Sorting", 50_000_000, "sort less")
    require_memory("Counting", 1_500_000_000, "count less")
    assert caplog.messages == ["Counting needs about 1.5 GB of memory; 8.0 GB of it is free."]
    system("proc/meminfo", "MemAvailable: 100000 kB\n")  # little is much where little is free
    require_memory("Sorting", 50_000_000, "sort less")
    assert caplog.messages[1:] == ["Sorting needs about 50 MB of memory; 102 MB of it is free."]
