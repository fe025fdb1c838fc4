"""`python -m tests.killing --tries 30`: the whole table; the exit code is 1 if a try has failed."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.killing.commands import COMMANDS, NEED_VCENTER
from tests.killing.site import site
from tests.killing.tries import LIMIT, SIGNALS, Way, attempt, moments


def main() -> int:
    """Make the tries and print the table, a line a command and way."""
    parser = argparse.ArgumentParser(prog="python -m tests.killing")
    parser.add_argument("--tries", type=int, default=30, help="moments of each combination")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds to end in")
    parser.add_argument("--only", nargs="*", choices=list(COMMANDS), default=list(COMMANDS))
    arguments = parser.parse_args()
    failures = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="killing-") as top, site(Path(top)) as shared:
        print(f"{'command':<14} {'way':<9} {'signal':<8} tries   bad  longest s  exit codes")
        for name in arguments.only:
            if name in NEED_VCENTER and "GOVC_URL" not in shared.environment:
                print(f"{name:<14} not tried: no vcsim (scripts/vcsim builds it)")
                continue
            random = Random(f"{arguments.seed} {name}")
            for way in Way:
                for number in SIGNALS:
                    found = [
                        attempt(
                            shared,
                            name,
                            way,
                            number,
                            moment,
                            Path(tempfile.mkdtemp(dir=top)) / "try",
                            arguments.limit,
                        )
                        for moment in moments(
                            shared, name, Path(tempfile.mkdtemp(dir=top)), arguments.tries, random
                        )
                    ]
                    bad = [result for result in found if result.problems]
                    failures += len(bad)
                    codes = Counter(result.code for result in found)
                    shown = ", ".join(f"{code}: {count}" for code, count in sorted(codes.items()))
                    longest = max(result.seconds for result in found)
                    print(
                        f"{name:<14} {way:<9} {number.name:<8} {len(found):>5} {len(bad):>5} "
                        f"{longest:>10.2f}  {shown}",
                        flush=True,
                    )
                    for result in bad:
                        print(
                            f"    at {result.moment:.3f} s: {'; '.join(result.problems)}",
                            flush=True,
                        )
    print(f"{failures} failures in {time.monotonic() - began:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
