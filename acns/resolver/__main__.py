"""`python -m acns.resolver --settings FILE.toml`: the security resolver of one node."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from acns.errors import AcnsError
from acns.resolver import settings as resolver_settings
from acns.resolver.settings import ResolverSettings
from acns.telemetry import log as logs

log = logs.named("acns.resolver")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code (2 wrong input, 3 environment, 4 our bug)."""
    options = _parser().parse_args(arguments)
    try:
        settings = resolver_settings.load(options.settings)
        logs.configure("resolver", settings.log_file, settings.log_level)
    except AcnsError as error:
        print(f"acns-resolver: {error}", file=sys.stderr)
        return error.exit_code
    if options.check:
        return 0
    try:
        asyncio.run(_run(settings))
    except AcnsError as error:
        log.failure("ended", error)
        return error.exit_code
    except KeyboardInterrupt:
        return 0
    except Exception as error:  # noqa: BLE001  the last resort: our bug, said so
        log.failure("ended by a bug, please report", error)
        return 4
    return 0


async def _run(settings: ResolverSettings) -> None:
    from acns.resolver.service import Service  # grpc and aiohttp: not for --help

    service = Service(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.stop)
    await service.run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="acns-resolver",
        description="Security resolver: answers redirected DNS queries of pods as their policy allows.",
        epilog=_settings_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--settings", type=Path, metavar="FILE.toml", help="settings; without it all defaults apply"
    )
    parser.add_argument("--check", action="store_true", help="check the settings and leave")
    return parser


def _settings_help() -> str:
    lines = ["settings (TOML, name = default):"]
    for name, default, meaning in resolver_settings.describe():
        lines.append(f"  {name} = {default}")
        lines += textwrap.wrap(meaning, 90, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
