"""Short ways to read one policy, and to say what it should come to."""

from __future__ import annotations

import textwrap

from acns.policy import selectors
from acns.policy.manifests import Parsed, parse
from acns.policy.objects import Policy, Rule, SelectedEndpoints, Spec
from acns.policy.profiles import Profile
from acns.policy.selectors import Operator, Requirement, Selector

CNP = """apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: shop}
spec:
  endpointSelector: {}
"""
CCNP = CNP.replace("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy").replace(", namespace: shop", "")
NP = """apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec:
  podSelector: {}
"""


def read(body: str, head: str = CNP, profile: Profile = Profile.CILIUM) -> Parsed:
    """`body`: what stands in `spec`."""
    return parse(head + textwrap.indent(textwrap.dedent(body).strip(), "  ") + "\n", "p.yaml", profile)


def policy(body: str, head: str = CNP, profile: Profile = Profile.CILIUM) -> Policy:
    """Of a policy without errors."""
    parsed = read(body, head, profile)
    assert parsed.ok, "\n".join(map(str, parsed.problems))
    (found,) = parsed.objects
    assert isinstance(found, Policy)
    return found


def spec(body: str, head: str = CNP) -> Spec:
    (found,) = policy(body, head).specs
    return found


def rule(body: str, head: str = CNP) -> Rule:
    (found,) = spec(body, head).rules
    return found


def codes(body: str, head: str = CNP) -> list[str]:
    """The codes of all warnings of a policy without errors."""
    return [problem.code for problem in policy(body, head).problems]


def errors(body: str, head: str = CNP) -> list[str]:
    return [problem.message for problem in read(body, head).problems if not problem.warning]


def labelled(*labels: str, namespace: str = "") -> SelectedEndpoints:
    """Pods with labels such as `any:app=web`, or `!any:app`; in `namespace`."""
    written = Selector.of(_requirement(label) for label in labels)
    return SelectedEndpoints(written.within(namespace) if namespace else written)


def _requirement(text: str) -> Requirement:
    key, equals, value = text.partition("=")
    if equals:
        return Requirement(selectors.parse_key(key), Operator.IN, (value,))
    operator = Operator.DOES_NOT_EXIST if text.startswith("!") else Operator.EXISTS
    return Requirement(selectors.parse_key(text.lstrip("!")), operator)
