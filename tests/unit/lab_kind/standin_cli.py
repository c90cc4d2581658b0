#!/usr/bin/env python3
"""A stand-in for `docker`, `kind` and `kubectl`: says what was recorded of the real ones, by argv.

It is started under their names. `$STANDIN_DIR/scenario.json` is a list of answers, each with the words that a
command line has to have in this order; the first that fits is given. What was asked, and what came on stdin,
is in `calls.jsonl`. A command line that nothing fits is a mistake of the test's: 127.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

RECORDINGS = Path(os.environ.get("STANDIN_RECORDINGS", "."))


def main() -> int:
    folder = Path(os.environ["STANDIN_DIR"])
    argv = [Path(sys.argv[0]).name, *sys.argv[1:]]
    text = "" if sys.stdin.isatty() or not wants_stdin(argv) else sys.stdin.read()
    with open(folder / "calls.jsonl", "a") as calls:
        environment = {name: value for name, value in os.environ.items() if name.startswith("BUILDX_")}
        calls.write(json.dumps({"argv": argv, "stdin": text, "environment": environment}) + "\n")
    for answer in json.loads((folder / "scenario.json").read_text()):
        if fits(answer["words"], argv):
            return say(answer, text)
    print(f"stand-in: nothing recorded for {argv}", file=sys.stderr)
    return 127


def wants_stdin(argv: list[str]) -> bool:
    return bool({"-", "--stdin", "--interactive"} & set(argv))


def fits(words: list[str], argv: list[str]) -> bool:
    rest = iter(argv)
    return all(any(word == part for part in rest) for word in words)


def say(answer: dict[str, Any], text: str) -> int:
    if name := answer.get("recorded"):
        answer = json.loads((RECORDINGS / f"{name}.json").read_text())
    if answer.get("rows"):
        answer["stdout"] = rows(json.loads(text)["statements"])
    sys.stdout.write(answer.get("stdout", ""))
    sys.stderr.write(answer.get("stderr", ""))
    return int(answer.get("exit_code", 0))


def rows(statements: list[str]) -> str:
    """As the probe writes them: all as expected, but for what is about `wrong.example.com`."""
    found = []
    for text in statements:
        pod, verb, name, *_ = text.split()
        ok = "wrong.example.com" not in name
        actual = verb if ok else "error"
        row = {"pod": pod, "name": name, "port": None, "expected": verb, "actual": actual, "ok": ok}
        found.append({**row, "detail": "", "elapsed_ms": 1.0})
    return json.dumps({"version": 1, "rows": found})


if __name__ == "__main__":
    sys.exit(main())
