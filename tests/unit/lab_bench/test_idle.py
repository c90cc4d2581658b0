"""Keeping idle CPUs awake: asked for as long as the block runs, and never half."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from lab.bench import idle
from lab.errors import EnvironmentFault

_KERNEL = Path("/dev/cpu_dma_latency")


def requested(path: Path) -> int:
    return int(struct.unpack("=i", path.read_bytes())[0])


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    path = tmp_path / "current_driver"
    path.write_text("haltpoll\n")
    return path


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    path = tmp_path / "cpu_dma_latency"
    path.write_bytes(struct.pack("=i", 2_000_000_000))
    return path


def test_the_kernel_is_asked_and_released_again(driver: Path) -> None:
    if not _KERNEL.exists():
        pytest.skip("this kernel has no PM QoS device")
    before = requested(_KERNEL)
    with idle.kept_awake(driver=driver):
        assert requested(_KERNEL) == 0
        assert idle.are_kept_awake(driver=driver)
    assert requested(_KERNEL) == before


def test_nothing_is_asked_where_it_is_not_wanted(driver: Path, requests: Path) -> None:
    before = requested(requests)
    with idle.kept_awake(False, requests=requests, driver=driver):
        assert requested(requests) == before
        assert not idle.are_kept_awake(requests, driver)


@pytest.mark.parametrize("name", ["none", ""])
def test_a_kernel_that_would_not_heed_it_is_told(name: str, driver: Path, requests: Path) -> None:
    driver.write_text(f"{name}\n")
    with pytest.raises(EnvironmentFault, match="no cpuidle driver"), idle.kept_awake(driver=driver):
        pytest.fail("measured all the same")
    requests.write_bytes(struct.pack("=i", 0))
    assert not idle.are_kept_awake(requests, driver)


def test_a_missing_device_is_told_by_name(tmp_path: Path, driver: Path) -> None:
    missing = tmp_path / "no_device"
    with (
        pytest.raises(EnvironmentFault, match=r"no_device: No such file"),
        idle.kept_awake(requests=missing, driver=driver),
    ):
        pytest.fail("measured all the same")
    assert not idle.are_kept_awake(missing, driver)
