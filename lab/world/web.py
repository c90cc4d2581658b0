"""The lab's web server: `python -m lab.world.web`."""

from __future__ import annotations

from lab.world.certs import Certificates


def command(*, http_port: int, https_port: int, certificates: Certificates, ready_fd: int | None = None) -> list[str]:
    """argv without the interpreter: `[*python, *web.command(…)]`. Writes one byte to `ready_fd` when it listens."""
    raise NotImplementedError
