"""A shim starts with odd settings, or says which of them is to blame."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from acns.api.address import for_grpc
from acns.errors import EnvironmentFault
from acns.shim import daemon
from acns.shim.metrics import ShimMetrics
from acns.shim.publisher import Publisher
from acns.shim.service import FQDNDataService, Server
from acns.shim.settings import ShimSettings

WAIT_S = 30.0


@pytest.fixture(params=["a file", "below a file", "where nothing can be made"])
def no_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A path at which none can be made."""
    (tmp_path / "file").touch()
    return {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "folder",
        "where nothing can be made": Path("/proc/nothing"),
    }[request.param]


def test_a_state_folder_that_cannot_be_made_is_a_fault_of_the_environment(no_folder: Path) -> None:
    with pytest.raises(EnvironmentFault, match=f"{no_folder} cannot be made: .*") as fault:
        daemon.Daemon(ShimSettings(node="n", state_dir=str(no_folder), manifests="/m"))
    assert fault.value.hint == "see state_dir"


async def test_so_is_a_folder_for_the_socket(no_folder: Path) -> None:
    mappings: Any = None
    server = Server(FQDNDataService(Publisher(), mappings, ShimMetrics()), no_folder / "fqdndata", "")
    with pytest.raises(EnvironmentFault, match=f"{no_folder} cannot be made: .*") as fault:
        await server.start()
    assert fault.value.hint == "see fqdndata_socket"


async def test_its_socket_is_where_the_setting_says_also_where_grpc_would_read_something_else(
    tmp_path: Path,
) -> None:
    mappings: Any = None
    link = tmp_path / "d%41 ?#" / "fqdndata"
    server = Server(FQDNDataService(Publisher(), mappings, ShimMetrics()), link, "")
    await server.start()
    server.generation.switch()
    try:
        assert server.generation.own.is_socket()
        async with grpc.aio.insecure_channel(for_grpc(f"unix:{link}")) as channel:
            await asyncio.wait_for(channel.channel_ready(), WAIT_S)
    finally:
        await server.stop()
    assert list(link.parent.iterdir()) == []
