"""Parsed JSON -> dataclasses, with every name, type and value checked against the annotations.

Rules about values are part of annotations: `Annotated[int, Rule("1 or more", lambda n: n > 0)]`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hsnet_trt.errors import BundleError

Record = TypeVar("Record")

_MISTYPED = object()
_UNIONS = (types.UnionType, typing.Union)  # the second for unions with an Annotated member
_LARGEST = 1e300  # largest integer that is converted to a float


@dataclass(frozen=True)
class Rule:
    """A condition on a value of the right type."""

    words: str  # for errors: what is expected
    holds: Callable[[Any], bool]
    shown: Callable[[Any], Any] = lambda value: value  # the part of a value that errors quote


def parse(text: str, what: str) -> Any:
    """Parse JSON; `what` names the text in errors.

    Raises:
        BundleError: not JSON, or a key occurs twice in an object, since parsers then differ.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"{what} is not JSON", found=str(error)[:200], fix="export the bundle again"
        ) from error


def read_record(kind: type[Record], data: Any, where: str) -> Record:
    """Build a dataclass from parsed JSON.

    Args:
        kind: the dataclass; its fields' annotations are the schema.
        data: what `parse` returned.
        where: names it in errors, followed by the field.

    Raises:
        BundleError: a field is missing, unknown, of another type, or breaks its rule. The error
            names it, with what was expected and what was found.
    """
    if not isinstance(data, dict):
        raise _wrong(where, f"an object ({kind.__name__})", data)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    needed = {
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    if missing := sorted(needed - data.keys()):
        raise _wrong(f"{where}.{missing[0]}", "a value", "nothing", quoted=False)
    if unknown := sorted(data.keys() - fields.keys()):
        raise _wrong(where, f"no other keys than {sorted(fields)}", unknown)
    hints = typing.get_type_hints(kind, include_extras=True)
    return kind(
        **{name: _value(hints[name], value, f"{where}.{name}") for name, value in data.items()}
    )


def _value(hint: Any, value: Any, where: str) -> Any:
    hint, rules = _bare(hint)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    read: Any = _MISTYPED
    if dataclasses.is_dataclass(hint):
        read = read_record(typing.cast("type[Any]", hint), value, where)
    elif origin in _UNIONS:
        fitting = [kind for kind in args if type(value) is _bare(kind)[0]]
        read = _value(fitting[0], value, where) if fitting else read
    elif origin is tuple and isinstance(value, list):
        inner = [args[0]] * len(value) if args[1:] == (...,) else list(args)
        if len(inner) == len(value):
            parts = zip(inner, value, strict=True)
            read = tuple(_value(h, v, f"{where}[{i}]") for i, (h, v) in enumerate(parts))
    elif origin is dict and isinstance(value, dict):
        read = {
            _value(args[0], k, f"a key of {where}"): _value(args[1], v, f"{where}[{k!r}]")
            for k, v in value.items()
        }
    elif hint is float and type(value) in (int, float):
        read = float(value) if abs(value) < _LARGEST or type(value) is float else read
    elif type(value) is hint:
        read = value
    if read is _MISTYPED:
        raise _wrong(where, _words(hint), value)
    for rule in rules:
        if not rule.holds(read):
            raise _wrong(where, rule.words, rule.shown(read))
    return read


def _bare(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """An annotation's type, and its rules."""
    if typing.get_origin(hint) is typing.Annotated:
        return typing.get_args(hint)[0], typing.get_args(hint)[1:]
    return hint, ()


def _words(hint: Any) -> str:
    """A type in words: `a list (2 in all: a whole number)`."""
    names = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        type(None): "null",
    }
    hint = _bare(hint)[0]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        return " or ".join(_words(kind) for kind in args)
    if origin is tuple:
        count = "" if args[1:] == (...,) else f"{len(args)} in all: "
        return f"a list ({count}{_words(args[0])})"
    if origin is dict:
        return f"an object (each of its values {_words(args[1])})"
    return names.get(hint) or f"an object ({getattr(hint, '__name__', hint)})"


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _wrong(where: str, expected: str, found: Any, *, quoted: bool = True) -> BundleError:
    try:
        shown = repr(found)[:200] if quoted else str(found)
    except ValueError:  # an integer of thousands of digits
        shown = f"a number of about {int(math.log10(abs(found)))} digits"
    return BundleError(
        f"{where} is not as it should be",
        expected=expected,
        found=shown,
        fix="the manifest was edited or damaged: export the bundle again",
    )
