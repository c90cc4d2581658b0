"""A folder of manifests: what counts, what is kept, what is reported."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from acns.errors import EnvironmentFault, InputError
from acns.policy.profiles import Profile
from acns.shim.sources import Observed
from acns.shim.sources.files import FolderSource

NAMESPACE = """apiVersion: v1
kind: Namespace
metadata:
  name: {name}
"""
BROKEN_POLICY = """apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: default}
spec:
  endpointSelector: {}
  egress:
  - toFQDN: [{matchName: a.example.com}]
"""


def write(path: Path, text: str, *, age_s: float = 10.0) -> None:
    """A file that has been left alone for a while."""
    path.write_text(text)
    stamp = time.time() - age_s
    os.utime(path, (stamp, stamp))


class Watched:
    """A source over `folder`, one observation at a time."""

    def __init__(
        self,
        folder: Path,
        memory: Path,
        *,
        adopting: bool = False,
        fence: Callable[[], object] = lambda: None,
    ) -> None:
        self.source = FolderSource(
            folder, Profile.ACNS, memory, settle_s=0.05, adopting=adopting, fence=fence
        )
        self.updates: AsyncIterator[Observed] = self.source.watch()

    async def next(self) -> Observed:
        async with asyncio.timeout(5):
            return await anext(self.updates)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "manifests"
    path.mkdir()
    return path


@pytest.fixture
def watched(folder: Path, tmp_path: Path) -> Watched:
    return Watched(folder, tmp_path / "memory.log")


def names(observed: Observed) -> list[str]:
    return sorted(item.ref[2] for item in observed.objects)


async def test_the_first_observation_holds_every_manifest(folder: Path, watched: Watched) -> None:
    write(folder / "a.yaml", NAMESPACE.format(name="a"))
    write(folder / "b.yml", NAMESPACE.format(name="b"))
    write(folder / "notes.txt", "not a manifest")
    write(folder / ".hidden.yaml", NAMESPACE.format(name="hidden"))
    assert names(await watched.next()) == ["a", "b"]


async def test_an_observation_says_which_version_of_each_file_was_read(
    folder: Path, watched: Watched
) -> None:
    write(folder / "a.yaml", NAMESPACE.format(name="a"))
    write(folder / "b.yaml", "kind: [")
    observed = await watched.next()
    on_disk = {path.name: str(path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert observed.versions == on_disk


async def test_a_new_a_changed_and_a_removed_file_are_noticed(folder: Path, watched: Watched) -> None:
    write(folder / "a.yaml", NAMESPACE.format(name="a"))
    await watched.next()
    write(folder / "b.yaml", NAMESPACE.format(name="b"))
    assert names(await watched.next()) == ["a", "b"]
    write(folder / "a.yaml", NAMESPACE.format(name="changed"), age_s=5)
    assert names(await watched.next()) == ["b", "changed"]
    (folder / "b.yaml").unlink()
    assert names(await watched.next()) == ["changed"]


async def test_objects_of_files_that_have_not_changed_stay_the_same_objects(
    folder: Path, watched: Watched
) -> None:
    for name in ("a", "b", "c"):
        write(folder / f"{name}.yaml", NAMESPACE.format(name=name))
    before = {item.ref: item for item in (await watched.next()).objects}
    write(folder / "b.yaml", NAMESPACE.format(name="b"), age_s=5)
    (folder / "c.yaml").unlink()
    write(folder / "d.yaml", NAMESPACE.format(name="d"))
    observed = await watched.next()
    while names(observed) != ["a", "b", "d"]:
        observed = await watched.next()
    same = [item.ref[2] for item in observed.objects if before.get(item.ref) is item]
    assert same == ["a"]


async def test_a_wrong_file_keeps_its_last_good_version_and_the_rest_applies(
    folder: Path, watched: Watched
) -> None:
    write(folder / "a.yaml", NAMESPACE.format(name="a"))
    await watched.next()
    write(folder / "a.yaml", BROKEN_POLICY, age_s=5)
    write(folder / "b.yaml", NAMESPACE.format(name="b"))
    observed = await watched.next()
    assert names(observed) == ["a", "b"]
    assert [(p.path, p.line, p.column) for p in observed.problems] == [(str(folder / "a.yaml"), 7, 5)]
    assert "toFQDNs" in observed.problems[0].hint


async def test_the_last_good_version_survives_a_restart_beside_a_broken_file(
    folder: Path, tmp_path: Path, watched: Watched
) -> None:
    write(folder / "a.yaml", NAMESPACE.format(name="a"))
    await watched.next()
    write(folder / "a.yaml", "kind: [", age_s=5)
    restarted = Watched(folder, tmp_path / "memory.log")
    observed = await restarted.next()
    assert names(observed) == ["a"]
    assert len(observed.problems) == 1


async def test_the_newest_good_version_counts_after_many_changes_and_restarts(
    folder: Path, tmp_path: Path
) -> None:
    memory = tmp_path / "memory.log"
    for age_s, name in enumerate(("first", "second", "third"), start=-30):
        write(folder / "a.yaml", NAMESPACE.format(name=name), age_s=-age_s)
        write(folder / f"{name}.yaml", NAMESPACE.format(name=f"beside-{name}"))
        await Watched(folder, memory).next()
    (folder / "second.yaml").unlink()
    await Watched(folder, memory).next()
    for path in folder.iterdir():
        write(path, "kind: [", age_s=1)
    write(folder / "second.yaml", "kind: [")
    restarted = Watched(folder, memory)
    assert names(await restarted.next()) == ["beside-first", "beside-third", "third"]


class Replaced:
    """A source that remembers, while another shim has taken its shim's place since."""

    def __init__(self, folder: Path, memory: Path) -> None:
        self.is_overtaken = False
        self.watched = Watched(folder, memory, fence=self._fence)

    def _fence(self) -> None:
        if self.is_overtaken:
            raise EnvironmentFault("another shim has taken this one's place")


@pytest.mark.parametrize("already", [True, False], ids=["overtaken", "in the midst of it"])
async def test_what_a_shim_remembers_outlives_one_beside_it_that_goes_on_late(
    already: bool, folder: Path, tmp_path: Path
) -> None:
    """The older one hung while it was replaced, be it between its look at the link and its write."""
    memory = tmp_path / "memory.log"
    write(folder / "a.yaml", NAMESPACE.format(name="first"))
    older = Replaced(folder, memory)
    await older.watched.next()
    newer = Watched(folder, memory, adopting=True)
    await newer.next()
    write(folder / "a.yaml", NAMESPACE.format(name="second"), age_s=5)
    await newer.next()
    older.is_overtaken = already
    await older.watched.next()
    write(folder / "b.yaml", NAMESPACE.format(name="third"))
    await newer.next()
    for path in folder.iterdir():
        write(path, "kind: [", age_s=1)
    restarted = await Watched(folder, memory, adopting=True).next()
    assert (names(restarted), restarted.complete) == (["second", "third"], True)


async def two_shims(folder: Path, memory: Path) -> tuple[Watched, Watched]:
    """The node's, and the next one, which has read the memory and not yet taken the place."""
    write(folder / "a.yaml", NAMESPACE.format(name="first"))
    older = Watched(folder, memory)
    await older.next()
    return older, Watched(folder, memory, adopting=True)


async def test_what_the_one_before_remembers_until_it_is_replaced_is_remembered(
    folder: Path, tmp_path: Path
) -> None:
    older, newer = await two_shims(folder, tmp_path / "memory.log")
    for age_s, name in ((5, "second"), (3, "third")):
        write(folder / "a.yaml", NAMESPACE.format(name=name), age_s=age_s)
        await older.next()
    write(folder / "a.yaml", "kind: [", age_s=1)
    observed = await newer.next()
    assert (names(observed), observed.complete) == (["third"], True)


async def test_a_memory_that_is_damaged_before_the_place_is_taken_is_no_memory(
    folder: Path, tmp_path: Path
) -> None:
    older, newer = await two_shims(folder, memory := tmp_path / "memory.log")
    write(folder / "a.yaml", NAMESPACE.format(name="second"), age_s=5)
    await older.next()
    memory.write_bytes(memory.read_bytes().replace(b"second", b"Second"))
    write(folder / "a.yaml", "kind: [", age_s=1)
    observed = await newer.next()
    assert (names(observed), observed.complete) == ([], False)


async def test_a_memory_with_a_torn_end_is_no_memory(folder: Path, tmp_path: Path) -> None:
    memory = tmp_path / "memory.log"
    write(folder / "a.yaml", NAMESPACE.format(name="old"))
    await Watched(folder, memory).next()
    write(folder / "a.yaml", NAMESPACE.format(name="new"), age_s=5)
    await Watched(folder, memory).next()
    memory.write_bytes(memory.read_bytes()[:-5])
    write(folder / "a.yaml", "kind: [", age_s=1)
    observed = await Watched(folder, memory, adopting=True).next()
    assert (names(observed), observed.complete) == ([], False)


@pytest.mark.parametrize("memory", ["", "junk"])
async def test_a_broken_file_of_which_nothing_is_remembered_is_waited_for_when_rules_are_taken_over(
    memory: str, folder: Path, tmp_path: Path
) -> None:
    if memory:
        (tmp_path / "memory.log").write_text(memory)
    write(folder / "a.yaml", BROKEN_POLICY)
    write(folder / "b.yaml", NAMESPACE.format(name="b"))
    restarted = Watched(folder, tmp_path / "memory.log", adopting=True)
    assert not (await restarted.next()).complete
    again = Watched(folder, tmp_path / "memory.log", adopting=True)
    assert not (await again.next()).complete
    write(folder / "a.yaml", NAMESPACE.format(name="a"), age_s=5)
    assert (await again.next()).complete
    write(folder / "c.yaml", BROKEN_POLICY)
    assert (await again.next()).complete


@pytest.mark.parametrize("adopting", [False, True])
async def test_a_broken_file_that_never_counted_is_not_waited_for(
    adopting: bool, folder: Path, tmp_path: Path
) -> None:
    write(folder / "b.yaml", NAMESPACE.format(name="b"))
    if adopting:
        await Watched(folder, tmp_path / "memory.log").next()
    write(folder / "a.yaml", BROKEN_POLICY)
    assert (await Watched(folder, tmp_path / "memory.log", adopting=adopting).next()).complete


async def test_a_memory_that_cannot_be_written_is_reported_and_written_when_it_can(
    folder: Path, tmp_path: Path
) -> None:
    memory = tmp_path / "state" / "memory.log"
    memory.parent.mkdir()
    watched = Watched(folder, memory)
    memory.parent.rmdir()
    write(folder / "a.yaml", NAMESPACE.format(name="a"))
    observed = await watched.next()
    assert names(observed) == ["a"]
    assert [(problem.path, problem.warning) for problem in observed.problems] == [(str(memory), True)]
    memory.parent.mkdir()
    assert (await watched.next()).problems == ()
    assert memory.exists()


async def test_an_emptied_file_is_taken_for_one_being_written(folder: Path, watched: Watched) -> None:
    write(folder / "a.yaml", NAMESPACE.format(name="a"))
    await watched.next()
    write(folder / "a.yaml", "", age_s=5)
    observed = await watched.next()
    assert names(observed) == ["a"]
    assert "empty" in observed.problems[0].message


COMMENTS_ONLY = ["# The names that\n", "# kept for later\n---\n", "apiVersion: v1\nkind: List\nitems:\n"]


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("text", COMMENTS_ONLY)
async def test_a_file_that_has_no_objects_any_more_keeps_them_until_it_is_removed(
    text: str, restarts: bool, folder: Path, tmp_path: Path, watched: Watched
) -> None:
    write(folder / "a.yaml", NAMESPACE.format(name="a"))
    await watched.next()
    write(folder / "a.yaml", text, age_s=5)
    if restarts:
        watched = Watched(folder, tmp_path / "memory.log", adopting=True)
    observed = await watched.next()
    assert (names(observed), observed.complete) == (["a"], True)
    [problem] = observed.problems
    assert (problem.message, problem.warning) == ("has no objects any more", False)
    assert "remove the file" in problem.hint
    (folder / "a.yaml").unlink()
    assert (await watched.next()).objects == ()
    write(folder / "a.yaml", text, age_s=1)  # a new file of that name
    observed = await watched.next()
    assert (observed.objects, observed.problems) == ((), ())


@pytest.mark.parametrize("text", COMMENTS_ONLY)
async def test_a_file_that_never_had_objects_is_as_good_as_any(
    text: str, folder: Path, tmp_path: Path, watched: Watched
) -> None:
    write(folder / "a.yaml", text)
    for source in (watched, Watched(folder, tmp_path / "memory.log", adopting=True)):
        observed = await source.next()
        assert (observed.objects, observed.problems, observed.complete) == ((), (), True)
    write(folder / "a.yaml", NAMESPACE.format(name="a"), age_s=5)
    assert names(await watched.next()) == ["a"]


async def test_a_file_is_read_only_after_it_was_left_alone(folder: Path, watched: Watched) -> None:
    write(folder / "a.yaml", NAMESPACE.format(name="a"))
    await watched.next()
    write(folder / "b.yaml", NAMESPACE.format(name="b"), age_s=0)
    assert not watched.source._scan()
    assert names(await watched.next()) == ["a", "b"]


async def test_an_object_in_two_files_counts_once_and_is_reported(folder: Path, watched: Watched) -> None:
    write(folder / "a.yaml", NAMESPACE.format(name="same"))
    write(folder / "b.yaml", NAMESPACE.format(name="same"))
    observed = await watched.next()
    assert names(observed) == ["same"]
    assert [problem.path for problem in observed.problems] == [str(folder / "b.yaml")]


async def test_objects_that_move_to_a_new_file_never_go_away_in_between(
    folder: Path, watched: Watched
) -> None:
    write(folder / "old.yaml", NAMESPACE.format(name="a"))
    write(folder / "other.yaml", NAMESPACE.format(name="b"))
    seen = [await watched.next()]
    write(folder / "new.yaml", NAMESPACE.format(name="a"), age_s=0)
    (folder / "old.yaml").unlink()
    if watched.source._scan():
        seen.append(watched.source._observe())
    while "new.yaml" not in watched.source._files or "old.yaml" in watched.source._files:
        seen.append(await watched.next())
    assert [(names(observed), observed.problems) for observed in seen] == [(["a", "b"], ())] * len(seen)


async def test_a_file_that_is_missing_for_a_moment_takes_nothing_away(folder: Path, watched: Watched) -> None:
    write(folder / "a.yaml", NAMESPACE.format(name="a"))
    await watched.next()
    (folder / "a.yaml").unlink()
    assert not watched.source._scan()
    write(folder / "a.yaml", NAMESPACE.format(name="changed"), age_s=5)
    assert names(await watched.next()) == ["changed"]


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def link_to_nowhere(path: Path) -> None:
    path.symlink_to("nowhere.txt")


def link_below_a_file(path: Path) -> None:
    write(path.with_name("file.txt"), "not a manifest")
    path.symlink_to("file.txt/a.yaml")


NO_FILES = [link_to_itself, link_to_nowhere, link_below_a_file, os.mkfifo, Path.mkdir]


@pytest.mark.parametrize("make", NO_FILES)
async def test_what_is_no_file_is_reported_and_the_rest_applies(
    make: Callable[[Path], None], folder: Path, watched: Watched
) -> None:
    write(folder / "b.yaml", NAMESPACE.format(name="b"))
    make(folder / "a.yaml")
    os.utime(folder / "a.yaml", (1, 1), follow_symlinks=False)
    observed = await watched.next()
    assert names(observed) == ["b"]
    assert [problem.path for problem in observed.problems] == [str(folder / "a.yaml")]


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("make", NO_FILES)
async def test_what_takes_a_file_s_place_and_is_none_keeps_its_last_good_version(
    make: Callable[[Path], None], restarts: bool, folder: Path, tmp_path: Path, watched: Watched
) -> None:
    write(folder / "a.yaml", NAMESPACE.format(name="a"))
    await watched.next()
    (folder / "a.yaml").unlink()
    make(folder / "a.yaml")
    os.utime(folder / "a.yaml", (1, 1), follow_symlinks=False)
    if restarts:
        watched = Watched(folder, tmp_path / "memory.log", adopting=True)
    observed = await watched.next()
    assert (names(observed), observed.complete) == (["a"], True)
    assert [problem.path for problem in observed.problems] == [str(folder / "a.yaml")]
    (folder / "a.yaml").rmdir() if make is Path.mkdir else (folder / "a.yaml").unlink()
    assert names(await watched.next()) == []


async def test_a_folder_that_is_away_takes_nothing_away_and_is_reported_once(
    folder: Path, watched: Watched
) -> None:
    write(folder / "a.yaml", NAMESPACE.format(name="a"))
    await watched.next()
    folder.rename(folder.with_name("away"))
    observed = await watched.next()
    assert (names(observed), observed.complete) == (["a"], True)
    assert [problem.path for problem in observed.problems] == [str(folder)]
    assert not watched.source._scan()
    folder.with_name("away").rename(folder)
    observed = await watched.next()
    assert (names(observed), observed.problems) == (["a"], ())


async def test_a_folder_that_goes_before_it_was_read_is_not_gone_by(folder: Path, watched: Watched) -> None:
    folder.rmdir()
    assert watched.source._scan()
    assert not watched.source._observe().complete


async def test_a_missing_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        await Watched(tmp_path / "nowhere", tmp_path / "memory.log").next()
