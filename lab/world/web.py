"""The lab's web server: `python -m lab.world.web`.

HTTP and HTTPS on every address of its namespace, IPv4 and IPv6. It answers with what it was asked for and
where, one `key: value` a line, so that a client can tell which server it reached by which name:

    host: api.example.com
    sni: api.example.com
    server: 198.51.100.10:443
    client: 172.18.0.2:40112

`/download?bytes=N&rate=BYTES_PER_S` streams N bytes at that rate (as fast as it goes without one), for
connections that must outlive something. The TLS handshake runs in the connection's own thread: a client
that dawdles blocks nobody. A replaced certificate is used from the next connection on.
"""

from __future__ import annotations

import argparse
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from socketserver import BaseServer, TCPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from lab.world.ready import say_ready

if TYPE_CHECKING:
    from lab.world.certs import Certificates

IDLE_TIMEOUT_S = 300
CHUNK_BYTES = 16_384
STEPS_PER_S = 20
"""How often a paced download sends."""


def command(
    *, http_port: int, https_port: int, certificates: Certificates, ready_fd: int | None = None
) -> list[str]:
    """argv without the interpreter: `[*python, *web.command(…)]`.

    Writes one byte to `ready_fd` when it listens.
    """
    ready = [] if ready_fd is None else ["--ready-fd", str(ready_fd)]
    ports = ["--http-port", str(http_port), "--https-port", str(https_port)]
    return ["-m", "lab.world.web", *ports, "--certificate", str(certificates.server), *ready]


class Handler(BaseHTTPRequestHandler):
    """One connection, in a thread of its own."""

    protocol_version = "HTTP/1.1"
    server_version = "lab-web"
    timeout = IDLE_TIMEOUT_S

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.settimeout(IDLE_TIMEOUT_S)
            self.request.do_handshake()
        super().setup()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/download":
            self._download(parse_qs(url.query))
        else:
            self._describe()

    def _describe(self) -> None:
        lines = [f"host: {_without_port(self.headers.get('Host', '-'))}"]
        if isinstance(self.connection, ssl.SSLSocket):
            lines.append(f"sni: {getattr(self.connection, 'asked_name', None) or '-'}")
        lines += [
            f"server: {_endpoint(self.connection.getsockname())}",
            f"client: {_endpoint(self.connection.getpeername())}",
        ]
        body = ("\n".join(lines) + "\n").encode()
        self._headers(len(body))
        self.wfile.write(body)

    def _download(self, query: dict[str, list[str]]) -> None:
        try:
            size_bytes, rate = (int(query.get(key, ["0"])[0]) for key in ("bytes", "rate"))
        except ValueError:
            self.send_error(HTTPStatus.BAD_REQUEST, "bytes and rate are whole numbers")
            return
        self._headers(size_bytes)
        step = max(1, rate // STEPS_PER_S) if rate > 0 else CHUNK_BYTES
        started, sent = time.monotonic(), 0
        while sent < size_bytes:
            self.wfile.write(b"." * min(step, size_bytes - sent))
            sent += step
            if rate > 0:
                time.sleep(max(0.0, started + sent / rate - time.monotonic()))

    def _headers(self, size_bytes: int) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(size_bytes))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        peer, here = _endpoint(self.client_address), _endpoint(self.connection.getsockname())
        print(
            f"{peer} -> {here} {self.headers.get('Host', '-')} {format % args}", file=sys.stderr, flush=True
        )


class Server(ThreadingHTTPServer):
    """Dual-stack HTTP server; with a certificate file, HTTPS."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, certificate: Path | None) -> None:
        self.address_family = socket.AF_INET6 if _has_ipv6() else socket.AF_INET
        self._certificate = certificate
        self._context: ssl.SSLContext | None = None
        self._loaded_mtime_ns = 0
        super().__init__(("::" if self.address_family == socket.AF_INET6 else "", port), Handler)

    def server_bind(self) -> None:
        # HTTPServer's own asks the DNS for this host's name; nothing here needs it.
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "lab", self.server_address[1]

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, client = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._certificate is None:
            return connection, client
        context = self._current_context(self._certificate)
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), client

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or does not trust the lab, is not this server's error."""
        print(f"{_endpoint(client_address)}: {sys.exc_info()[1]!r}", file=sys.stderr, flush=True)

    def _current_context(self, certificate: Path) -> ssl.SSLContext:
        mtime_ns = certificate.stat().st_mtime_ns
        if self._context is None or mtime_ns != self._loaded_mtime_ns:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            context.sni_callback = _remember_name
            self._context, self._loaded_mtime_ns = context, mtime_ns
        return self._context


def _remember_name(connection: Any, name: str | None, context: ssl.SSLContext) -> None:
    connection.asked_name = name


def _has_ipv6() -> bool:
    """Whether this namespace can bind IPv6 (ipv6.disable=1 takes the family away)."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _endpoint(address: Any) -> str:
    """`1.2.3.4:80` or `[2001:db8::1]:80`; an IPv4 client of an IPv6 socket is shown as what it is."""
    ip, port = ip_address(address[0].partition("%")[0]), address[1]
    if isinstance(ip, IPv6Address):
        return f"{ip.ipv4_mapped}:{port}" if ip.ipv4_mapped else f"[{ip}]:{port}"
    return f"{ip}:{port}"


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host


def serve(http_port: int, https_port: int, certificate: Path) -> list[BaseServer]:
    """Both servers, listening and running in threads of their own."""
    servers: list[BaseServer] = [Server(http_port, None), Server(https_port, certificate)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    return servers


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="lab.world.web", description="The lab's HTTP and HTTPS server.")
    parser.add_argument("--http-port", type=int, default=80)
    parser.add_argument("--https-port", type=int, default=443)
    parser.add_argument(
        "--certificate", type=Path, required=True, help="PEM: private key and chain; re-read on change"
    )
    parser.add_argument("--ready-fd", type=int, help="descriptor that gets a byte when the server listens")
    arguments = parser.parse_args(argv)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    serve(arguments.http_port, arguments.https_port, arguments.certificate)
    say_ready(arguments.ready_fd)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    return 0


if __name__ == "__main__":
    sys.exit(main())
