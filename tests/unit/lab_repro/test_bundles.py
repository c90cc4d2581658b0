"""Bundles may come from anybody: read by name, under bounds, and nothing is written anywhere."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from acns.errors import InputError
from lab.backends.order import Order
from lab.report.bundle import FORMAT, VERSION
from lab.repro.importing import bundles
from lab.repro.importing.given import Given
from lab.repro.reading import zipped
from lab.spec.topology import Topology
from tests.unit.lab_repro_reading.made import (
    QUERY,
    SERVICE,
    T0_S,
    answered,
    asked,
    ethernet,
    ipv4,
    paced,
    pcap,
    udp,
)

ABOUT = {"format": FORMAT, "version": VERSION}


def order() -> str:
    topology = Topology.model_validate(
        {"name": "x", "nodes": [{"name": "node1"}], "pods": [{"name": "client", "node": "node1"}]}
    )
    return json.dumps(Order(topology, {}).to_json())


def made(folder: Path, **parts: Any) -> Path:
    path = folder / "bundle.zip"
    whole = {
        "bundle.json": json.dumps(ABOUT),
        "topology.json": order(),
        "capture.pcapng": pcap(paced([asked(), answered()])),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**whole, **parts}.items():
            if data is not None:
                archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"bundle.json": None}, "the bundle has no bundle.json"),
        ({"bundle.json": "{"}, "not a bundle that can be read"),
        ({"bundle.json": "[]"}, f"no {FORMAT}"),
        ({"bundle.json": json.dumps({**ABOUT, "version": 99})}, "of version"),
        ({"topology.json": None}, "the bundle has no topology.json"),
        ({"topology.json": "[]"}, "not a bundle that can be read"),
        ({"topology.json": '{"format": 4}'}, "not a bundle that can be read"),
        ({"topology.json": " " * (17 << 20)}, "larger than 16 MiB"),
        (
            {f"policies/p{number:02}.yaml": "#" * (1 << 20) for number in range(40)},
            "larger than 32 MiB together",
        ),
        ({"capture.pcapng": None}, "the bundle has no capture.pcapng"),
        ({"capture.pcapng": b"no capture"}, "is no capture"),
        (
            {"policies/../../../evil.yaml": "x"},
            "not a bundle that can be read: 1 validation error for Policy",
        ),
    ],
    ids=str,
)
def test_what_is_no_bundle_is_refused_with_the_reason(
    tmp_path: Path, parts: dict[str, Any], said: str
) -> None:
    folder = tmp_path / "only"
    folder.mkdir()
    path = made(folder, **parts)
    with pytest.raises(InputError, match=said):
        bundles.imported(path, Given(), "x")
    assert list(tmp_path.rglob("*")) == [folder, path]


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path)
    assert bundles.imported(path, Given(), "x").steps
    data = bytearray(path.read_bytes())
    for place in range(40, len(data) - 200, 7):
        data[place] ^= 0x5A
    path.write_bytes(data)
    with pytest.raises(InputError):
        bundles.imported(path, Given(), "x")


def test_what_is_no_zip_is_no_bundle(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\xd4\xc3\xb2\xa1")
    assert not zipped.is_zip(path)


def test_a_capture_that_ends_with_somebodys_zip_is_no_bundle(tmp_path: Path) -> None:
    capture = tmp_path / "x.pcap"
    capture.write_bytes(b"\xd4\xc3\xb2\xa1" + bytes(20) + b"PK\5\6" + bytes(18))
    assert not zipped.is_zip(capture)


def test_nodes_are_kept_with_their_pods_and_their_agents_faults(tmp_path: Path) -> None:
    topology = Topology.model_validate(
        {
            "name": "x",
            "nodes": [{"name": "west"}, {"name": "east", "shim": {"min_ttl_s": 7}}],
            "pods": [
                {"name": "client", "node": "west", "address": "10.244.0.9"},
                {"name": "far", "node": "east", "address": "10.244.1.9"},
            ],
        }
    )
    frames = [
        ethernet(ipv4(pod, SERVICE, 17, udp(40_000, 53, QUERY), ident=number))
        for number, pod in enumerate(("10.244.0.9", "10.244.1.9"), 1)
    ]
    faults = [("kill resolver", "east"), ("kill shim", "west"), ("kill shim", "nowhere")]
    events = [
        json.dumps({"event": "fault.begins", "ts": T0_S + 1, "fault": f"{what} --node {where}"})
        for what, where in faults
    ]
    path = made(
        tmp_path,
        **{
            "topology.json": json.dumps(Order(topology, {}).to_json()),
            "capture.pcapng": pcap(paced(frames)),
            "events.jsonl": "\n".join(events),
        },
    )
    scenario = bundles.imported(path, Given(), "x")
    assert scenario.nodes == ("west", "east")
    assert [(pod.name, pod.node, str(pod.address)) for pod in scenario.pods] == [
        ("client", None, "10.244.0.9"),
        ("far", "east", "10.244.1.9"),
    ]
    assert [step.fault for step in scenario.steps if step.fault] == [
        "kill resolver --node east",
        "kill shim",
    ]
    assert any("settings of west's" in one for one in scenario.assumptions)
