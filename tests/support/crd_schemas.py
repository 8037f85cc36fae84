"""The schemas in CustomResourceDefinitions, as their projects publish them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def schemas_in(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Of every CustomResourceDefinition in the YAML files of a folder: apiVersion and kind → its schema, which refuses
    what it does not name, as `kubectl apply` does.
    """
    found = {}
    for file in sorted(folder.rglob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            for one in (document or {}).get("items", [document or {}]):
                if one.get("kind") == "CustomResourceDefinition":
                    spec = one["spec"]
                    for version in spec["versions"]:
                        schema = _closed(version["schema"]["openAPIV3Schema"])
                        schema["properties"]["metadata"] = {"type": "object"}
                        found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(part) for name, part in schema.items()}
    open_to_more = closed.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in closed
    if closed.get("type") == "object" and isinstance(closed.get("properties"), dict) and not open_to_more:
        closed["additionalProperties"] = False
    return closed
