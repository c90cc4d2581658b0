"""What both daemons are as commands: `--settings`, `--check`, `--help` with every setting, exit codes.

Exit code 0 after SIGTERM, SIGINT or SIGHUP; else that of the error: 2 wrong input, 3 environment, 4 our bug.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import textwrap
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from acns import ending
from acns import settings as files
from acns.errors import AcnsError, Bug
from acns.telemetry import log as logs


class CommonSettings(Protocol):
    """What every daemon's settings have."""

    @property
    def log_file(self) -> str: ...

    @property
    def log_level(self) -> str: ...


def run(
    agent: str,
    description: str,
    kind: type[Any],
    serve: Callable[..., Coroutine[Any, Any, None]],
    arguments: Sequence[str] | None = None,
    *,
    flags: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run `acns-<agent>`: `kind` is its settings dataclass, `serve` runs until it is told to stop.

    `flags`: of this agent only, name → help; `serve` gets each as a keyword.

    `serve` imports what is slow to import by itself, so that `--help` and wrong settings need not wait.
    """
    options = _parser(agent, description, kind, flags).parse_args(arguments)
    try:
        settings: CommonSettings = files.load(kind, options.settings, dict(options.set))
        if options.check:
            return 0
        logs.configure(agent, settings.log_file, settings.log_level)
    except AcnsError as error:
        print(f"acns-{agent}: {error}", file=sys.stderr)
        return error.exit_code
    return _served(agent, serve(settings, **{flag: getattr(options, flag) for flag in flags}))


def _served(agent: str, serving: Coroutine[Any, Any, None]) -> int:
    log = logs.named(f"acns.{agent}")
    try:
        asyncio.run(_told_to_end_later(serving))
    except AcnsError as error:
        log.failure("ended", error)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the last frame: said in full, with the code for our bugs
        log.failure("ended by a bug, please report", error)
        return Bug.exit_code
    return 0


async def _told_to_end_later(serving: Coroutine[Any, Any, None]) -> None:
    """What it imports and makes first is done in one piece; then it says itself what becomes of a signal."""
    ending.heard_by(lambda: None)
    await serving


def _parser(
    agent: str, description: str, kind: type[Any], flags: Mapping[str, str]
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"acns-{agent}",
        description=description,
        epilog=_settings_help(kind),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    needed = any(default is None for _, default, _ in files.describe(kind))
    parser.add_argument(
        "--settings", type=Path, required=needed, metavar="FILE.toml", help="one setting a line"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_setting,
        metavar="NAME=VALUE",
        help="one setting, over the file's: what differs from node to node",
    )
    parser.add_argument("--check", action="store_true", help="check the settings and leave")
    for flag, meaning in flags.items():
        parser.add_argument(f"--{flag}", action="store_true", help=meaning)
    return parser


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    return name, value


def _settings_help(kind: type[Any]) -> str:
    lines = ["settings (TOML, name = default):"]
    for name, default, meaning in files.describe(kind):
        lines.append(f"  {name} = {default}" if default is not None else f"  {name} (must be given)")
        lines += textwrap.wrap(meaning, 90, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)
