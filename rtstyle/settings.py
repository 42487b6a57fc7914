"""Checks that settings have the types that they declare, so that a mistake is named where it was made."""

from __future__ import annotations

import os
from fractions import Fraction
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rtstyle.errors import SettingError

_ALSO: dict[Any, tuple[type, ...]] = {float: (Real,), Fraction: (Real,), int: (Integral,), Path: (str, os.PathLike)}
"""What is accepted for a declared type beside itself."""


def check_types(settings: Any) -> None:
    """Compare the fields of a dataclass with their declared types.

    Raises:
        SettingError: A field has another type, or none of the words that it may have.
    """
    kind = type(settings)
    for name, declared in _declared(kind).items():
        value = getattr(settings, name)
        if not _fits(value, declared):
            expected = " or ".join(word for part in _parts(declared) for word in _words(part))
            raise SettingError(f"{name} of {kind.__name__} must be {expected}, got {value!r}"[:300])


def check_is(name: str, value: object, kind: type | tuple[type, ...]) -> None:
    """Refuse an argument of another type.

    Args:
        name: Of the argument.
        kind: The type that it should have, or several.

    Raises:
        SettingError: It has another type.
    """
    if not isinstance(value, kind):
        kinds = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
        raise SettingError(f"{name} must be {kinds}, got {value!r}"[:300])


def read_seconds(text: str) -> Fraction:
    """Read seconds, or H:MM:SS.mmm, exactly.

    Raises:
        ValueError: It is neither, or below 0.
    """
    seconds = Fraction(0)
    try:
        for part in text.split(":"):
            seconds = 60 * seconds + Fraction(part)
    except ZeroDivisionError as error:
        raise ValueError(f"{text} has no value") from error
    if seconds < 0:
        raise ValueError(f"{text} is below 0")
    return seconds


_known: dict[type, dict[str, Any]] = {}


def _declared(kind: type) -> dict[str, Any]:
    if kind not in _known:
        _known[kind] = get_type_hints(kind)
    return _known[kind]


def _parts(declared: Any) -> tuple[Any, ...]:
    if get_origin(declared) in (Union, UnionType):
        return tuple(part for each in get_args(declared) for part in _parts(each))
    return (declared,)


def _words(declared: Any) -> list[str]:
    if get_origin(declared) is Literal:
        return [repr(each) for each in get_args(declared)]
    if declared is NoneType:
        return ["None"]
    return [declared.__name__ if isinstance(declared, type) and not get_args(declared) else str(declared)]


def _fits(value: object, declared: Any) -> bool:
    return any(_fits_one(value, part) for part in _parts(declared))


def _fits_one(value: object, declared: Any) -> bool:
    origin, inner = get_origin(declared), get_args(declared)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return False
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return len(kinds) == len(value) and all(map(_fits, value, kinds))
    if declared is None or declared is NoneType:
        return value is None
    if not isinstance(declared, type) or origin or getattr(declared, "_is_protocol", False):
        return True
    if isinstance(value, bool) and declared is not bool:
        return False
    return isinstance(value, (declared, *_ALSO.get(declared, ())))
