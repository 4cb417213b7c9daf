"""The study as the TOML file that makes it again."""

import json
import re
from collections.abc import Mapping
from typing import Any

_SKIPPED = ("out",)


def recipe(config: Mapping[str, Any]) -> str:
    """Write a configuration as TOML; what it says of nothing (null) is left out.

    >>> print(recipe({"seed": 0, "methods": ["cam", {"name": "occlusion", "patch": 15}], "out": "x"}))
    seed = 0
    methods = ["cam", { name = "occlusion", patch = 15 }]
    """
    lines = []
    for name, value in config.items():
        if value is None or name in _SKIPPED:
            continue
        if name == "models" and any("@" in str(model) for model in value):
            lines.append("# NAME@DIGEST is a network that came as a Python object: give its checkpoint")
        lines.append(f"{_key(name)} = {_toml(value)}")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case list() | tuple():
            items = [_toml(item) for item in value if item is not None]
            inline = f"[{', '.join(items)}]"
            return inline if len(inline) < 90 else "[\n" + "".join(f"  {item},\n" for item in items) + "]"
        case Mapping():
            items = [f"{_key(name)} = {_toml(item)}" for name, item in value.items() if item is not None]
            return f"{{ {', '.join(items)} }}" if items else "{}"
        case _:
            # a basic string of TOML has the escapes of JSON
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: object) -> str:
    return str(name) if re.fullmatch(r"[\w-]+", str(name), re.ASCII) else json.dumps(str(name))
