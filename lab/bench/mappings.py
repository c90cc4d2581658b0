"""A real shim process at scale: mappings through FQDNData, the bare set element, and its memory.

The daemon runs as on a node, fed by a folder of manifests; its peer is this process, with the same gRPC
client as the resolver's. First it learns every name of the cluster, then single addresses of names it knows
already. A mapping that changes nothing (the report of a query) shows what of that is gRPC and Python alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from ipaddress import IPv4Address
from pathlib import Path

import grpc.aio

from acns import settings as settings_files
from acns.api import fqdndata_pb2 as pb
from acns.api import fqdndata_pb2_grpc as rpc
from acns.datapath.elements import Elements
from acns.datapath.selectors import selector_id
from acns.shim.settings import ShimSettings
from lab.bench import inputs, measure
from lab.bench.cluster import Answer, BenchCluster
from lab.bench.measure import Baseline, Limit, Measure
from lab.bench.plans import Plan
from lab.bench.progress import say
from lab.bench.shim import JournalReader, StandIns, settings_of
from lab.errors import ProcessFailed

MAPPINGS, MEMORY = "mappings", "memory"
COMMITTED_AT_MOST_MS, ELEMENT_AT_MOST_MS, RESIDENT_AT_MOST_MIB = Limit(1.0), Limit(0.1), Limit(150.0)
_FRESH = int(IPv4Address("100.64.0.0"))  # RFC 6598: addresses that no name of the cluster has
_FILE_CHANGES = 5
_DEADLINE_S = 300.0


def measures(plan: Plan, folder: Path) -> Iterator[Measure]:
    """Latencies and memory, of one and the same daemon."""
    cluster = BenchCluster(plan.scale)
    StandIns().add(cluster.pod_address(index) for index in range(plan.scale.endpoints))
    settings = settings_of(folder)
    manifests = Path(settings.manifests)
    manifests.mkdir()
    for name, text in inputs.files(plan.scale).items():
        (manifests / name).write_text(text)
    with _daemon(settings, folder) as daemon:
        journal = JournalReader(Path(settings.journal_file))
        _wait_for_commit(journal, daemon)
        yield _resident(daemon, "shim, policy loaded", None)
        yield from asyncio.run(_conversation(plan, cluster, settings))
        yield _resident(daemon, f"shim, {plan.scale.addresses} addresses learned", RESIDENT_AT_MOST_MIB)
        yield _noticed(cluster, manifests, journal, daemon)
        yield _resident(daemon, "shim, in the end", None)
        # Last: to the shim this is somebody else at its table.
        yield from _elements(plan)


@contextlib.contextmanager
def _daemon(settings: ShimSettings, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m acns.shim` in this network namespace."""
    file = folder / "shim.toml"
    file.write_text(settings_files.render(asdict(settings)))
    with subprocess.Popen([sys.executable, "-m", "acns.shim", "--settings", str(file)]) as process:
        try:
            yield process
        finally:
            process.terminate()


def _wait_for_commit(journal: JournalReader, daemon: subprocess.Popen[bytes]) -> float:
    """When the next commit was made, by the daemon's clock."""
    end = time.monotonic() + _DEADLINE_S
    while time.monotonic() < end and daemon.poll() is None:
        for entry in journal.commits():
            return float(entry["ts"])
        time.sleep(0.01)
    raise ProcessFailed(f"the shim has not committed (exit code {daemon.returncode}); its log says why")


def _resident(daemon: subprocess.Popen[bytes], name: str, limit: Limit | None) -> Measure:
    """Its resident memory now, and the most it ever was."""
    lines = Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
    kib = {key: int(value.split()[0]) for key, value in (line.split(":") for line in lines if "kB" in line)}
    note = f"at most {kib['VmHWM'] / 1024:.0f} MiB so far"
    return Measure(MEMORY, name, kib["VmRSS"] / 1024, "MiB", limit, note=note)


async def _conversation(plan: Plan, cluster: BenchCluster, settings: ShimSettings) -> list[Measure]:
    """All that goes through FQDNData."""
    answers = list(cluster.answers())
    async with _peer(settings) as peer:
        say(f"{len(answers)} names are learned")
        learning = [await peer.learn_ms(one, cluster.asking_pod(one.name)) for one in answers]
        known = [answers[number * len(answers) // plan.mappings] for number in range(plan.mappings)]
        nothing = [await peer.learn_ms(Answer(one.name, ()), cluster.asking_pod(one.name)) for one in known]
        single = []
        for number, one in enumerate(known):
            answer = Answer(one.name, (IPv4Address(_FRESH + number),))
            single.append(await peer.learn_ms(answer, cluster.asking_pod(one.name)))
    baseline = Baseline("a mapping of nothing", statistics.median(nothing))
    each = statistics.mean(len(one.addresses) for one in answers)
    more = {"baseline": baseline, "limit": COMMITTED_AT_MOST_MS}
    return [
        measure.of_samples(MAPPINGS, "a mapping of nothing", nothing, "ms"),
        measure.of_samples(MAPPINGS, "one address more, committed", single, "ms", **more),
        measure.of_samples(
            MAPPINGS, "a new name, committed", learning, "ms", **more, note=f"{each:.1f} addresses each"
        ),
    ]


class _Peer:
    """A client of the contract."""

    def __init__(self, stub: rpc.FQDNDataAsyncStub) -> None:
        self._stub = stub

    async def learn_ms(self, answer: Answer, asking: IPv4Address) -> float:
        """How long the report of this answer takes to be answered."""
        request = pb.FQDNMapping(
            fqdn=f"{answer.name}.",
            record_ip=[str(address).encode() for address in answer.addresses],
            ttl=inputs.TTL_S,
            source_ip=str(asking).encode(),
        )
        started = time.perf_counter()
        reply = await self._stub.UpdateMappingRequest(request)
        took_ms = (time.perf_counter() - started) * 1e3
        if reply.response != pb.RESPONSE_CODE_NO_ERROR:
            raise ProcessFailed(f"the shim refuses {answer.name}: {pb.ResponseCode.Name(reply.response)}")
        return took_ms


@contextlib.asynccontextmanager
async def _peer(settings: ShimSettings) -> AsyncIterator[_Peer]:
    async with grpc.aio.insecure_channel(f"unix:{settings.fqdndata_socket}") as channel:
        yield _Peer(rpc.FQDNDataStub(channel))


def _elements(plan: Plan) -> Iterator[Measure]:
    """The kernel's share: one element, in a batch of its own."""
    elements = Elements()
    id_ = selector_id(inputs.MEASURED)
    samples = []
    for number in range(plan.elements):
        address = IPv4Address(_FRESH + (1 << 16) + number).packed
        started = time.perf_counter()
        elements.put({id_: {address: inputs.TTL_S}})
        samples.append((time.perf_counter() - started) * 1e3)
    elements.close()
    yield measure.of_samples(MAPPINGS, "the set element itself", samples, "ms", limit=ELEMENT_AT_MOST_MS)


def _noticed(
    cluster: BenchCluster, manifests: Path, journal: JournalReader, daemon: subprocess.Popen[bytes]
) -> Measure:
    """From a file's rename into the folder to the commit: with the folder's poll and the settling. The
    measured pod stays as it is."""
    samples: list[float] = []
    for number in range(inputs.MEASURED_POD + 1, inputs.MEASURED_POD + 1 + _FILE_CHANGES):
        list(journal.commits())
        _replace(manifests / cluster.pod_file(number), cluster.pod(number, number + 1))
        renamed_s = time.time()
        samples.append((_wait_for_commit(journal, daemon) - renamed_s) * 1e3)
    return measure.of_samples(
        MAPPINGS, "a pod's file changed, committed", samples, "ms", note="with polling and settling"
    )


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)
