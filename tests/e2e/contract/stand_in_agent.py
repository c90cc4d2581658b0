"""A stand-in for Cilium's agent, as an external program: redirects, serves FQDNData on TCP, opens addresses.

One pod may ask one server for the names given and go where they lead, by rules of the stand-in's own. It
leaves request_id empty, sends the pods' server as a prefix, and answers a mapping once the kernel has it. It
knows nothing of this project.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterator
from concurrent import futures

import grpc
import plain_wire as wire

ENDPOINT, IDENTITY, SERVERS = 1234, 48_211, 31_007

RULES = """
table inet stand_in {{
  set learned {{ type ipv4_addr; flags timeout; }}
  chain raw_in {{ type filter hook prerouting priority raw; policy accept;
    ip saddr {pod} ip daddr {server} meta l4proto {{ tcp, udp }} th dport 53 notrack meta mark set 0x200
  }}
  chain proxy {{ type filter hook prerouting priority mangle; policy accept;
    meta mark 0x200 meta nfproto ipv4 meta l4proto {{ tcp, udp }} tproxy ip to 127.0.0.1:{port} accept
    meta mark 0x200 drop
  }}
  chain raw_out {{ type filter hook output priority raw; policy accept;
    meta mark & 0xf00 == 0xb00 ip daddr {pod} notrack
  }}
  chain forward {{ type filter hook forward priority 0; policy accept;
    ip saddr {pod} ct state established accept
    ip saddr {pod} ip daddr != @learned drop
  }}
}}
"""


class Agent(grpc.GenericRpcHandler):
    """Serves one snapshot, and what is told it."""

    def __init__(self, snapshot: bytes) -> None:
        self._snapshot = snapshot

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method == wire.STREAM:
            return grpc.stream_stream_rpc_method_handler(self._stream)
        if details.method == wire.UPDATE:
            return grpc.unary_unary_rpc_method_handler(self._update)
        return None

    def _stream(self, acks: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        yield self._snapshot
        for ack in acks:
            print(f"acknowledged: {wire.read_acknowledgement(ack)}", flush=True)

    def _update(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        report = wire.Report.decoded(message)
        print(f"mapping: {report}", flush=True)
        for address in report.record_ip:
            element = f"{{ {address.decode()} timeout {report.ttl + 60}s }}"
            subprocess.run(["nft", "add", "element", "inet", "stand_in", "learned", element], check=True)
        return wire.response(wire.NO_ERROR)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True, help="host:port of FQDNData")
    parser.add_argument("--dns-port", type=int, required=True)
    parser.add_argument("--pod", required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--name", action="append", required=True)
    options = parser.parse_args()
    rules = RULES.format(pod=options.pod, server=options.server, port=options.dns_port)
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    subprocess.run(["ip", "rule", "add", "fwmark", "0x200/0xf00", "lookup", "2004", "pref", "9"], check=True)
    subprocess.run(["ip", "route", "add", "local", "default", "dev", "lo", "table", "2004"], check=True)
    servers = tuple((SERVERS, 53, protocol) for protocol in (wire.UDP, wire.TCP))
    snapshot = wire.Snapshot(
        rules=(wire.Rule(ENDPOINT, tuple(options.name), servers),),
        endpoints={IDENTITY: {ENDPOINT: [wire.raw(options.pod)]}},
        prefixes={SERVERS: [wire.prefix(f"{options.server}/32")]},
        request_id="",
    )
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Agent(snapshot.encoded()),))
    server.add_insecure_port(options.listen)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
