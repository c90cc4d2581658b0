"""A command inside a lab that owns the terminal: `lab.exec` and `lab.shell`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lab.errors import InputError
from lab.runtime.explaining import FORMAT_VERSION
from lab.runtime.handles import Inside

_PROMPT = "PS1"

Start = Callable[..., subprocess.Popen[Any]]
"""Starts a command somewhere: takes its words, and options of subprocess.Popen."""


def execute(start: Start, argv: Sequence[str], *, as_json: bool = False) -> int:
    """Run a command with this process's stdin, stdout and stderr; its exit code, as a shell would report it.
    `as_json`: what it says on both is told as one JSON object when it has ended, with its exit code.
    """
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} if as_json else {}
    try:
        process = start(argv, **said)
    except FileNotFoundError:
        print(f"{argv[0]}: command not found", file=sys.stderr)
        return 127
    except PermissionError:
        print(f"{argv[0]}: cannot be executed", file=sys.stderr)
        return 126
    with _keyboard_left_to_the_command():
        out, err = process.communicate()
    code = _as_shells_say(process.returncode)
    if as_json:
        texts = {"stdout": out.decode(errors="replace"), "stderr": err.decode(errors="replace")}
        print(json.dumps({"version": FORMAT_VERSION, "code": code, **texts}))
    return code


def shell(inside: Inside, name: str) -> int:
    """An interactive shell that says where it is."""
    path = next((shell for shell in ("/bin/bash", "/bin/sh") if os.path.exists(shell)), None)
    if path is None:
        raise InputError("this machine has no /bin/sh")
    options = ["--norc", "--noprofile"] if path.endswith("bash") else []
    environment = {_PROMPT: rf"{name}:\w# ", "TERM": os.environ.get("TERM", "dumb")}
    process = inside.popen([path, *options, "-i"], env=environment)
    with _keyboard_left_to_the_command():
        return _as_shells_say(process.wait())


def _as_shells_say(code: int) -> int:
    """128 and the signal's number for a command that a signal ended."""
    return 128 - code if code < 0 else code


@contextlib.contextmanager
def _keyboard_left_to_the_command() -> Iterator[None]:
    """Ctrl-C and Ctrl-\\ go to the whole foreground group: the command decides, we only wait for it."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGQUIT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
