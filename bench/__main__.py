"""`python -m bench`: the two benches that the README quotes."""

from __future__ import annotations

import sys

from bench import local, remote


def main() -> None:
    """Run both."""
    sys.argv[1:] = []
    local.main()
    remote.main()


if __name__ == "__main__":
    main()
