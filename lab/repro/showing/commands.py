"""What `invoke repro.show` does."""

from __future__ import annotations

import json as json_module
import shutil
from pathlib import Path
from typing import Final

from lab.errors import InputError
from lab.report import output as files
from lab.repro.showing import building, opening, page, text, timeline
from lab.runtime.explaining import FORMAT_VERSION, remark

_HTML: Final = (".html", ".htm")


def show(path: str, *, output: str = "", as_json: bool = False) -> int:
    """The timeline of a capture or a bundle: as text, as JSON, or as a page. Raises InputError."""
    if output and as_json:
        raise InputError("a page or JSON, not both", hint="leave out --output or --json")
    if output and not output.endswith(_HTML):
        raise InputError(
            f"{output}: what is written is a page", hint="--output NAME.html; text is printed without"
        )
    evidence, journal = opening.evidence_of(Path(path))
    found = building.timeline(evidence, Path(path).name, journal)
    if output:
        _write(found, Path(output).absolute())
    elif as_json:
        print(json_module.dumps(timeline.value(found, FORMAT_VERSION)))
    else:
        for line in text.lines(found, shutil.get_terminal_size().columns):
            print(line)
    return 0


def _write(found: timeline.Timeline, path: Path) -> None:
    with files.new_file(path) as file:
        file.write(page.page(found).encode("utf-8", "replace"))
    remark(f"{path}: {found.about}")
