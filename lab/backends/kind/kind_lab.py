"""A lab on a kind cluster: brought up, looked at, used, taken down.

Each step of `up` makes what is not there and leaves what is, so a lab that was left half-made is gone on
with; a cluster that could not be made is removed. Nothing is remembered of a step: what is there says it.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import yaml

from acns import located, scalars
from lab.backends.kind import cluster, looking, machine, objects, own_dns, recorders, tools
from lab.backends.kind.cluster import KindNode
from lab.backends.kind.objects import AGENTS, AGENTS_IMAGE, PODS_IMAGE
from lab.backends.kind.store import Store
from lab.backends.kind.tools import Done, Tools
from lab.errors import EnvironmentFault, InputError, LabNotFound, ProcessFailed
from lab.runtime.progress import Progress, silent
from lab.spec import expect
from lab.spec.expect import PolicyExpectation, Row
from lab.spec.plan import Addressing
from lab.spec.status import Status
from lab.spec.topology import AGENTS as AGENT_NAMES
from lab.spec.topology import Topology
from lab.world import certs, dns, manifests

REPOSITORY: Final = Path(__file__).parents[3]
CREATE_S, BUILD_S, ROLLOUT_S = 600.0, 1800.0, 240
NETWORK: Final = "kind"
_TRIES, _RETRY_S = 30, 1.0
_IMMUTABLE: Final = "pod updates may not change fields"
_NO_ACCOUNT: Final = re.compile(r"serviceaccount .* not found", re.IGNORECASE)
_POLICIES: Final = (
    "ciliumnetworkpolicies.cilium.io",
    "ciliumclusterwidenetworkpolicies.cilium.io",
    "networkpolicies.networking.k8s.io",
)


class KindLab:
    """One lab, by its folder."""

    def __init__(self, store: Store, topology: Topology) -> None:
        self.store = store
        self.topology = topology
        self.addressing = Addressing.of(topology)
        self.tools = Tools(store.kubeconfig)
        self.internet = f"{store.name}-internet"

    @classmethod
    def attach(cls, store: Store) -> KindLab:
        """The one that is there."""
        return cls(store, store.topology())

    @property
    def name(self) -> str:
        return self.store.name

    # --- up and down ------------------------------------------------------------------------------------

    def up(self, progress: Progress = silent, *, nodes: int | None = None, version: str = "") -> None:
        """Bring it up, or go on with it."""
        objects.refuse_unsupported(self.topology)
        placed = cluster.placing(self.topology, self.name, nodes)
        machine.check(nodes or len(placed), version)
        with self.store.locked():
            there = self._there()
            count = nodes or self._count(len(placed), there)
            self.store.save(self.topology, count)
            self._cluster(count, there, version, progress)
            self._images(progress)
            self._network(progress)
            recorders.start(self, progress)
            self._agents(progress)
            self._objects(placed, progress)

    def down(self, progress: Progress = silent) -> bool:
        """End it, whatever state it is in; False where nothing was there."""
        with self.store.locked():
            there = self.store.exists()
            progress(f"deleting cluster {self.name}")
            recorders.end(self.name)
            self.tools.kind(
                "delete", "cluster", "--name", self.name, "--kubeconfig", str(self.store.kubeconfig)
            )
            self._remove_internet()
            self.store.remove()
        return there

    def _there(self) -> set[str]:
        """The nodes that the cluster has. Raises InputError where it is somebody else's: a lab's folder is
        made before its cluster."""
        found = self.tools.kind("get", "nodes", "--name", self.name).out.split()
        if found and not self.store.exists():
            raise InputError(
                f"there is a kind cluster {self.name} that no lab has made", hint="give the lab a --name"
            )
        return set(found)

    def _count(self, needed: int, there: set[str]) -> int:
        """How many nodes, where nobody says: as many as the topology needs; a cluster that has more keeps
        them, and of one that is there in part it is known how many were wanted."""
        return max(needed, len(there), self.store.nodes()) if there else needed

    def _cluster(self, count: int, there: set[str], version: str, progress: Progress) -> None:
        if there and there != set(cluster.node_names(self.name, count)):
            self._remove_cluster("has other nodes", progress)
        elif there and self._is_whole(there, progress):
            for node in self.tools.get("nodes") if version else ():
                machine.refuse_other_version(version, node["status"]["nodeInfo"]["kubeletVersion"])
            return
        progress(f"making cluster {self.name}: {count} node{'s' if count > 1 else ''}")
        config = self.store.path / "kind.yaml"
        config.write_text(cluster.config_text(count))
        image = ("--image", machine.image(version)) if version else ()
        where = ("--config", str(config), *image, "--kubeconfig", str(self.store.kubeconfig))
        try:
            self.tools.kind("create", "cluster", "--name", self.name, *where, timeout_s=CREATE_S)
        except BaseException:  # also one who loses patience leaves no half of it
            progress(f"cluster {self.name} could not be made: what there is of it is removed")
            tools.run(["kind", "delete", "cluster", "--name", self.name])
            raise

    def _is_whole(self, wanted: set[str], progress: Progress) -> bool:
        """Whether the cluster that is there was made to its end; another is removed."""
        export = ("export", "kubeconfig", "--name", self.name)
        try:
            self.tools.kind(*export, "--kubeconfig", str(self.store.kubeconfig))
        except ProcessFailed:
            self._remove_cluster("was not made to its end", progress)
            return False
        if missing := self._missing(wanted):
            self._remove_cluster(f"has never had {', '.join(sorted(missing))} join it", progress)
            return False
        progress(f"cluster {self.name} is there")
        return True

    def _missing(self, wanted: set[str]) -> set[str]:
        """Nodes whose container is there and that the API server does not know, after a while: `kind create`
        was killed before they joined."""
        missing = wanted
        for _ in range(_TRIES):
            missing = wanted - {one["metadata"]["name"] for one in self.tools.get("nodes")}
            if not missing:
                break
            time.sleep(_RETRY_S)
        return missing

    def _remove_cluster(self, why: str, progress: Progress) -> None:
        progress(f"cluster {self.name} {why}: it is made anew")
        self.tools.kind("delete", "cluster", "--name", self.name)

    def _images(self, progress: Progress) -> None:
        dockerfile = REPOSITORY / "deploy" / "Dockerfile"
        if not dockerfile.exists():
            raise EnvironmentFault(
                f"{dockerfile} is not there",
                hint="a lab on kind builds its image: work in a clone of the repository",
            )
        for image, target in ((AGENTS_IMAGE, "agents"), (PODS_IMAGE, "lab")):
            progress(f"building {image}")
            what = ("--file", str(dockerfile), "--target", target, "--tag", image)
            self.tools.docker(
                "build", "--quiet", *what, *machine.build_arguments(), str(REPOSITORY), timeout_s=BUILD_S
            )
            progress(f"loading {image} into the nodes")
            self.tools.kind("load", "docker-image", image, "--name", self.name, timeout_s=CREATE_S)

    def _network(self, progress: Progress) -> None:
        """The Internet, and the way to it and between nodes; then nodes become ready."""
        progress("starting the Internet and the nodes' network")
        self._write_internet_files()
        self._remove_internet()
        label, files = f"{objects.LABEL}={self.name}", f"{self._served}:/lab:ro"
        rights = ("--user", "0", "--cap-add", "NET_ADMIN", "--restart", "unless-stopped")
        script = objects.internet_script(self.topology, self.addressing)
        self.tools.docker(
            *("run", "--detach", "--name", self.internet, "--label", label, "--network", NETWORK),
            *(*rights, "--volume", files, PODS_IMAGE, "sh", "-c", script),
        )
        found = json.loads(self.tools.docker("inspect", self.internet).out)
        gateway = IPv4Address(found[0]["NetworkSettings"]["Networks"][NETWORK]["IPAddress"])
        nodes = self._placed_nodes()
        for node in nodes:
            script = cluster.network_script(node, nodes, gateway, self.addressing.internet)
            self.on_node(node.name, script)
            write = f"mkdir -p /etc/cni/net.d && cat > {cluster.CNI_FILE}"
            self.tools.docker(
                "exec", "--interactive", node.name, "sh", "-c", write, text=cluster.cni_text(node)
            )
        self.tools.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=120s", timeout_s=150)

    def _placed_nodes(self) -> list[KindNode]:
        """All nodes, once each is there and has its range of pods' addresses."""
        wanted, lacking = set(cluster.node_names(self.name, self.store.nodes())), set[str]()
        for _ in range(_TRIES):
            items = self.tools.get("nodes")
            nodes = cluster.nodes_of(items)
            known = wanted | {item["metadata"]["name"] for item in items}
            if not (lacking := known - {node.name for node in nodes}):
                return nodes
            time.sleep(_RETRY_S)
        raise EnvironmentFault(
            f"no range of pod addresses for {', '.join(sorted(lacking))}", hint="kubectl get nodes -o yaml"
        )

    def _agents(self, progress: Progress) -> None:
        progress("applying the agents")
        folder = REPOSITORY / "deploy" / "overlays" / "kind"
        kustomized = self.tools.kubectl("kustomize", str(folder)).out
        made = list(yaml.load_all(kustomized, Loader=located.Loader))
        for one in made:
            if one["kind"] == "DaemonSet":
                agent = one["metadata"]["name"].removeprefix("acns-")
                container = one["spec"]["template"]["spec"]["containers"][0]
                container["command"] += objects.overrides(self.topology, agent)
                template = one["spec"]["template"]["metadata"]
                template["annotations"] = {f"{objects.LABEL}-image": self._image_id(AGENTS_IMAGE)}
        self._apply(yaml.dump_all(made, Dumper=scalars.Dumper, sort_keys=False))
        for agent in AGENT_NAMES:
            progress(f"waiting for the {agent} on every node")
            which = ("rollout", "status", f"ds/acns-{agent}", f"--timeout={ROLLOUT_S}s")
            try:
                self.tools.kubectl("-n", AGENTS, *which, timeout_s=ROLLOUT_S + 30)
            except ProcessFailed:
                self._tell_why(agent, progress)
                raise

    def _image_id(self, image: str) -> str:
        """With another image under the same name there are to be other pods."""
        return self.tools.docker("image", "inspect", "--format", "{{.Id}}", image).out.strip()

    def _tell_why(self, agent: str, progress: Progress) -> None:
        """What the agents' pods are doing, and what they said last."""
        for more in (
            ("get", "pods", "-o", "wide"),
            ("logs", "-l", f"app.kubernetes.io/name=acns-{agent}", "--prefix", "--tail=20"),
        ):
            done = tools.run(self.tools.kubectl_argv("-n", AGENTS, *more))
            progress(f"{done.out}{done.err}".rstrip())

    def _objects(self, placed: Mapping[str, str], progress: Progress) -> None:
        progress("applying DNS, pods, Services and policies")
        dns = self._dns()
        made = certs.files(self.store.path)
        authority, certificate = made.ca.read_text(), made.server.read_text()
        image = self._image_id(PODS_IMAGE)
        pods = objects.manifests_text(self.topology, placed, authority, certificate, image)
        self._prune()
        self._apply_pods(pods)
        self.tools.kubectl(
            *("-n", "kube-system", "rollout", "status", f"deploy/{dns}", f"--timeout={ROLLOUT_S}s"),
            timeout_s=ROLLOUT_S + 30,
        )
        for namespace in sorted({pod.namespace for pod in objects.pods(self.topology)}):
            progress(f"waiting for the pods of {namespace}")
            which = ("-l", f"{objects.LABEL}={self.topology.name}", "--timeout=120s")
            self.tools.kubectl(
                *("-n", namespace, "wait", "--for=condition=Ready", "pod", *which), timeout_s=150
            )
        for file, policy in manifests.policy_files(self.topology).items():
            text = objects.served_policy(policy, file)
            done = tools.run(self.tools.kubectl_argv("apply", "-f", "-"), text=text)
            if not done.ok and not self._is_expected(file):
                raise InputError(f"{file}: the cluster refuses it: {_last_line(done)}")
        progress("waiting for the policies to be in force")
        self._settle()

    def _dns(self) -> str:
        """The cluster's, with the lab's Internet behind it; where there is none, one of ours. The name of
        what is being rolled out."""
        which = ("deploy", "coredns", "--ignore-not-found", "-o", "name")
        if not self.tools.kubectl("-n", "kube-system", "get", *which).out.strip():
            self._apply(own_dns.text(self.topology, self._image_id(PODS_IMAGE)))
            return own_dns.NAME
        self._apply(objects.coredns_text(self.topology.internet.dns))
        self.tools.kubectl("-n", "kube-system", "rollout", "restart", "deploy/coredns")
        return "coredns"

    def _settle(self) -> None:
        """Until every shim knows its pods and every policy is judged; what never comes the status shows."""
        for _ in range(_TRIES):
            if looking.is_settled(self):
                return
            time.sleep(_RETRY_S)

    def _is_expected(self, file: str) -> bool:
        statements = map(expect.parse_any, self.topology.expect)
        return any(isinstance(one, PolicyExpectation) and one.file == file for one in statements)

    def _apply(self, text: str) -> None:
        self.tools.kubectl("apply", "-f", "-", text=text)

    def _apply_pods(self, text: str) -> None:
        """A new namespace has no ServiceAccount for a moment; a pod's changed parts take another pod."""
        argv = self.tools.kubectl_argv("apply", "-f", "-")
        for attempt in range(_TRIES):
            done = tools.run(argv, text=text)
            if done.ok:
                return
            if _IMMUTABLE in done.err:
                which = ("-l", objects.LABEL, "--wait=true")  # it may be another topology's
                self.tools.kubectl("delete", "pod", "-A", *which, timeout_s=ROLLOUT_S)
            elif not (_NO_ACCOUNT.search(done.err) and attempt + 1 < _TRIES):
                raise tools.failure(argv, done)
            time.sleep(_RETRY_S)
        raise tools.failure(argv, done)

    def _prune(self) -> None:
        """What an earlier topology had: its pods and Services, and all policies that are not this one's."""
        wanted = self._policies()
        mine = {(pod.namespace, pod.name) for pod in objects.pods(self.topology)}
        for one in self.tools.get("pods", "-A", "-l", objects.LABEL):
            place = one["metadata"]["namespace"], one["metadata"]["name"]
            if place not in mine:
                self.tools.kubectl("-n", place[0], "delete", "pod", place[1])
        kept = {(one.namespace, one.name, str(one.cluster_ip)) for one in self.topology.services}
        for one in self.tools.get("services", "-A", "-l", objects.LABEL):
            namespace, name = one["metadata"]["namespace"], one["metadata"]["name"]
            if (namespace, name, one["spec"]["clusterIP"]) not in kept:  # which cannot be changed in place
                self.tools.kubectl("-n", namespace, "delete", "service", name)
        for kind in _POLICIES:
            for one in self.tools.get(kind, "-A"):
                key = _, namespace, name = manifests.place(one)
                if key not in wanted:
                    where = ("-n", namespace) if namespace else ()
                    self.tools.kubectl(*where, "delete", kind, name)

    def _policies(self) -> set[manifests.Place]:
        """Raises InputError for a file that cannot be read, unless it is there to be refused."""
        wanted = set[manifests.Place]()
        for file, text in manifests.policy_files(self.topology).items():
            if not self._is_expected(file):
                located.load(text, file)
            wanted |= manifests.places(text)
        return wanted

    def _write_internet_files(self) -> None:
        """Only what it serves: hostile pods talk to it, and the cluster's and the CA's keys lie beside."""
        certs.ensure(self.store.path, certs.certified_names(self.topology))
        internet, served = self.topology.internet, self._served
        served.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(self.store.path / "server.pem", served)
        (served / "names.json").write_text(dns.records_text(internet.names))
        for server in internet.servers:
            if server.names is not None:
                (served / f"dns-{server.name}.json").write_text(dns.records_text(server.names))

    @property
    def _served(self) -> Path:
        return self.store.path / "internet"

    def _remove_internet(self) -> None:
        tools.run(["docker", "rm", "--force", self.internet])

    def on_node(self, node: str, script: str) -> Done:
        """Run by a shell there."""
        return self.tools.docker("exec", "--interactive", node, "sh", text=script)

    # --- looking ----------------------------------------------------------------------------------------

    def status(self) -> Status:
        """Everything at a glance."""
        return looking.status(self)

    def check(self) -> tuple[list[Row], list[str]]:
        """The truth table; and the statements that are not tried here, each with its reason."""
        return looking.check(self)

    # --- using ------------------------------------------------------------------------------------------

    def exec_argv(self, where: str, argv: Sequence[str], *flags: str) -> list[str]:
        """The command line that runs this in a pod, on a node, or in the Internet. Raises LabNotFound."""
        interactive = ["--interactive"] if "--stdin" in flags else []
        tty = ["--tty"] if "--tty" in flags else []
        placed = cluster.placing(self.topology, self.name, None)
        if where == "internet":
            return ["docker", "exec", *interactive, *tty, self.internet, *argv]
        if where in placed or where in cluster.node_names(self.name, self.store.nodes()):
            return ["docker", "exec", *interactive, *tty, placed.get(where, where), *argv]
        namespace, name = self.pod(where)
        return self.tools.kubectl_argv("-n", namespace, "exec", *flags, name, "--", *argv)

    def place(self, pod: str) -> tuple[str, str]:
        """A pod's node and address. Raises LabNotFound."""
        namespace, name = self.pod(pod)
        items = self.tools.get("pods", "-n", namespace)
        found = next((one for one in items if one["metadata"]["name"] == name), None)
        if found is None or not found["status"].get("podIP"):
            raise LabNotFound(f"pod {namespace}/{name} does not run", hint="invoke lab.status shows why")
        return found["spec"]["nodeName"], found["status"]["podIP"]

    def logs_argv(self, process: str, *, follow: bool) -> list[str]:
        """The command line that shows a log: `NODE/shim`, `NODE/resolver`, `internet`, a pod."""
        flags = ["--follow"] if follow else []
        if process.partition("/")[0] == "internet":
            return ["docker", "logs", *flags, self.internet]
        node, slash, agent = process.partition("/")
        placed = cluster.placing(self.topology, self.name, None)
        if slash and agent in AGENT_NAMES:
            agents = self.tools.get("pods", "-n", AGENTS)
            pod = looking.agent_pod(agents, agent, placed.get(node, node))
            if pod is None:
                raise LabNotFound(f"there is no {agent} on {node}", hint="invoke lab.status shows them")
            return self.tools.kubectl_argv("-n", AGENTS, "logs", *flags, pod["metadata"]["name"])
        namespace, name = self.pod(process)
        return self.tools.kubectl_argv("-n", namespace, "logs", *flags, name)

    def pod(self, where: str) -> tuple[str, str]:
        """Namespace and name of a pod of the lab's. Raises LabNotFound."""
        pods = [
            (pod.namespace, pod.name)
            for pod in objects.pods(self.topology)
            if where in (pod.name, f"{pod.namespace}/{pod.name}")
        ]
        if len(pods) != 1:
            names = ", ".join(f"{pod.namespace}/{pod.name}" for pod in objects.pods(self.topology))
            raise LabNotFound(f"there is no pod {where} in lab {self.name}", hint=f"there are: {names}")
        return pods[0]


def _last_line(done: Done) -> str:
    return next((line for line in reversed(done.err.splitlines()) if line.strip()), "it says nothing")
