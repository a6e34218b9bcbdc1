"""TOML files into frozen msgspec structs, with every fault reported at once.

msgspec stops at the first fault; an operator who fixes a file over a slow link wants all of them. So the
document is walked against the struct types first, then converted, then the structs' own cross-field checks
run. It knows nothing of any daemon's keys.

A struct may define ``faults(self) -> Iterable[tuple[str, str]]``: key (relative to the struct, may be empty)
and message of everything that only shows when fields are seen together.
"""

import math
import os
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union

import msgspec

from sterna.errors import ConfigError

T = TypeVar("T")
Fault = tuple[str, str]

CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
_TOML_POSITION = re.compile(r"^(?P<what>.*) \(at (?P<where>[^()]*)\)$", re.DOTALL)
_TABLE, _KEY = re.compile(r"\((?:'[^']*'(?:, )?)+,?\)"), re.compile(r"'([^']*)'")
_MSGSPEC_POSITION = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<where>.*)`)?$", re.DOTALL)


def load(path: Path, kind: type[T]) -> T:
    """Read one TOML file.

    Parameters
    ----------
    path : Path
        The file; the messages show its last part.
    kind : type
        A frozen `msgspec.Struct`. Fields of type `Path` may begin with ``$CREDENTIALS_DIRECTORY/``, the one
        environment variable that counts: where systemd puts secrets.

    Raises
    ------
    ConfigError
        One fault a line, as ``agent.toml: meters[0].poll_interval_s: expected float, got str``.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name}: not UTF-8 at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        found = _TOML_POSITION.match(str(error))
        message = f"{found['where']}: {_bracketed(_lowered(found['what']))}" if found else str(error)
        raise ConfigError(f"{path.name}: {message}") from error
    return parse(document, kind, name=path.name)


def parse(document: Mapping[str, object], kind: type[T], *, name: str) -> T:
    """Turn a document into a struct; `name` stands for the file in messages. Raises as `load` does."""
    _raise(name, list(_document_faults(document, kind, "")))
    try:
        loaded = msgspec.convert(document, kind, dec_hook=_decode)
    except msgspec.ValidationError as error:
        # What the walk cannot see, e.g. a struct's __post_init__.
        found = _MSGSPEC_POSITION.match(str(error))
        assert found is not None
        _raise(name, [(found["where"] or "", _lowered(found["what"]))])
        raise AssertionError from error
    _raise(name, list(_cross_field_faults(loaded, "")))
    return loaded


def read_secret(path: Path) -> str:
    """Read a secret (a password, a token) from its file; a newline at the end is not part of it.

    Raises
    ------
    ConfigError
        When the file cannot be read, is empty, or may be read by everybody.
    """
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
        open_to_all = path.stat().st_mode & 0o004
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the secret: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: the secret is not UTF-8") from error
    if not secret:
        raise ConfigError(f"{path}: the secret is empty")
    if open_to_all:
        raise ConfigError(f"{path}: the secret may be read by everybody; chmod o-r")
    return secret


def _raise(name: str, faults: list[Fault]) -> None:
    if faults:
        raise ConfigError(
            "\n".join(f"{name}: {key}: {what}" if key else f"{name}: {what}" for key, what in faults)
        )


def _document_faults(value: object, kind: Any, at: str) -> Iterator[Fault]:
    """Every fault that a value has against a type, without stopping at the first."""
    inner = _unwrapped(kind)
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    structs = _structs_in(inner)
    if structs and isinstance(value, dict):
        yield from _table_faults(value, structs, at)
    elif origin in {list, tuple, frozenset, set} and isinstance(value, list):
        yield from _array_faults(value, kind, origin, arguments, at)
    elif origin is dict and isinstance(value, dict):
        for key, item in value.items():
            yield from _document_faults(item, arguments[1], _join(at, key))
    elif isinstance(value, float) and not math.isfinite(value):
        yield at, "must be a finite number"
    else:
        yield from _leaf_faults(value, kind, at)


def _array_faults(
    value: list[object], kind: Any, origin: Any, arguments: tuple[Any, ...], at: str
) -> Iterator[Fault]:
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        yield from _leaf_faults(value, kind, at)
        return
    inside = [
        fault
        for index, item in enumerate(value)
        for fault in _document_faults(item, arguments[0], f"{at}[{index}]")
    ]
    # The array's own constraints (a minimum length) only make sense over sound items.
    yield from inside or _leaf_faults(value, kind, at)


def _table_faults(value: dict[str, object], structs: list[type], at: str) -> Iterator[Fault]:
    chosen, tag_field = structs[0], structs[0].__struct_config__.tag_field  # type: ignore[attr-defined]
    if tag_field is not None:
        by_tag = {struct.__struct_config__.tag: struct for struct in structs}  # type: ignore[attr-defined]
        tag = value.get(tag_field)
        words = ", ".join(repr(known) for known in by_tag)
        if tag is None and len(structs) > 1:
            yield _join(at, tag_field), f"missing; one of {words}"
            return
        if tag is not None and tag not in list(by_tag):
            yield _join(at, tag_field), f"unknown {tag!r}; one of {words}"
            return
        chosen = structs[0] if tag is None else by_tag[tag]
    fields = {field.encode_name: field for field in msgspec.structs.fields(chosen)}
    for key in value:
        if key not in fields and key != tag_field:
            yield _join(at, key), "unknown key" + _did_you_mean(key, fields)
    for key, field in fields.items():
        if key in value:
            yield from _document_faults(value[key], field.type, _join(at, key))
        elif field.required:
            yield _join(at, key), "missing"


def _leaf_faults(value: object, kind: Any, at: str) -> Iterator[Fault]:
    try:
        msgspec.convert(value, kind, dec_hook=_decode)
    except msgspec.ValidationError as error:
        found = _MSGSPEC_POSITION.match(str(error))
        message = _lowered(found["what"] if found else str(error))
        words = _choices(_unwrapped(kind)) if message.startswith("invalid enum value") else ""
        yield at, message + words


def _cross_field_faults(value: object, at: str) -> Iterator[Fault]:
    if isinstance(value, msgspec.Struct):
        check: Callable[[], Iterable[Fault]] | None = getattr(value, "faults", None)
        if callable(check):
            for key, what in check():
                yield _join(at, key), what
        names = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        for name, key in names:
            yield from _cross_field_faults(getattr(value, name), _join(at, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _cross_field_faults(item, f"{at}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _cross_field_faults(item, _join(at, str(key)))


def _unwrapped(kind: Any) -> Any:
    """Return the type without Annotated and None: TOML has no null, an absent key is the default."""
    while True:
        if typing.get_origin(kind) is Annotated:
            kind = typing.get_args(kind)[0]
        elif typing.get_origin(kind) in {Union, types.UnionType}:
            members = [member for member in typing.get_args(kind) if member is not type(None)]
            if len(members) != 1:
                return kind
            kind = members[0]
        else:
            return kind


def _structs_in(kind: Any) -> list[type]:
    union = typing.get_origin(kind) in {Union, types.UnionType}
    members = [_unwrapped(member) for member in typing.get_args(kind)] if union else [kind]
    return [member for member in members if isinstance(member, type) and issubclass(member, msgspec.Struct)]


def _choices(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "; one of " + ", ".join(repr(choice) for choice in typing.get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "; one of " + ", ".join(repr(choice.value) for choice in kind)
    return ""


def _join(at: str, key: str) -> str:
    return f"{at}.{key}" if at and key else at or key


def _did_you_mean(key: str, known: Iterable[str]) -> str:
    import difflib  # only a faulty file pays for it

    close = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _lowered(message: str) -> str:
    words = (message[:1].lower() + message[1:]).replace("`", "")
    return re.sub(r"\bobject\b", "table", words)


def _bracketed(message: str) -> str:
    """Name tables as the file does: ``('grid', 'mqtt')`` becomes ``[grid.mqtt]``."""
    return _TABLE.sub(lambda found: "[" + ".".join(_KEY.findall(found[0])) + "]", message)


def _decode(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return _expanded(value)
    raise msgspec.ValidationError(f"Expected {kind.__name__}, got {type(value).__name__}")


def _expanded(value: str) -> Path:
    variable = f"${CREDENTIALS_VARIABLE}/"
    if not value.startswith(variable):
        return Path(value)
    folder = os.environ.get(CREDENTIALS_VARIABLE)
    if folder is None:
        raise msgspec.ValidationError(
            f"${CREDENTIALS_VARIABLE} is not set (systemd's LoadCredential sets it)"
        )
    return Path(folder) / value.removeprefix(variable)
