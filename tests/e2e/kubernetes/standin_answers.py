"""The words of the stand-in API server: lists, events, refusals, each in the form that was recorded."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from .standin_state import Served, Value, key_of

RECORDED = Path(__file__).parents[2] / "data" / "kind"


def page(served: Served, version: int, left: list[Value], limit: int) -> Value:
    """Items of built-in kinds leave out what the list says already; custom ones say it again."""
    shown = left[:limit] if limit else left
    metadata: Value = {"resourceVersion": str(version)}
    if len(shown) < len(left):
        token = json.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": key_of(shown[-1])})
        metadata |= {
            "continue": base64.urlsafe_b64encode(token.encode()).decode().rstrip("="),
            "remainingItemCount": len(left) - len(shown),
        }
    elif served.custom:
        metadata["continue"] = ""
    items = [with_kind(served, each) if served.custom else without_kind(each) for each in shown]
    return {
        "kind": f"{served.kind}List",
        "apiVersion": served.api_version,
        "metadata": metadata,
        "items": items,
    }


def with_kind(served: Served, value: Value) -> Value:
    return {"kind": served.kind, "apiVersion": served.api_version, **value}


def without_kind(value: Value) -> Value:
    return {name: each for name, each in value.items() if name not in ("kind", "apiVersion")}


def bookmark(served: Served, version: int) -> Value:
    bare: Value = {"metadata": {"resourceVersion": str(version)}}
    if served.plural == "pods":
        bare |= {"spec": {"containers": None}, "status": {}}
    return with_kind(served, bare)


def group_of(served: Served) -> str:
    return served.api_version.rpartition("/")[0]


def forbidden(served: Served, verb: str) -> Value:
    group = group_of(served)
    full = f"{served.plural}.{group}" if group else served.plural
    user = "system:serviceaccount:default:norights"
    text = (
        f'{full} is forbidden: User "{user}" cannot {verb} resource "{served.plural}" '
        f'in API group "{group}" at the cluster scope'
    )
    details = ({"group": group} if group else {}) | {"kind": served.plural}
    return {**status_of(403, "Forbidden", text), "details": details}


def absent(served: Served, name: str) -> Value:
    group = group_of(served)
    full = f"{served.plural}.{group}" if group else served.plural
    details = {"name": name, "kind": served.plural} | ({"group": group} if group else {})
    return {**status_of(404, "NotFound", f'{full} "{name}" not found'), "details": details}


def status_of(code: int, reason: str, message: str) -> Value:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


async def send_event(answer: web.StreamResponse, type: str, value: Value) -> None:
    """One event, one line, one chunk."""
    await answer.write(json.dumps({"type": type, "object": value}, separators=(",", ":")).encode() + b"\n")


def json_answer(value: Value, status: int = 200) -> web.Response:
    return web.Response(
        body=json.dumps(value, separators=(",", ":")),
        status=status,
        headers={"Content-Type": "application/json"},
    )


def recorded(name: str, status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    body = (RECORDED / "api" / name).read_bytes()
    return web.Response(
        body=body, status=status, headers={"Content-Type": "application/json", **(headers or {})}
    )
