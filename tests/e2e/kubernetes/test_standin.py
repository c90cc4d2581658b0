"""The stand-in API server against what a real one said: the same requests, the same answers."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .standin_answers import RECORDED
from .standin_apiserver import StandInAPIServer

LISTS = (
    "namespaces", "nodes", "services", "endpointslices", "networkpolicies", "ciliumnetworkpolicies",
    "ciliumclusterwidenetworkpolicies",
)  # fmt: skip


def recorded(name: str) -> Any:
    return json.loads((RECORDED / "api" / name).read_text())


def index(folder: str) -> dict[str, list[str]]:
    lines = (RECORDED / folder / "INDEX.tsv").read_text().splitlines()[1:]
    return {line.split("\t")[0]: line.split("\t")[1:] for line in lines}


@pytest.fixture
def server() -> Iterator[StandInAPIServer]:
    with StandInAPIServer() as made:
        made.change(bookmark_s=0.2)
        yield made


def ask(server: StandInAPIServer, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    where = urllib.parse.urlsplit(server.url)
    connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=20)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def lines(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.splitlines()]


def path_of(request: str) -> str:
    return request.removeprefix("GET ")


# --- lists --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LISTS, "pods-label-client", "namespace-absent-list"])
def test_a_list_is_the_recorded_one(server: StandInAPIServer, name: str) -> None:
    wanted = recorded(f"{name}.json")
    server.load(wanted)
    status, headers, body = ask(server, path_of(index("api")[f"{name}.json"][0]))
    assert (status, headers["Content-Type"]) == (200, "application/json")
    found = json.loads(body)
    assert found["items"] == wanted["items"]
    assert {key: found[key] for key in ("kind", "apiVersion")} == {
        key: wanted[key] for key in ("kind", "apiVersion")
    }
    # Custom resources say `continue` always, built-in ones where there is more.
    assert found["metadata"].keys() == wanted["metadata"].keys()
    assert int(found["metadata"]["resourceVersion"]) == max(1000, int(wanted["metadata"]["resourceVersion"]))


def test_pages_are_the_recorded_ones(server: StandInAPIServer) -> None:
    pages = [recorded(f"pods-page{number}.json") for number in range(1, 6)]
    for page in pages:
        server.load(page)
    rest = ""
    for page in pages:
        suffix = f"&continue={rest}" if rest else ""
        found = json.loads(ask(server, f"/api/v1/namespaces/kube-system/pods?limit=2{suffix}")[2])
        rest = found["metadata"].pop("continue", "")
        assert bool(rest) == bool(page["metadata"].pop("continue", ""))
        assert found == page


def test_the_limit_is_ignored_with_resource_version_0(server: StandInAPIServer) -> None:
    for number in range(1, 6):
        server.load(recorded(f"pods-page{number}.json"))
    found = json.loads(ask(server, "/api/v1/pods?limit=2&resourceVersion=0")[2])
    assert len(found["items"]) == 9
    assert "continue" not in found["metadata"]


# --- errors -------------------------------------------------------------------------------------------------


def refuse(server: StandInAPIServer, name: str) -> str:
    """Bring the server to where it answers like that; returns the path to ask for."""
    path = path_of(index("api")[name][0])
    match name.split(".")[0]:
        case "401-bad-token":
            server.change(token="another")
        case "403-list":
            server.change(forbidden={("list", "pods")})
        case "403-watch":
            server.change(forbidden={("watch", "pods")})
        case "403-cnp":
            server.change(forbidden={("list", "ciliumnetworkpolicies")})
        case "429-list":
            server.change(busy=1)
        case "crd-absent-404":
            server.unserve("CiliumNetworkPolicy")
        case "continue-expired-410":
            for number in range(1, 6):
                server.load(recorded(f"pods-page{number}.json"))
            first = json.loads(ask(server, "/api/v1/namespaces/kube-system/pods?limit=2")[2])
            server.expire_history()
            path = path.partition("continue=")[0] + "continue=" + first["metadata"]["continue"]
    return path


@pytest.mark.parametrize(
    "name",
    [
        "401-bad-token.json", "403-list.json", "403-watch.json", "403-cnp.json", "429-list.txt",
        "bad-continue-400.json", "continue-expired-410.json", "crd-absent-404.txt", "pod-absent-404.json",
        "list-rv-too-large-504.json",
    ],
)  # fmt: skip
def test_an_error_is_the_recorded_one(server: StandInAPIServer, name: str) -> None:
    _, status_line, content_type, retry_after = index("api")[name]
    status, headers, body = ask(server, refuse(server, name))
    assert status == int(status_line.split()[1])
    assert headers["Content-Type"] == content_type
    assert headers.get("Retry-After", "-") == retry_after
    if name.endswith(".txt"):
        assert body == (RECORDED / "api" / name).read_bytes()
    else:
        assert json.loads(body) == recorded(name)


def test_discovery_names_what_is_served(server: StandInAPIServer) -> None:
    def names() -> set[str]:
        found = json.loads(ask(server, "/apis/cilium.io/v2")[2])
        assert {key: found[key] for key in ("kind", "apiVersion", "groupVersion")} == {
            key: recorded("api-resources-cilium.json")[key] for key in ("kind", "apiVersion", "groupVersion")
        }
        return {each["name"] for each in found["resources"]}

    wanted = {each["name"] for each in recorded("api-resources-cilium.json")["resources"]}
    assert {name for name in wanted if "/" not in name} <= names()
    server.unserve("CiliumNetworkPolicy")
    assert "ciliumnetworkpolicies" not in names()


# --- watches ------------------------------------------------------------------------------------------------


def replay(server: StandInAPIServer, name: str) -> list[dict[str, Any]]:
    """The recorded changes happen to the server again; returns the recorded stream."""
    events = lines((RECORDED / "watch" / f"{name}.ndjson").read_bytes())
    known: set[str] = set()
    for event in events:
        value = event["object"]
        if event["type"] == "BOOKMARK":
            continue
        name_, version = value["metadata"]["name"], int(value["metadata"]["resourceVersion"])
        if event["type"] == "MODIFIED" and name_ not in known:
            # It was there before the recording began.
            server.load(
                {"kind": f"{value['kind']}List", "metadata": {"resourceVersion": "0"}, "items": [value]}
            )
        known.add(name_)
        if event["type"] == "DELETED":
            server.remove(value["kind"], value["metadata"]["namespace"], name_, version)
        else:
            server.put(value, version)
    return events


@pytest.mark.parametrize("name", ["pods-lifecycle", "cnp-lifecycle"])
def test_a_watch_tells_what_the_recorded_one_told(server: StandInAPIServer, name: str) -> None:
    wanted = replay(server, name)
    path = path_of(index("watch")[name][0]).partition("&timeoutSeconds")[0] + "&timeoutSeconds=1"
    status, headers, body = ask(server, path)
    assert (status, headers["Content-Type"], headers["Transfer-Encoding"]) == (
        200, "application/json", "chunked",
    )  # fmt: skip
    found = lines(body)
    changes = [event for event in found if event["type"] != "BOOKMARK"]
    told = [event for event in wanted if event["type"] != "BOOKMARK"]
    assert [event["type"] for event in changes] == [event["type"] for event in told]
    for mine, theirs in zip(changes, told, strict=True):
        assert _without_generation(mine) == _without_generation(theirs)
    marks = [event["object"] for event in found if event["type"] == "BOOKMARK"]
    theirs = next(event["object"] for event in wanted if event["type"] == "BOOKMARK")
    assert marks
    assert marks[0].keys() == theirs.keys()
    assert marks[0]["metadata"].keys() <= {*theirs["metadata"].keys(), "resourceVersion"}


def _without_generation(event: dict[str, Any]) -> dict[str, Any]:
    value = event["object"]
    metadata = {name: each for name, each in value["metadata"].items() if name != "generation"}
    return {"type": event["type"], "object": {**value, "metadata": metadata}}


def test_chunks_and_relabelling_are_as_recorded(server: StandInAPIServer) -> None:
    """Relabelled away from a selector, an object is deleted to it, as it last was; back, it is added."""
    raw = (RECORDED / "watch" / "raw-http-chunked.http").read_bytes().partition(b"\r\n\r\n")[2]
    wanted = [json.loads(chunk) for chunk in _chunks(raw)]
    replay(server, "pods-lifecycle")
    where = urllib.parse.urlsplit(server.url)
    path = (
        "/api/v1/namespaces/shop/pods?watch=1&resourceVersion=977&labelSelector=app%3Dlife&timeoutSeconds=1"
    )
    found = [json.loads(chunk) for chunk in _chunks(_raw(str(where.hostname), int(where.port or 0), path))]
    assert found == [event for event in wanted if event["type"] != "BOOKMARK"]


def _raw(host: str, port: int, path: str) -> bytes:
    with socket.create_connection((host, port), timeout=20) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(1 << 16), b"")).partition(b"\r\n\r\n")[2]


def _chunks(body: bytes) -> Iterator[bytes]:
    """Each of them must be a whole line."""
    while body:
        size, _, rest = body.partition(b"\r\n")
        chunk, body = rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        if chunk:
            assert (chunk.count(b"\n"), chunk[-1:]) == (1, b"\n")
            yield chunk


def test_a_version_whose_history_is_gone_is_told_so_in_the_stream(server: StandInAPIServer) -> None:
    server.change(bookmark_s=0.1)
    server.expire_history()
    path = path_of(index("watch")["cnp-rv1-410"][0])
    status, _, body = ask(server, path)
    wanted = lines((RECORDED / "watch" / "cnp-rv1-410.ndjson").read_bytes())
    found = lines(body)
    assert status == 200
    for event in (*wanted, *found):
        assert event["object"].pop("message").startswith("too old resource version: 1 (")
    assert found == wanted


def test_a_quiet_watch_gets_bookmarks_and_one_from_the_future_nothing(server: StandInAPIServer) -> None:
    asked = (
        "/api/v1/namespaces/default/pods?watch=1&timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion="
    )
    theirs = lines((RECORDED / "watch" / "pods-timeout-3s-bookmarks.ndjson").read_bytes())
    marks = lines(ask(server, f"{asked}1000")[2])
    assert marks
    for mark in (*theirs, *marks):
        mark["object"]["metadata"].pop("resourceVersion")
    assert marks[0] == theirs[0]
    assert ask(server, f"{asked}99999999")[2] == b""


def test_what_is_away_takes_no_connection_and_comes_back(server: StandInAPIServer, tmp_path: Path) -> None:
    server.go_away()
    with pytest.raises(OSError, match="refused"):
        ask(server, "/apis")
    server.come_back()
    assert ask(server, "/apis")[0] == 200
