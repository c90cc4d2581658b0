"""What all this costs here."""

from __future__ import annotations

import sys

from invoke.context import Context
from invoke.tasks import task


@task(
    name="policy",
    help={
        "json": "print JSON, with the quantiles of all samples",
        "quick": "a small cluster and few repetitions",
        "only": "parts: load, increments, mappings, memory, datapath, curve (with commas between)",
        "seed": "of the generated cluster",
        "awake": "idle CPUs poll instead of sleeping",
    },
)
def bench_policy(
    context: Context,
    json: bool = False,
    quick: bool = False,
    only: str = "",
    seed: int = 1,
    awake: bool = False,
) -> None:
    """What enforcing a large cluster's policies costs here: time, memory, packets."""
    from lab.bench import idle, policy
    from lab.runtime import commands

    with commands.explained_errors(), idle.kept_awake(awake):
        sys.exit(policy.run(as_json=json, quick=quick, only=only, seed=seed))


@task(
    name="dns",
    help={
        "json": "print JSON",
        "quick": "fewer and shorter rounds",
        "only": "parts, commas between: known, fresh, slow, fast, new, denied, tcp, pods, overload, memory",
        "seed": "of the order in which contenders take turns",
        "awake": "idle CPUs poll instead of sleeping",
    },
)
def bench_dns(
    context: Context,
    json: bool = False,
    quick: bool = False,
    only: str = "",
    seed: int = 1,
    awake: bool = False,
) -> None:
    """What the resolver costs here, beside no proxy, dnsdist, and dnsmasq with nftset."""
    from lab.bench import dns, idle
    from lab.runtime import commands

    with commands.explained_errors(), idle.kept_awake(awake):
        sys.exit(dns.run(as_json=json, quick=quick, only=only, seed=seed))


@task(
    name="lab",
    help={
        "json": "print JSON",
        "quick": "fewer rounds",
        "only": "parts, with commas between: network, life, list",
    },
)
def bench_lab(context: Context, json: bool = False, quick: bool = False, only: str = "") -> None:
    """What building a lab costs here, beside Mininet and the kernel's own limit."""
    from lab.bench import lab_up
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(lab_up.run(as_json=json, quick=quick, only=only))


@task(
    name="capture",
    help={
        "json": "print JSON",
        "packets": "how many (default 100000)",
        "only": "a part of a contender's name",
    },
)
def bench_capture(context: Context, json: bool = False, packets: int = 100_000, only: str = "") -> None:
    """What a capture costs to read, show and import here, beside tshark and scapy."""
    from lab.bench import capture
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(capture.run(as_json=json, packets=packets, only=only))


@task(
    name="kubernetes",
    help={
        "json": "print JSON",
        "quick": "a small cluster, ten seconds",
        "pods": "another number of pods (default 20000)",
    },
)
def bench_kubernetes(context: Context, json: bool = False, quick: bool = False, pods: int = 0) -> None:
    """What following a large cluster's API server costs the shim of one node."""
    from lab.bench import kubernetes
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(kubernetes.run(as_json=json, quick=quick, pods=pods))
