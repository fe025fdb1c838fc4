"""Checks of what commands write with --json against docs/json.schema.json."""

from __future__ import annotations

import json
from typing import Any

import jsonschema

from tests.support.paths import ROOT

SCHEMA = json.loads((ROOT / "docs/json.schema.json").read_text())


def check(name: str, value: object) -> None:
    """Fail unless a value is as the schema says, and has no key that it does not name."""
    schema = {"$ref": f"#/$defs/{name}", "$defs": _closed(SCHEMA["$defs"])}
    errors = jsonschema.Draft202012Validator(schema).iter_errors(value)
    error = jsonschema.exceptions.best_match(errors)
    assert error is None, f"{error.json_path}: {error.message}"


def _closed(part: Any) -> Any:
    """Return a schema that refuses keys without a description."""
    if isinstance(part, list):
        return [_closed(each) for each in part]
    if not isinstance(part, dict):
        return part
    closed = {key: _closed(value) for key, value in part.items()}
    if isinstance(part.get("properties"), dict) and part.get("type") == "object":
        closed["additionalProperties"] = False
    return closed
