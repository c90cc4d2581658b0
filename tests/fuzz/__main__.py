"""The long search: `invoke test.fuzz`, or `python -m tests.fuzz --minutes 60`; `--captures` for files.

Where atheris is installed (`./setup.sh test` does) what is tried next follows the ways that the readers took;
where it is not messages are made and damaged at random. Each is read by everything of ours, one in sixteen is
compared with dnspython too. Ends at the first finding, printed in hex and as small as it can be made, with an
exit code other than 0; else with the number of inputs, their rate, and how the memory held has grown.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import random
import resource
import signal
import sys
import tempfile
import time
import zlib
from pathlib import Path

COMPARED_ONE_IN = 16
MOST_MEMORY_MIB = 512
GROWTH_MIB = 16
WARM = 20_000
SAID_EVERY = 250_000


def check_message(packet: bytes) -> None:
    from . import oracle, readers

    readers.take_everything(packet)
    if zlib.crc32(packet) % COMPARED_ONE_IN == 0:
        oracle.compare(packet, as_answer=oracle.is_answer(packet))


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description="Search for a message that does harm.")
    parser.add_argument("--minutes", type=float, default=0.0, help="default: 1, or without end with --inputs")
    parser.add_argument("--seconds", type=float, default=0.0, help="the same, and added to it")
    parser.add_argument("--inputs", type=int, default=0, help="end after so many (default: no such end)")
    parser.add_argument("--seed", type=int, default=0, help="default: a random one, printed")
    parser.add_argument("--plain", action="store_true", help="without atheris, though it is there")
    parser.add_argument(
        "--alone", action="store_true", help="our readers only, at random: more in the same time"
    )
    parser.add_argument("--captures", action="store_true", help="capture files instead of messages")
    parser.add_argument("--keep", type=Path, help="folder for what atheris finds to take a new way")
    asked = parser.parse_args()
    seed = asked.seed or random.SystemRandom().randrange(1, 1 << 31)
    guided = (
        not (asked.plain or asked.alone or asked.captures) and importlib.util.find_spec("atheris") is not None
    )
    print(f"seed {seed}, {'guided by atheris' if guided else 'at random'}", flush=True)
    if guided:
        return _guided(asked, seed)
    return _at_random(_seconds(asked), asked.inputs, seed, captures=asked.captures, alone=asked.alone)


def _seconds(asked: argparse.Namespace) -> int:
    """How long to search; 0: until there have been so many inputs."""
    given = math.ceil(asked.minutes * 60 + asked.seconds)
    return given or (0 if asked.inputs else 60)


def _at_random(seconds: int, most: int, seed: int, *, captures: bool, alone: bool) -> int:
    from . import captures as files
    from . import messages, readers
    from .search import harm, smallest

    kind = files if captures else messages
    check = files.check if captures else readers.take_everything if alone else check_message
    made = kind.inputs(random.Random(seed), kind.corpus())
    begun, count, held_mib = time.monotonic(), 0, 0.0
    ended: list[bool] = []
    # (An interrupt, as by Ctrl-C, ends the search like its time does.)
    signal.signal(signal.SIGINT, lambda *_: ended.append(True))
    while not ended and (not seconds or time.monotonic() - begun < seconds) and (count < most or not most):
        packet = next(made)
        count += 1
        if harm(check, packet):
            print(f"after {count} inputs: {smallest(check, packet)}")
            return 1
        if count == WARM:
            held_mib = _memory_mib()
        if count % SAID_EVERY == 0:
            rate = count / (time.monotonic() - begun)
            print(f"{count} inputs, {rate:.0f} a second, {_memory_mib():.1f} MiB held", flush=True)
    rate = count / (time.monotonic() - begun)
    grown_mib = _memory_mib() - held_mib if count > WARM else 0.0
    print(f"{count} inputs, {rate:.0f} a second, no finding; memory +{grown_mib:.1f} MiB since input {WARM}")
    return int(grown_mib > GROWTH_MIB)


def _memory_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def _peak_mib() -> int:
    """What libFuzzer takes for ours, too: a process begins with the peak of the one it was forked from."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _guided(asked: argparse.Namespace, seed: int) -> int:
    """libFuzzer does not return: it prints its statistics and ends the process, with a code of its own."""
    import atheris

    with atheris.instrument_imports(include=["acns.dns", "acns.fqdn.gate"]):
        from . import messages, readers  # noqa: F401 - what is imported here is what guides the search
        from .search import harm, smallest

    def one(packet: bytes) -> None:
        if harm(check_message, packet):
            print(smallest(check_message, packet), flush=True)
            check_message(packet)

    def mutate(packet: bytes, max_size: int, mutation_seed: int) -> bytes:
        chance = random.Random(mutation_seed)
        kind = chance.random()
        if kind < 0.1:
            return chance.choice((messages.query, messages.answer))(chance)[:max_size]
        if kind < 0.6:
            return messages.mutated(packet or b"\0", chance, 3)[:max_size]
        return bytes(atheris.Mutate(packet, max_size))

    with tempfile.TemporaryDirectory() as scratch:
        kept = asked.keep or Path(scratch, "corpus")
        kept.mkdir(exist_ok=True)
        for number, packet in enumerate(messages.corpus()):
            (kept / f"known-{number}").write_bytes(packet)
        options = {
            "seed": seed,
            "max_total_time": _seconds(asked),  # 0: without end
            "runs": asked.inputs or -1,
            "max_len": 4096,
            "timeout": 10,
            "rss_limit_mb": _peak_mib() + MOST_MEMORY_MIB,
            "artifact_prefix": f"{scratch}/",
            "print_final_stats": 1,
            "verbosity": 1,
        }
        argv = [sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(kept)]
        atheris.Setup(argv, one, custom_mutator=mutate)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
