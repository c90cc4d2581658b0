"""Where the recorder listens: a file that the lab's holder writes, and the word that it has changed.

A node or a pod that comes or goes must not cost what is recorded of the others, so the recorder is told, not
started anew. It reads the file at its start, too, after it has begun to listen for that word: who writes the
file and finds nobody to tell will be read.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final

from acns.errors import AcnsError
from lab.errors import HolderGone, by_name
from lab.kernel.netns import Namespace

LISTEN: Final = "listen"
_PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class PodLink:
    """The link of a pod: a place, its name there, and a number that no other link of the lab ever has."""

    place: str
    interface: str
    number: int


def tell(control: Path, file: Path, places: Mapping[str, Namespace], pods: Mapping[str, PodLink]) -> None:
    """Let the recorder listen in these places, and in no others, from now on; returns when it does. Nothing
    happens where it does already. `pods`: the link of each, for captures that follow a pod."""
    files = {place: f"/proc/1/fd/{namespace.net}" for place, namespace in places.items()}
    # A number of a descriptor may be used again, for another namespace.
    numbers = [os.fstat(namespace.net).st_ino for namespace in places.values()]
    links = {pod: astuple(link) for pod, link in pods.items()}
    text = json.dumps({"places": files, "namespaces": numbers, "pods": links})
    if file.exists() and file.read_text() == text:
        return
    _replace(file, text)
    try:
        _announce(control)
    except AcnsError:  # nobody may believe that it is done
        _replace(file, json.dumps({"places": files, "namespaces": [], "pods": links}))
        raise


def _replace(file: Path, text: str) -> None:
    temporary = file.with_suffix(".new")
    temporary.write_text(text)
    temporary.rename(file)


def read(file: Path) -> dict[str, str]:
    """Name of each place → file of its network namespace, for processes of the lab."""
    places: dict[str, str] = json.loads(file.read_text())["places"]
    return places


def read_pods(file: Path) -> dict[str, PodLink]:
    """The link of each pod, by its key."""
    return {pod: PodLink(*link) for pod, link in json.loads(file.read_text()).get("pods", {}).items()}


def _announce(control: Path) -> None:
    """Nobody there: it reads the file when it starts."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE_S)
        try:
            connection.connect(str(control))
            connection.sendall(json.dumps({"op": LISTEN}).encode() + b"\n")
            with connection.makefile("rb") as stream:
                line = stream.readline()
        except (FileNotFoundError, ConnectionError):
            return
        except TimeoutError as error:
            raise HolderGone("the recorder does not answer", hint="invoke lab.logs lab/recorder") from error
    if not line:
        raise HolderGone("the recorder ended the talk", hint="invoke lab.logs lab/recorder")
    said: dict[str, Any] = json.loads(line)
    if failed := said.get("error"):
        raise by_name(failed["class"])(failed["message"], hint=failed["hint"])
