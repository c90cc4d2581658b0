"""Two pods behind one resolver, told apart by address, so that one can flood and the other be looked at.

They share the namespace. The kernel's limit is as in the ruleset, by its very rules, but so low that a flood
is past it on any machine.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures

from acns.api import fqdndata_pb2 as pb
from acns.datapath import base

from .resolver_world import DNS_IDENTITY, POD, SERVER, Bench, World, answer, policy, query, rcode

NOERROR, SERVFAIL, REFUSED = 0, 2, 5
OTHER_POD, OTHER_ENDPOINT, OTHER_IDENTITY = "10.244.0.6", 8, 4322
ALLOWED, DENIED, JUNK = query("www.example.com."), query("www.example.org."), b"\xff" * 40
JUNK_QUERY = b"\x12\x34\x01\x00\x00\x07" + b"\xff" * 30  # a header that can be read, and nothing behind it
QUERIES = 40

_RATE = 1_000
_SET = base.query_rates(_RATE)
KERNEL_LIMIT = f"""
table inet x {{
  set {_SET.name} {{ type {_SET.type}; flags {_SET.flags}; {_SET.options} }}
  chain x_flooded {{ counter drop; }}
  chain rates {{ {"; ".join(rule.text for rule in base.within_rate(_RATE))}; }}
}}
insert rule inet x tp ip saddr @pods meta l4proto {{ tcp, udp }} th dport 53 jump rates
"""


def add_pod(world: World) -> None:
    """The other pod, and the kernel's limit for both."""
    world.pod.run("ip", "address", "add", f"{OTHER_POD}/24", "dev", "eth0")
    world.node.run("nft", "-f", "-", text=f"add element inet x pods {{ {OTHER_POD} }}\n{KERNEL_LIMIT}")


def serve_both(bench: Bench, **changed: object) -> Bench:
    """The resolver for both pods, with these settings."""
    bench.serving("*.example.com", **changed)
    bench.agent.publish(both_pods())
    assert bench.agent.take_ack().response == pb.RESPONSE_CODE_NO_ERROR
    return bench


def both_pods() -> pb.PolicyState:
    state = policy("*.example.com", request_id="both")
    rule = state.egress_l7_dns_policy.add(source_endpoint_id=OTHER_ENDPOINT, dns_pattern=["*.example.com"])
    for protocol in (6, 17):
        rule.dns_servers.add(dns_server_identity=DNS_IDENTITY, dns_server_port=53, dns_server_proto=protocol)
    pods = state.identity_to_endpoint_mapping.add(identity=OTHER_IDENTITY)
    pods.endpoint_info.add(id=OTHER_ENDPOINT, ip=[socket.inet_aton(OTHER_POD)])
    return state


def pod_socket(bench: Bench, address: str = POD) -> socket.socket:
    return bench.keep(bench.world.pod.udp(address))


@contextlib.contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """`work`, again and again as fast as it goes, in a thread of its own; a bug in it fails the test."""
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                work()

    with futures.ThreadPoolExecutor(1) as thread:
        running = thread.submit(run)
        try:
            yield
        finally:
            ended.set()
        running.result()


@contextlib.contextmanager
def answering(bench: Bench, *addresses: str) -> Iterator[None]:
    """A DNS server that knows every name, and has these addresses for each."""
    server = bench.server_socket()
    server.settimeout(0.05)

    def one() -> None:
        packet, resolver = server.recvfrom(4096)
        server.sendto(answer(packet, *addresses), resolver)

    with beside(one):
        yield


def answered(bench: Bench, number: int, address: str = OTHER_POD) -> bool:
    """Whether a query, asked once, is answered as it should be."""
    pod = pod_socket(bench, address)
    pod.sendto(query(f"n{number}.example.com.", ident=number), (SERVER, 53))
    with contextlib.suppress(TimeoutError):
        received = pod.recv(4096)
        return (received[1], rcode(received)) == (number, NOERROR)
    return False
