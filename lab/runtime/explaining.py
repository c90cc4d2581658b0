"""What all commands share: where they say what, and how errors end them.

Progress and remarks go to stderr, results to stdout, so that `--json` can be piped. Errors become a
message with a hint and the exit code of their class; a traceback only with --debug or ACNS_DEBUG=1. A
reader that has seen enough (`| head -1`) is no error, and none to report.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from lab.errors import AcnsError, Bug

FORMAT_VERSION = 1
_PROGRAMS = ("acns-lab", "invoke", "inv")
_COMMAND = re.compile(r"\binvoke (?=(?:lab|policy|bench)\.)")


def remark(text: str) -> None:
    """Say something on stderr; that nobody listens there is no reason to stop."""
    try:
        print(as_typed(text), file=sys.stderr, flush=True)
    except BrokenPipeError:
        _send_nowhere(sys.stderr)


def program() -> str:
    """How the command was started: `acns-lab`, or invoke, by its path if that is how; who is told of another
    command has to start it the same way."""
    started = Path(sys.argv[0])
    by_path = started.name in _PROGRAMS and shutil.which(started.name) != str(started)
    return sys.argv[0] if by_path else "acns-lab" if started.name == "acns-lab" else "invoke"


def as_typed(text: str) -> str:
    """With the commands in it as this reader types them."""
    started = program()
    return text if started == "invoke" else _COMMAND.sub(lambda _: f"{started} ", text)


@contextlib.contextmanager
def explained_errors() -> Iterator[None]:
    """Ends the program with the error's exit code, its message and hint on stderr."""
    try:
        try:
            yield
        finally:
            # Now, not at the interpreter's end, where a failure can only be printed.
            sys.stdout.flush()
    except BrokenPipeError:
        _send_nowhere(sys.stdout)
        raise SystemExit(128 + signal.SIGPIPE) from None
    except AcnsError as error:
        if os.environ.get("ACNS_DEBUG", "0") not in ("", "0") or "--debug" in sys.argv:
            raise
        remark(f"error: {error}")
        raise SystemExit(error.exit_code) from None
    except Exception as error:  # noqa: BLE001 - an exit code of 1 would say that a check failed
        traceback.print_exc()
        remark(f"error: this is a bug of the lab's: {type(error).__name__}: {error}")
        raise SystemExit(Bug.exit_code) from None
    except KeyboardInterrupt:
        remark("interrupted")
        raise SystemExit(130) from None


def _send_nowhere(stream: TextIO) -> None:
    """Let what is still buffered, and all to come, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
