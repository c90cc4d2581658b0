"""A stand-in for a Kubernetes API server: lists, watches, errors, over real HTTP(S), as one was recorded.

It is no API server: it validates nothing and knows only what agents of this project ask for. What it answers
was recorded from a real one (`tests/data/kind`); `test_standin.py` compares. It lives in a thread of its own
and can be driven from the test: objects come and go, history expires, it falls silent, it goes away.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from . import standin_answers as answers
from .standin_state import CUSTOM, Filter, Served, State, Value, key_of

PLAIN = {"Content-Type": "text/plain; charset=utf-8"}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asked."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Value | None = None

    @property
    def is_watch(self) -> bool:
        return self.query.get("watch") == "1"


@dataclass(slots=True)
class Behaviour:
    """How it misbehaves. `forbidden`: (verb, plural); `busy`: so many requests are turned away with 429;
    `plain_404`, `garbage`: plurals that something in front of the server answers for."""

    token: str = ""
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    busy: int = 0
    silent: bool = False
    plain_404: set[str] = field(default_factory=set)
    garbage: set[str] = field(default_factory=set)
    expired_continues: int = 0
    bookmark_s: float = 1.0
    version: str = "v1.36.2"
    max_watch_s: float = 3600.0


_NOTE_OCTETS = 1024
"""Of an Event: what the API server's validation counts, whatever it says."""


class StandInAPIServer:
    """Use as a context manager. `listener` may have been made in another network namespace."""

    def __init__(
        self,
        listener: socket.socket | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        token: str = "",
        reopen: Callable[[tuple[str, int]], socket.socket] = socket.create_server,
    ) -> None:
        self.state = State()
        self.behaviour = Behaviour(token)
        self.requests: list[Request] = []
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self._address = self._listener.getsockname()
        self._tls = tls
        self._reopen = reopen
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stand-in", daemon=True)
        self._news = asyncio.Event()
        self._runner: web.AppRunner | None = None

    def __enter__(self) -> StandInAPIServer:
        self._thread.start()
        self._wait(self._open())
        return self

    def __exit__(self, *error: object) -> None:
        self._wait(self._shut())
        self._wait(self._end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._listener.close()

    @property
    def url(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{self._address[0]}:{self._address[1]}"

    def kubeconfig(
        self, path: Path, *, authority: Path | None = None, token_file: Path | None = None
    ) -> Path:
        """A kubeconfig for it."""
        user = {"tokenFile": str(token_file)} if token_file else {"token": self.behaviour.token or "any"}
        cluster: Value = {"server": self.url} | (
            {"certificate-authority": str(authority)} if authority else {}
        )
        value = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path.write_text(json.dumps(value))
        return path

    # --- driving: from any thread ----------------------------------------------------------------------

    def put(self, value: Mapping[str, Any], version: int | None = None) -> None:
        """Create or replace an object (or each of a List)."""
        for each in value.get("items", [value]):
            plural = self._plural(each["kind"])
            self._drive(lambda plural=plural, each=each: self.state.put(plural, each, version=version))

    def remove(self, kind: str, namespace: str, name: str, version: int | None = None) -> None:
        plural = self._plural(kind)
        self._drive(lambda: self.state.remove(plural, (namespace, name), version=version))

    def load(self, listed: Mapping[str, Any]) -> None:
        """A recorded list: objects that were always there."""
        kind, version = listed["kind"].removesuffix("List"), int(listed["metadata"]["resourceVersion"])
        plural = self._plural(kind)
        self._drive(lambda: self.state.load(plural, listed["items"], version))

    def get(self, kind: str, namespace: str, name: str) -> Value:
        plural = self._plural(kind)
        return self._drive(lambda: self.state.of(plural)[namespace, name])

    def all_of(self, kind: str) -> list[Value]:
        plural = self._plural(kind)
        return self._drive(lambda: self.state.listed(plural))

    def expire_history(self) -> None:
        """Whoever wants to go on from before now is told 410."""

        def expire() -> None:
            self.state.current += 1
            self.state.horizon = self.state.current

        self._drive(expire)

    def set_back(self, version: int) -> None:
        """As after a restored backup: the newest version is an old one."""

        def restore() -> None:
            self.state.current = version
            self.state.history.clear()
            self.state.horizon = 0

        self._drive(restore)

    def serve(self, kind: str) -> None:
        """A CustomResourceDefinition has come."""
        one = next(one for one in CUSTOM if one.kind == kind)
        self._drive(lambda: self.state.served.update({one.plural: one}))

    def unserve(self, kind: str) -> None:
        one = next(one for one in CUSTOM if one.kind == kind)
        self._drive(lambda: self.state.served.pop(one.plural, None))

    def change(self, **behaviour: Any) -> None:
        """Other behaviour from now on."""

        def change() -> None:
            for name, value in behaviour.items():
                setattr(self.behaviour, name, value)

        self._drive(change)

    def go_away(self) -> None:
        """Every connection breaks, none is taken."""
        self._wait(self._shut())

    def come_back(self) -> None:
        self._listener = self._reopen(self._address)
        self._wait(self._open())

    def asked(self, wanted: Callable[[Request], bool]) -> list[Request]:
        return [one for one in list(self.requests) if wanted(one)]

    def _plural(self, kind: str) -> str:
        known = {one.kind: one.plural for one in (*CUSTOM, *State().served.values())}
        return known[kind]

    def _drive(self, act: Callable[[], T]) -> T:
        async def acting() -> T:
            done = act()
            self._news.set()
            self._news = asyncio.Event()
            return done

        return asyncio.run_coroutine_threadsafe(acting(), self._loop).result(10)

    def _wait(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    # --- HTTP ------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=0.01, handler_cancellation=True
        )
        await self._runner.setup()
        await web.SockSite(self._runner, self._listener, ssl_context=self._tls).start()

    async def _shut(self) -> None:
        if self._runner and self._runner.server:
            for connection in list(self._runner.server.connections):
                if connection.transport:
                    connection.transport.abort()
            await self._runner.cleanup()
        self._runner = None

    async def _end_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read() or b"null")
        asked = Request(request.method, request.path, dict(request.query), body)
        self.requests.append(asked)
        while self.behaviour.silent and not asked.is_watch:
            await asyncio.sleep(0.05)
        if self.behaviour.token and request.headers.get("Authorization") != f"Bearer {self.behaviour.token}":
            return answers.recorded("401-bad-token.json", 401)
        if self.behaviour.busy:
            self.behaviour.busy -= 1
            return answers.recorded(
                "429-list.txt", 429, {"Retry-After": "1", "Content-Type": "text/plain; charset=utf-8"}
            )
        if asked.path == "/apis":
            return answers.json_answer(self._groups())
        if asked.path == "/version":
            return answers.json_answer({"major": "1", "gitVersion": self.behaviour.version})
        return await self._about(request, asked)

    async def _about(self, request: web.Request, asked: Request) -> web.StreamResponse:
        for served in self.state.served.values():
            if asked.path == served.base:
                return answers.json_answer(self._resources(served.base))
            if (target := _target(served, asked.path)) is not None:
                return await self._resource(request, asked, served, target)
        return answers.recorded("crd-absent-404.txt", 404, PLAIN)

    async def _resource(
        self, request: web.Request, asked: Request, served: Served, target: _Target
    ) -> web.StreamResponse:
        verb = _verb(asked, target)
        if served.plural in self.behaviour.plain_404:
            return answers.recorded("crd-absent-404.txt", 404, PLAIN)
        if served.plural in self.behaviour.garbage:
            return web.Response(text="<html>welcome</html>")
        if (verb, served.plural) in self.behaviour.forbidden:
            return answers.json_answer(answers.forbidden(served, verb), 403)
        if verb == "create":
            return self._create(served, target, asked.body or {})
        if verb == "patch":
            return self._patch(served, target, asked.body or {})
        if verb == "get":
            found = self.state.of(served.plural).get((target.namespace, target.name))
            if not found:
                return answers.json_answer(answers.absent(served, target.name), 404)
            return answers.json_answer(answers.with_kind(served, found))
        wanted = Filter.of(target.namespace, asked.query)
        if verb == "watch":
            return await self._watch(request, asked, served, wanted)
        return self._list(asked, served, wanted)

    # --- lists -----------------------------------------------------------------------------------------

    def _list(self, asked: Request, served: Served, wanted: Filter) -> web.Response:
        version, start = self.state.current, ("", "")
        if token := asked.query.get("continue"):
            try:
                read = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
                version, start = read["rv"], tuple(read["start"])
            except (ValueError, KeyError):
                return answers.recorded("bad-continue-400.json", 400)
            if self.behaviour.expired_continues or version < self.state.horizon:
                self.behaviour.expired_continues = max(0, self.behaviour.expired_continues - 1)
                return answers.recorded("continue-expired-410.json", 410)
        minimum = asked.query.get("resourceVersion", "")
        if minimum and int(minimum) > self.state.current:
            return answers.recorded("list-rv-too-large-504.json", 504, {"Retry-After": "1"})
        left = [
            each for each in self.state.listed(served.plural) if wanted.takes(each) and key_of(each) > start
        ]
        return answers.json_answer(
            answers.page(served, version, left, int(asked.query.get("limit", "0")) if minimum != "0" else 0)
        )

    # --- watches ---------------------------------------------------------------------------------------

    async def _watch(
        self, request: web.Request, asked: Request, served: Served, wanted: Filter
    ) -> web.StreamResponse:
        after = int(asked.query.get("resourceVersion", "0"))
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        answer.enable_chunked_encoding()
        if self.behaviour.silent:
            await asyncio.sleep(3600)
        await answer.prepare(request)
        if after < self.state.horizon:
            text = f"too old resource version: {after} ({self.state.horizon})"
            await answers.send_event(answer, "ERROR", answers.status_of(410, "Expired", text))
            return answer
        await self._stream(answer, asked, served, wanted, after)
        return answer

    async def _stream(
        self, answer: web.StreamResponse, asked: Request, served: Served, wanted: Filter, after: int
    ) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + min(float(asked.query.get("timeoutSeconds", "1800")), self.behaviour.max_watch_s)
        marks = asked.query.get("allowWatchBookmarks") == "true"
        while (left := ends - loop.time()) > 0:
            news = self._news
            for change in list(self.state.changes(served.plural, after)) if not self.behaviour.silent else []:
                after = change.version
                if seen := wanted.seen(change):
                    await answers.send_event(answer, seen[0], answers.with_kind(served, seen[1]))
            try:
                await asyncio.wait_for(news.wait(), min(left, self.behaviour.bookmark_s))
            except TimeoutError:
                # From the future of this server nothing comes, not even bookmarks.
                if marks and not self.behaviour.silent and after <= self.state.current:
                    await answers.send_event(answer, "BOOKMARK", answers.bookmark(served, self.state.current))
            while self.behaviour.silent and loop.time() < ends + 3600:
                await asyncio.sleep(0.05)

    # --- writes ----------------------------------------------------------------------------------------

    def _create(self, served: Served, target: _Target, body: Value) -> web.Response:
        key = (target.namespace, body["metadata"]["name"])
        if key in self.state.of(served.plural):
            text = f'{served.plural}.{answers.group_of(served)} "{key[1]}" already exists'
            return answers.json_answer(answers.status_of(409, "AlreadyExists", text), 409)
        if len(body.get("note", "").encode()) > _NOTE_OCTETS:
            text = f'Event "{key[1]}" is invalid: note: Invalid value: "": can have at most 1024 characters'
            return answers.json_answer(answers.status_of(422, "Invalid", text), 422)
        self._apply(served, {**body, "metadata": {**body["metadata"], "namespace": target.namespace}})
        return answers.json_answer(answers.with_kind(served, self.state.of(served.plural)[key]), 201)

    def _patch(self, served: Served, target: _Target, body: Value) -> web.Response:
        """A merge patch of the status subresource: whatever else it says does not count."""
        key = (target.namespace, target.name)
        found = self.state.of(served.plural).get(key)
        if found is None:
            return answers.json_answer(answers.absent(served, target.name), 404)
        version = (body.get("metadata") or {}).get("resourceVersion")
        if version not in (None, found["metadata"]["resourceVersion"]):
            text = f'Operation cannot be fulfilled on {served.plural} "{target.name}": it has been modified'
            return answers.json_answer(answers.status_of(409, "Conflict", text), 409)
        self._apply(served, {**found, "status": {**(found.get("status") or {}), **body["status"]}})
        return answers.json_answer(answers.with_kind(served, self.state.of(served.plural)[key]))

    def _apply(self, served: Served, value: Value) -> None:
        self.state.put(served.plural, value)
        self._news.set()
        self._news = asyncio.Event()

    # --- discovery -------------------------------------------------------------------------------------

    def _groups(self) -> Value:
        names = sorted({one.api_version for one in self.state.served.values() if "/" in one.api_version})
        groups = [
            {"name": name.split("/")[0], "versions": [{"groupVersion": name, "version": name.split("/")[1]}]}
            for name in names
        ]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}

    def _resources(self, base: str) -> Value:
        here = [one for one in self.state.served.values() if one.base == base]
        resources = [{"name": one.plural, "kind": one.kind} for one in here]
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": here[0].api_version,
            "resources": resources,
        }


@dataclass(frozen=True, slots=True)
class _Target:
    """What a path names within a resource."""

    namespace: str = ""
    name: str = ""
    subresource: str = ""


def _target(served: Served, path: str) -> _Target | None:
    if not path.startswith(served.base + "/"):
        return None
    parts, namespace = path[len(served.base) + 1 :].split("/"), ""
    if parts[0] == "namespaces" and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    if parts[0] != served.plural:
        return None
    return _Target(namespace, *parts[1:3])


def _verb(asked: Request, target: _Target) -> str:
    if asked.method != "GET":
        return {"POST": "create", "PATCH": "patch"}[asked.method]
    if target.name:
        return "get"
    return "watch" if asked.is_watch else "list"
