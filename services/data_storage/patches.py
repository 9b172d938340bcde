"""placeholder until merged"""
from typing import Any
def apply(data: Any, patch: Any, kind: str, field: str) -> Any:
    if kind == "json": raise NotImplementedError
    return merge(data, patch)
def merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged
