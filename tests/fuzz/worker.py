"""Fuzzes one target in a process of its own: `python -m tests.fuzz.worker TARGET CORPUS FINDINGS SECONDS`.

With atheris (coverage leads it) where that is installed, else with damages at random, which find less.
"""

from __future__ import annotations

import hashlib
import random
import resource
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import atheris
except ImportError:  # there are wheels for some Pythons and machines only
    atheris = None

with nullcontext() if atheris is None else atheris.instrument_imports(["vmount"]):
    from tests.fuzz import targets

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

MEMORY = 1 << 30
"""Bytes that an input may make a process take; what files a parser reads is a few MiB."""
LONGEST = 20
"""Seconds for one input, on a machine that does other things too."""
LONGEST_INPUT = 8192
"""Bytes; a seed may be longer."""


def limit_memory() -> None:
    """Make what goes beyond the bound a MemoryError, which no target forgives."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def fuzz_by_coverage(target: Target, corpus: Path, findings: Path, seconds: int) -> None:
    """Run libFuzzer; it does not return."""
    longest = max([LONGEST_INPUT, *map(len, target.seeds)])
    options = {
        "max_total_time": seconds,
        "timeout": LONGEST,
        "rss_limit_mb": 0,
        "max_len": longest,
        "artifact_prefix": f"{findings}/{target.name}-",
        "print_final_stats": 1,
        "verbosity": 1,
    }
    arguments = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], target.run)
    limit_memory()
    atheris.Fuzz()


def fuzz_at_random(target: Target, findings: Path, seconds: int) -> None:
    """Damage seeds at random; what is running lies among the findings."""
    chosen, runs, end = random.Random(), 0, time.monotonic() + seconds
    limit_memory()
    while time.monotonic() < end:
        data = mutated(target.seeds, chosen)
        began = time.monotonic()
        finding = findings / f"{target.name}-crash-{hashlib.sha1(data).hexdigest()}"
        finding.write_bytes(data)
        target.run(data)
        assert time.monotonic() - began < LONGEST, "too slow"
        finding.unlink()
        runs += 1
    print(f"stat::number_of_executed_units: {runs}", file=sys.stderr)


def mutated(seeds: Sequence[bytes], chosen: random.Random) -> bytes:
    """Return a seed with some bytes changed, removed or added."""
    data = bytearray(chosen.choice(seeds))
    for _ in range(chosen.choice((1, 2, 8))):
        at = chosen.randrange(len(data) + 1)
        match chosen.randrange(4):
            case 0:
                data[at : at + 4] = chosen.randbytes(4)
            case 1:
                data[at : at + 1] = bytes([chosen.choice((0, 1, 127, 128, 255))])
            case 2:
                del data[at : at + chosen.randrange(16)]
            case 3:
                data[at:at] = chosen.randbytes(chosen.randrange(16))
    return bytes(data)


def main() -> None:
    """Fuzz."""
    name, corpus, findings, seconds = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    target = targets.target(name)
    for seed in target.seeds:
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    if atheris is None:
        fuzz_at_random(target, findings, int(seconds))
    else:
        fuzz_by_coverage(target, corpus, findings, int(seconds))


if __name__ == "__main__":
    main()
