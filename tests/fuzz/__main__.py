"""`python -m tests.fuzz [--seconds N] [TARGET...]`: fuzz the targets, all of them together for about so long.

The corpus stays in fixtures/cache/fuzz, so that a further run goes on where the last one ended. Inputs that
broke something are left beside it; `python -m tests.fuzz --repeat FILE TARGET` shows what one does.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz import targets

CACHE = targets.ROOT / "fixtures" / "cache" / "fuzz"
SECONDS = 60
STARTING = 120
"""Seconds that a worker has for its imports and images, and for the last input."""


def main() -> int:
    """Run the workers, as many at a time as there are processors, and say what they found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    default = int(os.environ.get("FUZZ_SECONDS", SECONDS))
    parser.add_argument("--seconds", type=int, default=default, help="for all of it (%(default)s)")
    parser.add_argument("--repeat", type=Path, metavar="FILE", help="run one input and end")
    parser.add_argument("targets", nargs="*", help=" ".join(targets.names()))
    arguments = parser.parse_args()
    chosen = arguments.targets or targets.names()
    unknown = set(chosen) - set(targets.names())
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if arguments.repeat:
        for name in chosen:
            targets.target(name).run(arguments.repeat.read_bytes())
        return 0
    workers = min(len(chosen), os.cpu_count() or 1)
    seconds = max(1, arguments.seconds * workers // len(chosen))
    with ThreadPoolExecutor(workers) as pool:
        ok = list(pool.map(lambda name: fuzz(name, seconds), chosen))
    return 0 if all(ok) else 1


def fuzz(name: str, seconds: int) -> bool:
    """Fuzz one target; print how it went, and say whether nothing was found."""
    corpus, findings = CACHE / name, CACHE / "findings"
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.worker", name, str(corpus), str(findings)]
    done = subprocess.run(
        [*command, str(seconds)],
        cwd=targets.ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds + STARTING,
        check=False,
    )
    runs = re.findall(r"number_of_executed_units: (\d+)", done.stdout)
    print(f"{name:16} {runs[-1] if runs else '?':>9} inputs in {seconds} s", flush=True)
    if done.returncode:
        print(re.sub(r"INFO: .*\n", "", done.stdout)[-4000:], flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
