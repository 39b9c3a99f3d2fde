"""Options that belong together, as one parameter of a verb."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints


def flatten(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with its groups of options replaced by their options, as typer needs it.

    Typer makes an option of each parameter of a function. A group is a dataclass whose fields have
    defaults and are annotated as such parameters. The function returned has them in place of
    the group; when called, it makes the group of their values and calls the verb with it.
    """
    hints = get_type_hints(verb, include_extras=True)
    signature = inspect.signature(verb)
    groups: dict[str, type[Any]] = {
        name: kind
        for name, kind in hints.items()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    }
    parameters = []
    for parameter in signature.parameters.values():
        if parameter.name not in groups:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
            continue
        kind = groups[parameter.name]
        types = get_type_hints(kind, include_extras=True)
        parameters += [
            inspect.Parameter(
                field.name, parameter.kind, default=field.default, annotation=types[field.name]
            )
            for field in dataclasses.fields(kind)
        ]

    @functools.wraps(verb)
    def flat(**typed: Any) -> None:
        for name, kind in groups.items():
            fields = {field.name: typed.pop(field.name) for field in dataclasses.fields(kind)}
            typed[name] = kind(**fields)
        verb(**typed)

    flat.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {p.name: p.annotation for p in parameters}
    return flat
