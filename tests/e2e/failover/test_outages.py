"""Agents die and come back: what is enforced stays enforced, what is open stays open, DNS goes on.

The story of an outage is told once (`outage.told`) and looked at from many sides. A SYN that gets through is
one that comes out of the node's uplink.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..pair.probes import Answer
from ..pair.wire import NOERROR, REFUSED
from . import outage
from .outage import Place, Story

pytestmark = pytest.mark.root

DIG_NO_ANSWER = 9


@pytest.fixture(scope="module")
def story(place: Place) -> Iterator[Story]:
    with outage.told(place) as told:
        yield told


# --- the shim is dead -------------------------------------------------------------------------------------


def test_without_the_shim_an_allowed_name_is_answered(story: Story) -> None:
    assert story.without_shim.allowed == Answer(NOERROR, (story.without_shim.fresh,))


def test_without_the_shim_a_denied_name_is_refused_and_goes_nowhere(story: Story) -> None:
    assert (story.without_shim.denied, story.without_shim.denied_upstream) == (Answer(REFUSED), 0)


def test_without_the_shim_a_new_address_of_an_allowed_name_is_open_with_its_answer(
    story: Story,
) -> None:
    assert story.without_shim.open == {story.known, story.without_shim.fresh}


def test_the_shim_back_keeps_what_was_opened_in_its_stead(story: Story) -> None:
    assert story.without_shim.open_afterwards == {story.known, story.without_shim.fresh}


def test_the_shim_back_knows_the_name_of_what_was_opened_in_its_stead(story: Story) -> None:
    assert story.without_shim.known_afterwards
    assert story.without_shim.asked_upstream == 1


# --- the resolver is dead -----------------------------------------------------------------------------------


def test_without_the_resolver_queries_of_an_enforced_pod_reach_nobody(story: Story) -> None:
    assert story.without_resolver.leaks == []


def test_without_the_resolver_a_client_in_an_enforced_pod_times_out(story: Story) -> None:
    assert story.without_resolver.dig == DIG_NO_ANSWER


def test_without_the_resolver_learned_addresses_are_open_and_no_others(story: Story) -> None:
    assert story.without_resolver.open == {story.known}


# --- both are dead, and back --------------------------------------------------------------------------------


def test_without_both_queries_of_an_enforced_pod_reach_nobody(story: Story) -> None:
    assert story.without_both.leaks == []


def test_without_both_learned_addresses_are_open_and_no_others(story: Story) -> None:
    assert story.without_both.open == {story.known}


def test_a_resolver_that_is_back_before_the_shim_serves_by_the_policy_on_disk(story: Story) -> None:
    assert story.without_both.alone == Answer(NOERROR, (story.without_both.alone_address,))
    assert story.without_both.alone_denied == Answer(REFUSED)


def test_a_resolver_that_is_back_before_the_shim_opens_new_addresses_of_allowed_names(story: Story) -> None:
    assert story.without_both.open_alone == {story.known, story.without_both.alone_address}


def test_both_back_a_new_name_opens_and_a_stranger_does_not(story: Story) -> None:
    without = story.without_both
    assert without.open_afterwards == {story.known, without.alone_address, without.last}


# --- through all of it --------------------------------------------------------------------------------------


def test_every_query_of_a_pod_without_policy_is_answered_all_along(story: Story) -> None:
    assert story.legacy.queries > 0
    assert story.legacy.unanswered == []


def test_every_connection_of_a_pod_without_policy_is_made_at_once_all_along(story: Story) -> None:
    assert story.legacy.connections > 0
    assert story.legacy.hindered == []


def test_learned_addresses_are_in_the_kernel_at_every_look(story: Story) -> None:
    assert story.watch.samples > 0
    assert story.watch.missing == {}


def test_no_restart_shortens_the_life_of_a_learned_address(story: Story) -> None:
    assert story.watch.lowered == {}


def test_a_download_that_ran_through_all_of_it_is_whole(story: Story) -> None:
    assert story.download.finish() == (story.download.size_bytes, 0, "")


def test_a_connection_carries_data_whichever_agent_is_dead(story: Story) -> None:
    outages = (story.without_shim, story.without_resolver, story.without_both)
    assert [outage.download_flows for outage in outages] == [True] * 3
