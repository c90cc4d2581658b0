"""The warnings that a policy's author may silence, by code, each with one line of explanation.

A warning is about what is legal and surely not meant. `# acns:ignore CODE` beside it says that it is meant
after all (`ignores`). A code is part of the language: files out there name it, so none is ever renamed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Code(StrEnum):
    """One kind of warning; `explanation` says what it is about."""

    explanation: str

    def __new__(cls, code: str, explanation: str) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.explanation = explanation
        return member

    # --- names and patterns -----------------------------------------------------------------------------

    MATCH_ALL_FQDN = "match-all-fqdn", "toFQDNs matches every name: whatever a pod looks up becomes reachable"
    SERVICE_NAME_FQDN = (
        "service-name-fqdn",
        "toFQDNs names a Service of the cluster: such addresses are never learned",
    )
    FQDN_IS_ADDRESS = "fqdn-is-address", "an entry of toFQDNs is an address, which nobody looks up"
    TRAILING_WILDCARD_LABELS = (
        "trailing-wildcard-labels",
        "a pattern ends in wildcard labels: anybody's domain can end a name that it matches",
    )
    DNS_MISSING = "dns-missing", "toFQDNs without any rule that lets the pod ask a DNS server opens nothing"
    FQDN_NOT_IN_DNS = "fqdn-not-in-dns", "a toFQDNs name that no rules.dns lets the pod look up opens nothing"
    FQDN_DENIED = "fqdn-denied", "a toFQDNs whose ports an egressDeny shuts at every address opens nothing"
    APEX_NOT_MATCHED = "apex-not-matched", "*.example.com does not match example.com, which is looked up too"
    DNS_OPEN_BY_L4 = "dns-open-by-l4", "a rule without rules.dns opens every name on a server that has them"
    SHARED_ADDRESS = "shared-address", "an address opened by its name is also another name's"

    # --- selectors and peers -------------------------------------------------------------------------------

    SELECTS_NOTHING = "selects-nothing", "a selector that no pod matches"
    OTHER_NAMESPACE = "other-namespace", "a namespaced policy's endpointSelector names another namespace"
    NAMESPACE_ONLY_NEGATED = (
        "namespace-only-negated",
        "a peer names namespaces by what they are not: older Cilium adds host and world",
    )
    RESERVED_SUBJECT = "reserved-subject", "an endpointSelector asks for a reserved label, which no pod has"
    ENTITY_WITHOUT_MEMBERS = "entity-without-members", "an entity that nobody belongs to here"
    ENTITY_NOT_IN_CRD = "entity-not-in-crd", "an entity that Cilium knows and its CRD refuses"
    UNKNOWN_CIDR_GROUP = "unknown-cidr-group", "a CiliumCIDRGroup that does not exist selects nothing"
    UNKNOWN_SERVICE = "unknown-service", "toServices names a Service that does not exist: it selects nothing"
    SERVICE_ANY_NAMESPACE = (
        "service-any-namespace",
        "toServices without a namespace means the Services of that name in every namespace",
    )
    CIDR_INSIDE_CLUSTER = (
        "cidr-inside-cluster",
        "a CIDR of pods', Services' or nodes' own addresses selects nobody",
    )
    IPV6_IGNORED = "ipv6-ignored", "an IPv6 CIDR, entity or ICMP type is ignored: IPv4 only"
    EMPTY_PEERS = "empty-peers", "an empty list of peers, or a CIDR with all of it excepted, selects nothing"

    # --- ports and sections ------------------------------------------------------------------------------

    EMPTY_SECTION = "empty-section", "an empty egress or ingress counts as absent"
    EMPTY_DENY = "empty-deny", "a deny entry without peers and ports denies only what no rule allows"
    EMPTY_PORTS = "empty-ports", "an empty toPorts or icmps counts as absent: with peers every port is meant"
    END_PORT = "end-port", "an endPort that has no effect"
    OCTAL_PORT = "octal-port", "a port with a leading zero is read as an octal number"
    NAMED_PORT_WITHOUT_PODS = (
        "named-port-without-pods",
        "a named port with peers other than pods matches nothing",
    )
    DEFAULT_DENY_WITHOUT_RULES = (
        "default-deny-without-rules",
        "enableDefaultDeny has no effect on a direction that the policy has no rules for",
    )
    POLICY_TYPES = "policy-types", "a NetworkPolicy has rules in a direction that policyTypes leaves out"

    # --- files ---------------------------------------------------------------------------------------------

    KIND_PASSED_OVER = "kind-passed-over", "an object of a kind that policy does not look at"
    UNKNOWN_CODE = "unknown-code", "an acns:ignore comment names no known code"
