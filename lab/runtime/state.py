"""What a lab leaves on disk while it lives: one folder, and who owns it.

`STATE_ROOT/<lab>/` (0700) holds the lab's files and the holder's record. A lab *is* its holder process: the
record names it by pid, start time and boot, so that a pid which the kernel has given to somebody else
since is never taken for a holder, let alone killed. Whoever changes a lab holds a lock on the folder
itself; a holder that is still being built inherits the lock, so the next one waits until every trace of
an aborted run is dead. No lock file stays behind, and labs are found by these folders, never by the look
of a name elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from acns import statefile
from acns.errors import Bug, EnvironmentFault, InputError, PeerError

STATE_ROOT_VARIABLE = "ACNS_LAB_STATE"
DEFAULT_STATE_ROOT = Path("/run/acns-lab")
MAX_SOCKET_PATH_BYTES = 107
"""`sun_path` is 108 bytes with its final zero (unix(7))."""
_LONGEST_SOCKET = "s/199-fqdndata.sock.abcdef"
"""An agent adds six digits to a socket's path."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LOCK_TIMEOUT_S = 330.0
"""Longer than anybody may take to build a lab."""
_LOCK_POLL_S = 0.02
_DEATH_TIMEOUT_S = 10.0
_RECORD_FORM = "acns-lab-holder"


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Numbers of the holder's descriptors of one namespace: `/proc/HOLDER/fd/N` opens it from outside."""

    net: int
    mnt: int
    uts: int


@dataclass(frozen=True, slots=True)
class HolderRecord:
    """Who holds the lab, and what it holds once it is complete (`ready`)."""

    pid: int
    start_ticks: int
    boot_id: str
    ready: bool = False
    digest: str = ""
    created_at_s: float = 0.0
    authority: str = ""
    """The file of the certificate authority that clients in pods trust."""
    namespaces: dict[str, Descriptors] = field(default_factory=dict)
    """By place: `internet`, `node/NAME`, `pod/NAMESPACE/NAME`, `underlay`."""

    def pidfd(self) -> int | None:
        """A descriptor of the living holder; None when it is dead, whoever has its pid now."""
        if self.boot_id != boot_id():
            return None
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return None
        # Looked at after opening: had the pid been given away before, the start time would differ.
        if start_ticks(self.pid) == self.start_ticks:
            return descriptor
        os.close(descriptor)
        return None

    def alive(self) -> bool:
        if (descriptor := self.pidfd()) is None:
            return False
        try:
            return not _has_ended(descriptor, timeout_s=0)
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class LabFolder:
    """The paths of one lab."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    def exists(self) -> bool:
        """Whether there is such a folder. Raises EnvironmentFault where we may not look."""
        try:
            return self.path.is_dir()
        except PermissionError as error:
            raise _not_ours(self.path, error) from error

    @property
    def control_socket(self) -> Path:
        return self.path / "s" / "control.sock"

    @property
    def record_file(self) -> Path:
        return self.path / "holder.json"

    @property
    def topology_file(self) -> Path:
        return self.path / "topology.json"

    @property
    def unfinished_topology_file(self) -> Path:
        return self.path / "topology.new"

    @property
    def holder_log(self) -> Path:
        return self.path / "holder.log"

    @property
    def certificates(self) -> Path:
        return self.path / "certificates"

    @property
    def internet(self) -> Path:
        return self.path / "internet"

    @property
    def records_file(self) -> Path:
        """The Internet's DNS records."""
        return self.internet / "records.json"

    @property
    def query_log(self) -> Path:
        """One JSON line per query that reached the Internet's DNS server."""
        return self.internet / "queries.jsonl"

    def node(self, name: str) -> Path:
        return self.path / "nodes" / name

    def manifests(self, node: str) -> Path:
        return self.node(node) / "manifests"

    def pod(self, key: str) -> Path:
        return self.path / "pods" / key.replace("/", "_")

    def socket(self, node_index: int, what: str) -> Path:
        """A socket's path: by the node's number, for a path must be short and names may be long."""
        return self.path / "s" / f"{node_index}-{what}.sock"

    @property
    def events_file(self) -> Path:
        """What happened to the lab (`lab.runtime.events`)."""
        return self.path / "events.jsonl"

    @property
    def recorded_places(self) -> Path:
        """Where the recorder listens (`lab.capture.places`)."""
        return self.path / "recorded-places"

    @property
    def recorder_socket(self) -> Path:
        """Where the recorder is asked for what it has heard."""
        return self.path / "s" / "recorder.sock"

    def record(self) -> HolderRecord | None:
        """What is known of the holder; None when none was ever started (or its record cannot be trusted)."""
        try:
            payload = statefile.load(self.record_file, _RECORD_FORM, 1)
        except PeerError:
            return None
        if payload is None:
            return None
        places = {place: Descriptors(**numbers) for place, numbers in payload.pop("namespaces").items()}
        return HolderRecord(**payload, namespaces=places)

    def save_order(self, order: Mapping[str, Any]) -> None:
        """What the lab is, whole at once; not written again where it is so already."""
        text = json.dumps(order)
        if self.topology_file.exists() and self.topology_file.read_text() == text:
            return
        self.unfinished_topology_file.write_text(text)
        self.unfinished_topology_file.rename(self.topology_file)

    def save_record(self, record: HolderRecord) -> None:
        statefile.save(self.record_file, _RECORD_FORM, 1, asdict(record))


def state_root() -> Path:
    """Where this user's labs are: an ordinary user's in the folder for what lives as long as a login."""
    return Path(os.environ.get(STATE_ROOT_VARIABLE) or _default_root()).absolute()


def _default_root() -> Path:
    if (uid := _uid_outside()) == 0:
        return DEFAULT_STATE_ROOT
    of_login = os.environ.get("XDG_RUNTIME_DIR")
    return Path(of_login, "acns-lab") if of_login else Path(f"/tmp/acns-lab-{uid}")


def _uid_outside() -> int:
    """Whose process this is: the root of a user namespace (`unshare --map-root-user`) is an ordinary user."""
    uid = os.geteuid()
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        inside, outside, count = map(int, line.split())
        if inside <= uid < inside + count:
            return outside + uid - inside
    return uid


def folder_of(lab: str) -> LabFolder:
    """The folder of that lab, which need not exist. Raises InputError for a name that cannot be one."""
    if not _NAME.fullmatch(lab):
        raise InputError(
            f"'{lab}' cannot be the name of a lab",
            hint="a name has lower-case letters, digits and '-', 63 at most",
        )
    folder = LabFolder(state_root() / lab)
    if len(os.fsencode(folder.path / _LONGEST_SOCKET)) > MAX_SOCKET_PATH_BYTES:
        raise InputError(
            f"{folder.path} is too long: a unix socket's path may have {MAX_SOCKET_PATH_BYTES} bytes",
            hint=f"set {STATE_ROOT_VARIABLE} to a shorter folder, or give the lab a shorter --name",
        )
    return folder


def all_folders() -> list[LabFolder]:
    """Every folder of the state root, by name: the labs', and what else somebody has there."""
    try:
        return [LabFolder(path) for path in sorted(state_root().iterdir()) if path.is_dir()]
    except FileNotFoundError:
        return []
    except (PermissionError, NotADirectoryError) as error:
        raise _not_ours(state_root(), error) from error


@contextlib.contextmanager
def locked(folder: LabFolder, waiting: Callable[[], None] = lambda: None) -> Iterator[int]:
    """The folder, made if it was not there, locked against everybody else; gives the lock's descriptor.

    `waiting` is called when somebody else has it. The caller may remove the folder while it holds the lock.
    """
    descriptor = _lock(folder, waiting)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            state_root().rmdir()


@contextlib.contextmanager
def locked_if_free(folder: LabFolder) -> Iterator[bool]:
    """The folder as in `locked`, if nobody else has it and it is there; says whether."""
    try:
        descriptor = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _try_lock(descriptor) and _is_same(descriptor, folder.path)
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            state_root().rmdir()


def remove(folder: LabFolder, meanwhile: Callable[[], None] = lambda: None) -> None:
    """End the lab and remove its folder; the caller holds the lock.

    When this returns, every process of the lab is dead: the kernel ends a PID namespace's first process last.
    It even waits for the parents of the others to collect them: `meanwhile` is called again and again so that
    the caller can collect its own.
    """
    empty(folder, meanwhile)
    folder.path.rmdir()


def empty(folder: LabFolder, meanwhile: Callable[[], None] = lambda: None) -> None:
    """End the lab but keep its folder, which the caller has locked, for the next one."""
    if record := folder.record():
        kill(record, meanwhile)
    # Last what says whose folder it is: whoever is killed in this leaves what `lab.gc` knows.
    for path in sorted(folder.path.iterdir(), key=lambda one: one == folder.topology_file):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def kill(record: HolderRecord, meanwhile: Callable[[], None] = lambda: None) -> bool:
    """SIGKILL the holder and wait until it and all it held are gone; False when it was dead already."""
    deadline = time.monotonic() + _DEATH_TIMEOUT_S
    if (descriptor := record.pidfd()) is None:
        return False
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        while not _has_ended(descriptor, timeout_s=0.01):
            meanwhile()
            if time.monotonic() > deadline:
                raise Bug(
                    f"the holder (pid {record.pid}) does not die",
                    hint="does a stopped process still have children in the lab? see: pstree -p",
                )
        return True
    finally:
        os.close(descriptor)


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int | str) -> int | None:
    """When that process started, in clock ticks since boot (proc(5), field 22); None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name, in parentheses, may hold anything: count the fields after its end.
    return int(text.rpartition(")")[2].split()[19])


def _lock(folder: LabFolder, waiting: Callable[[], None]) -> int:
    while True:
        descriptor = _open_folder(folder.path)
        try:
            _flock(descriptor, waiting)
        except BaseException:
            os.close(descriptor)
            raise
        if _is_same(descriptor, folder.path):
            return descriptor
        # Removed while we waited: this lock protects nothing any more.
        os.close(descriptor)


def _open_folder(path: Path) -> int:
    deadline = time.monotonic() + 5
    while True:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _not_ours(path, error) from error
        try:
            _require_own(path.parent)
            path.mkdir(mode=0o700, exist_ok=True)
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError as error:
            # Another lab's end took the empty root away between two steps.
            if time.monotonic() > deadline:
                raise _not_ours(path, error) from error
        except OSError as error:
            raise _not_ours(path, error) from error


def _require_own(path: Path) -> None:
    """In /tmp anybody may have made a folder of that name."""
    if path.stat(follow_symlinks=False).st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it is somebody else's", str(path))


def _not_ours(path: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"cannot use {path}: {error.strerror}",
        hint=f"run as root, or set {STATE_ROOT_VARIABLE} to a folder of yours",
    )


def _flock(descriptor: int, waiting: Callable[[], None]) -> None:
    if _try_lock(descriptor):
        return
    waiting()
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while not _try_lock(descriptor):
        if time.monotonic() > deadline:
            raise EnvironmentFault(
                f"another command has been working on this lab for {LOCK_TIMEOUT_S:g} s",
                hint="is it stopped? end it: whatever it has made ends with it",
            )
        time.sleep(_LOCK_POLL_S)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _has_ended(pidfd: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
