"""The name cache against a plain model, and its changes against a kernel that only obeys."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from acns.dns import pattern
from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector
from acns.fqdn.cache import Change, NameCache

NAMES: list[Name] = [(b"a", b"x"), (b"b", b"x"), (b"c", b"y")]
ADDRESSES = [bytes((192, 0, 2, last)) for last in range(1, 6)]
SELECTORS = [
    pattern.match_pattern("*.x"),
    pattern.match_pattern("*"),
    pattern.match_name("a.x"),
    pattern.match_name("c.y"),
]
GRACE_S, SETTLE_S, SLACK_S = 3.0, 2.0, 1.0

Kernel = dict[FQDNSelector, dict[bytes, float]]


@dataclass
class Known:
    """One (name, address), or one (selector, address) that the kernel had. `told_until`: by what was said;
    what the kernel had may have been let lag behind."""

    expires_at: float
    learned_at: float
    told_until: float


@dataclass
class Model:
    """The rules said once more, without any index: everything is looked at every time."""

    known: dict[tuple[Name | FQDNSelector, bytes], Known] = field(default_factory=dict)
    last_live: dict[tuple[Name | FQDNSelector, bytes | None], float] = field(default_factory=dict)

    def group(self, owner: Name | FQDNSelector, address: bytes) -> tuple[Name | FQDNSelector, bytes | None]:
        """What lives and dies together: a name's addresses, but each nameless one for itself."""
        return (owner, address if isinstance(owner, FQDNSelector) else None)

    def collect(self, now: float, live: set[bytes]) -> None:
        alive = {self.group(*key) for key in self.known if key[1] in live}
        for one in alive:
            self.last_live[one] = now
        for key, lease in list(self.known.items()):
            seen = self.last_live.get(self.group(*key), float("-inf"))
            stays = max(max(lease.expires_at, seen) + GRACE_S, lease.learned_at + SETTLE_S)
            if now > lease.expires_at and now > stays:
                del self.known[key]

    def opened(self, selector: FQDNSelector) -> set[bytes]:
        return {
            address
            for owner, address in self.known
            if owner == selector or (isinstance(owner, tuple) and selector.matches(owner))
        }

    def expiry(self, selector: FQDNSelector, address: bytes) -> float:
        return max(
            lease.told_until
            for (owner, one), lease in self.known.items()
            if one == address
            and (owner == selector or (isinstance(owner, tuple) and selector.matches(owner)))
        )


class CacheMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.model = Model()
        self.kernel: Kernel = {}
        self.selectors: set[FQDNSelector] = set()
        self.cache = NameCache(idle_grace_s=GRACE_S, settle_s=SETTLE_S, refresh_slack_s=SLACK_S)

    def obey(self, change: Change) -> None:
        for selector, unwanted in change.delete.items():
            for address in unwanted:
                del self.kernel[selector][address]  # a removal of what is not there is one too many
        for selector, wanted in change.put.items():
            for address, expires_at in wanted.items():
                had = self.kernel.setdefault(selector, {}).get(address)
                assert had is None or had < expires_at, "a write that changes nothing, or lowers"
                self.kernel[selector][address] = expires_at
                assert address not in change.delete.get(selector, frozenset())

    @rule(seconds=st.sampled_from([0.0, 0.4, 1.0, 2.5, 7.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        name=st.sampled_from(NAMES),
        addresses=st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=3),
        ttl_s=st.sampled_from([0, 1, 5, 20]),
        pod=st.sampled_from(["one", "other"]),
    )
    def learn(self, name: Name, addresses: list[bytes], ttl_s: int, pod: str) -> None:
        self.obey(self.cache.learn(name, addresses, ttl_s, self.now, asked_by=pod))
        for address in addresses:
            had = self.model.known.get((name, address))
            expires_at = max(self.now + ttl_s, had.expires_at if had else 0)
            self.model.known[name, address] = Known(expires_at, self.now, expires_at)

    @rule(selector=st.sampled_from(SELECTORS), address=st.sampled_from(ADDRESSES), left_s=st.integers(0, 9))
    def adopt(self, selector: FQDNSelector, address: bytes, left_s: int) -> None:
        """As after a restart: only what nobody knows of yet can be found in the kernel."""
        if selector not in self.selectors or address in self.kernel.get(selector, {}):
            return
        if (selector, address) in self.model.known:
            return
        self.kernel.setdefault(selector, {})[address] = self.now + left_s
        self.cache.adopt(selector, address, self.now + left_s)
        until = self.now + left_s
        self.model.known[selector, address] = Known(until + SLACK_S, float("-inf"), until)

    @rule(selectors=st.sets(st.sampled_from(SELECTORS)))
    def set_selectors(self, selectors: set[FQDNSelector]) -> None:
        self.obey(self.cache.set_selectors(selectors))
        self.selectors = selectors

    @rule(live=st.sets(st.sampled_from(ADDRESSES), max_size=2))
    def collect(self, live: set[bytes]) -> None:
        self.obey(self.cache.collect(self.now, live))
        self.model.collect(self.now, live)
        for selector in self.selectors:
            for address, expires_at in self.kernel.get(selector, {}).items():
                kept_until = max(self.model.expiry(selector, address), self.now)
                assert expires_at >= kept_until - SLACK_S, "the kernel would let go what is kept"

    @invariant()
    def the_kernel_has_exactly_what_the_model_opens(self) -> None:
        for selector in SELECTORS:
            expected = self.model.opened(selector) if selector in self.selectors else set()
            assert set(self.kernel.get(selector, {})) == expected
            assert set(self.cache.elements(selector)) == expected

    @invariant()
    def the_kernel_never_lags_by_more_than_the_slack(self) -> None:
        for selector in self.selectors:
            for address, expires_at in self.cache.elements(selector).items():
                assert expires_at >= self.model.expiry(selector, address)
                assert self.kernel[selector][address] >= expires_at - SLACK_S

    @invariant()
    def it_counts_right(self) -> None:
        assert self.cache.address_count == len(self.model.known)
        names, addresses = Counter[str](), Counter[str]()
        for entry in self.cache._names.values():
            names[entry.asked_by] += 1
            addresses[entry.asked_by] += len(entry.leases)
        assert (self.cache._holdings._names, self.cache._holdings._addresses) == (names, addresses)


CacheMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestCache = CacheMachine.TestCase
