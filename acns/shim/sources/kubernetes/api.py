"""The connection to the API server: lightkube's knowledge of credentials, and requests as bytes.

lightkube reads kubeconfigs and the pod's ServiceAccount, verifies the server and, like kubectl, reads the
token's file again when it is refused: the kubelet replaces it every hour. Its own lists and watches are not
used: they hide bookmarks, pages and ends of streams, which is what an agent has to go by (ADR 19).
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import AsyncGenerator, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

import httpx2 as httpx
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError

from acns.errors import InputError
from acns.shim.preflight import ClusterFacts
from acns.shim.sources.kubernetes import failures, wire
from acns.shim.sources.kubernetes.failures import Asked, Failed, Trouble
from acns.shim.sources.kubernetes.resources import NODES, PODS, Resource

PAGE_ITEMS: Final = 500
"""As kubectl asks for; a page of pods is some megabytes."""

_ANSWER_S, _CONNECT_S = 60.0, 10.0
_SOME: Final = 20
_SERVICE_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
USER_AGENT: Final = "acns-shim"


def configuration(kubeconfig: str, context: str) -> SingleConfig:
    """Where the API server is and who we are. Raises InputError."""
    try:
        if kubeconfig:
            return _chosen(KubeConfig.from_file(kubeconfig), context)
        return _chosen(KubeConfig.from_service_account(_SERVICE_ACCOUNT), "")
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"kubeconfig {kubeconfig}" if kubeconfig else f"the ServiceAccount in {_SERVICE_ACCOUNT}"
        raise InputError(
            f"{what} cannot be used: {error}",
            hint="see `kubeconfig`; empty, it means the ServiceAccount of the pod that this runs in",
        ) from error


def _chosen(config: KubeConfig, context: str) -> SingleConfig:
    found = config.get(context or None)
    if found is None or found.user is None:
        raise ConfigError("no context with a user")
    return found


class API:
    """Requests to one API server. Failures are `Failed`."""

    def __init__(self, config: SingleConfig, silence_s: float) -> None:
        try:
            self._client = AsyncClient(config, ConnectionParams(timeout=httpx.Timeout(_ANSWER_S)))
        except (OSError, ssl.SSLError, ConfigError, ValueError) as error:
            raise InputError(f"credentials for {config.cluster.server} cannot be used: {error}") from error
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # it has a line for each request
        self._client.headers["User-Agent"] = USER_AGENT
        self._quick = httpx.Timeout(_ANSWER_S, connect=_CONNECT_S)
        self._watching = httpx.Timeout(_CONNECT_S, read=silence_s)
        self.server = str(config.cluster.server)

    async def close(self) -> None:
        await self._client.aclose()

    async def page(self, resource: Resource, rest: str = "") -> wire.Page:
        """The first page of the newest list, or the one that `rest` stands for.

        Without a resourceVersion: "0" could be answered from a cache that lags behind what an earlier run has
        enforced, and policy would go back in time.
        """
        query = {"limit": str(PAGE_ITEMS)} | ({"continue": rest} if rest else {})
        asked = Asked("list", resource)
        body = await self._answer(asked, "GET", resource.path, query)
        with _well_formed(asked):
            return wire.read_page(body)

    async def watch(self, resource: Resource, version: str, timeout_s: int) -> AsyncGenerator[bytes, None]:
        """The lines of a watch from `version` on, and first, once the server has agreed, an empty one."""
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(timeout_s),
        }
        asked, lines = Asked("watch", resource), wire.Lines()
        with _named(asked):
            async with self._client.stream(
                "GET", resource.path, params=query, timeout=self._watching
            ) as answer:
                if answer.status_code != 200:
                    raise _refused(asked, answer, await answer.aread())
                if not answer.headers.get("Content-Type", "").startswith("application/json"):
                    raise Failed(Trouble.MALFORMED, f"{asked}: not an answer of an API server: no JSON")
                yield b""
                async for part in answer.aiter_bytes():
                    with _well_formed(asked):
                        for line in lines.feed(part):
                            yield line

    async def is_served(self, resource: Resource) -> bool:
        """Whether the server says that it has this resource: a 404 may come from whatever stands in front."""
        asked = Asked("get", resource)
        groups = wire.read_object(await self._answer(asked, "GET", "/apis", {})).get("groups") or []
        versions = [each.get("groupVersion") for group in groups for each in group.get("versions") or []]
        if resource.api_version not in versions:
            return False
        found = wire.read_object(await self._answer(asked, "GET", resource.base, {}))
        return any(each.get("name") == resource.plural for each in found.get("resources") or [])

    async def cluster_facts(self, node: str) -> ClusterFacts:
        """The server's version, the ranges of that node's pods, and addresses of some of them."""
        pod_addresses = await self._pod_addresses(node)
        asked = Asked("list", NODES)
        with _well_formed(asked):
            version = wire.read_object(await self._answer(asked, "GET", "/version", {}))
            query = {"fieldSelector": f"metadata.name={node}"}
            nodes = wire.read_object(await self._answer(asked, "GET", NODES.path, query))
            cidrs = tuple(cidr for one in nodes.get("items") or [] for cidr in _pod_cidrs(one))
        return ClusterFacts(str(version.get("gitVersion", "")), cidrs, pod_addresses)

    async def _pod_addresses(self, node: str) -> tuple[IPv4Address | IPv6Address, ...]:
        """Of the first of that node's pods, page by page, of which any has an address of its own."""
        asked, query = Asked("list", PODS), {"fieldSelector": f"spec.nodeName={node}", "limit": str(_SOME)}
        while True:
            body = await self._answer(asked, "GET", PODS.path, query)
            with _well_formed(asked):
                page = wire.read_page(body)
                found = tuple(one for item in page.items for one in _own_addresses(wire.read_object(item)))
            if found or not page.rest:
                return found
            query["continue"] = page.rest

    async def patch_status(self, resource: Resource, key: wire.Key, patch: Mapping[str, Any]) -> None:
        """Merge `patch` into an object's status subresource."""
        path = resource.path_of(*key, "status")
        asked = Asked("patch", resource, "status")
        await self._answer(asked, "PATCH", path, {}, patch, "application/merge-patch+json")

    async def create(self, resource: Resource, namespace: str, value: Mapping[str, Any]) -> None:
        asked = Asked("create", resource)
        await self._answer(asked, "POST", resource.path_of(namespace), {}, value, "application/json")

    async def _answer(
        self,
        asked: Asked,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        content_type: str = "",
    ) -> bytes:
        headers = {"Content-Type": content_type} if content_type else {}
        content = wire.write(body) if body is not None else None
        with _named(asked):
            answer = await self._client.request(
                method, path, params=query, content=content, headers=headers, timeout=self._quick
            )
        if not 200 <= answer.status_code < 300:
            raise _refused(asked, answer, answer.content)
        return answer.content


def _pod_cidrs(node: Mapping[str, Any]) -> Iterator[IPv4Network | IPv6Network]:
    """A node's ranges. Raises Malformed."""
    for text in (node.get("spec") or {}).get("podCIDRs") or []:
        try:
            yield ip_network(text)
        except ValueError as error:
            raise wire.Malformed(f"podCIDRs of a node: {error}") from error


def _own_addresses(pod: Mapping[str, Any]) -> Iterator[IPv4Address | IPv6Address]:
    """A pod's, where they are not its node's. Many may write a pod's status: what cannot be read says
    nothing."""
    if (pod.get("spec") or {}).get("hostNetwork"):
        return
    for each in (pod.get("status") or {}).get("podIPs") or []:
        with contextlib.suppress(ValueError):
            yield ip_address(str(each.get("ip")))


def _refused(asked: Asked, answer: httpx.Response, body: bytes) -> Failed:
    return failures.refusal(asked, answer.status_code, body, answer.headers.get("Retry-After", ""))


@contextlib.contextmanager
def _well_formed(asked: Asked) -> Iterator[None]:
    try:
        yield
    except wire.Malformed as error:
        raise Failed(Trouble.MALFORMED, f"{asked}: not an answer of an API server: {error}") from error


@contextlib.contextmanager
def _named(asked: Asked) -> Iterator[None]:
    """What the client raises, in our words."""
    try:
        yield
    except httpx.ReadTimeout as error:
        raise Failed(Trouble.SILENT, f"{asked}: the API server says nothing any more") from error
    except httpx.HTTPError as error:
        said = str(error) or type(error).__name__
        raise Failed(Trouble.UNREACHABLE, f"{asked}: no answer from the API server: {said}") from error
    except ConfigError as error:
        raise Failed(Trouble.UNAUTHORIZED, f"{asked}: no credentials: {error}") from error
