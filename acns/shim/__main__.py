"""`python -m acns.shim --settings FILE`: the Cilium-shim of one node."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from acns import settings as settings_files
from acns.errors import AcnsError, Bug
from acns.shim.settings import ShimSettings
from acns.telemetry import log as logs

log = logs.named(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 after SIGTERM, else that of the error (2 input, 3 environment, 4 our bug)."""
    parser = argparse.ArgumentParser(
        prog="python -m acns.shim",
        description="The Cilium-shim: compiles Kubernetes policies to nftables and serves FQDNData.",
        epilog="Settings are documented in acns/shim/settings.py. SIGTERM stops; the kernel stays as it is.",
    )
    parser.add_argument(
        "--settings", type=Path, required=True, metavar="FILE", help="TOML file, one setting a line"
    )
    options = parser.parse_args(arguments)
    try:
        settings = settings_files.load(ShimSettings, options.settings)
        logs.configure("shim", settings.log_file)
        from acns.shim.daemon import Daemon  # grpc takes a while: --help and bad settings need not wait

        asyncio.run(_run(Daemon, settings))
    except AcnsError as error:
        print(f"acns.shim: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the last frame: said in full, with the code for our bugs
        log.failure("the shim ends: our bug", error)
        return Bug.exit_code
    return 0


async def _run(daemon: type, settings: ShimSettings) -> None:
    try:
        await daemon(settings).run()
    except* AcnsError as group:
        raise group.exceptions[0] from group


if __name__ == "__main__":
    sys.exit(main())
