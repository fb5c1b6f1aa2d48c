"""Tables -> TOML text. The same tables give the same bytes, whatever the order they were put together in."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any


def toml_text(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of ``tables``, sorted by name.

    Args:
        tables: name -> text, booleans, finite numbers, lists of these, and tables; floats are rounded to six decimals.

    Raises:
        ValueError: a number that is not finite, or a value TOML cannot hold.
    """
    text = "".join(line + "\n" for name in sorted(tables) for line in _table_lines((name,), tables[name]))
    tomllib.loads(text)
    return text


def _table_lines(name: tuple[str, ...], table: Mapping[str, Any]) -> Iterator[str]:
    plain = {k: v for k, v in table.items() if not isinstance(v, Mapping)}
    if plain or not table:
        yield ""
        yield "[" + ".".join(map(_key, name)) + "]"
        for key in sorted(plain):
            yield f"{_key(key)} = {_value(plain[key])}"
    for key in sorted(k for k, v in table.items() if isinstance(v, Mapping)):
        yield from _table_lines((*name, key), table[key])


def _key(key: str) -> str:
    return key if key and all(c.isascii() and (c.isalnum() or c in "_-") for c in key) else json.dumps(key)


def _value(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            # JSON escapes are a subset of TOML's, but for DEL, which JSON leaves bare.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case int():
            return str(value)
        case float() if math.isfinite(value):
            return repr(round(value, 6))
        case list() | tuple():
            return "[" + ", ".join(map(_value, value)) + "]"
        case _:
            raise ValueError(f"TOML cannot hold {value!r}")
