"""Add the shared libraries inside wheels to a CycloneDX bill: python packaging/add_libraries.py BILL ENVIRONMENT."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(bill: Path, environment: Path) -> None:
    """Add the components of the bills that lie in wheels (PEP 770), each once. Raises OSError, ValueError."""
    whole = json.loads(bill.read_text("utf-8"))
    known = {one.get("purl", one["name"]) for one in whole["components"]}
    for part in sorted(environment.rglob("*.dist-info/sboms/*.cdx.json")):
        for component in json.loads(part.read_text("utf-8")).get("components", ()):
            name = component.get("purl", component["name"])
            if name not in known and not name.startswith("pkg:pypi/"):
                known.add(name)
                whole["components"].append(component)
    bill.write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
