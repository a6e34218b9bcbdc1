"""What a pickle says about torch's storages, found without executing it.

Opcodes are followed with inert stand-ins: nothing is imported, called or built. What a pickle would call is
kept as `_Call`, what it would look up as `_Global`; both are only looked at.
"""

import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_OPCODES = 10_000_000
MAX_NAME_CHARS = 512
_MARK = object()
_REBUILD = "torch._utils _rebuild_tensor"


class UnreadableError(Exception):
    """Not a pickle, or one that uses what ours does not follow; lives between here and `torchzip`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """One storage: where in the tree it first occurs, its element type in torch's words, its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(slots=True, eq=False)
class _Global:
    name: str


@dataclass(slots=True, eq=False)
class _Call:
    function: Any
    arguments: Any
    items: list[Any] = field(default_factory=list)
    """What was appended or set afterwards, keys and values in turn for dictionaries."""
    states: list[Any] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Pairs:
    """A dictionary or, without values, a set."""

    items: list[Any] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Persistent:
    arguments: Any


def storages(data: bytes) -> dict[str, Storage]:
    """Find the storages by key.

    Raises
    ------
    UnreadableError
        It is not a pickle that this follows.
    """
    try:
        return _named(_Machine().run(data))
    except UnreadableError:
        raise
    except Exception as error:  # a hostile pickle can break a stack machine in every way there is
        raise UnreadableError("not a pickle that can be followed") from error


class _Machine:
    """The stack and the memo."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MAX_OPCODES:
                raise UnreadableError("too long")
            if opcode.name == "STOP":
                return self._stack[-1]
            if opcode.name in _LITERALS:
                self._stack.append(argument)
            else:
                _OPCODES[opcode.name](self, argument)
        raise UnreadableError("no end")

    def _since_mark(self) -> list[Any]:
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise UnreadableError("no mark")
        found = self._stack[at + 1 :]
        del self._stack[at:]
        return found

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self, count: int) -> list[Any]:
        found = self._stack[-count:]
        del self._stack[-count:]
        return found

    def _tuple(self, count: int) -> None:
        self._push(tuple(self._pop(count)))

    def _extend(self, items: list[Any]) -> None:
        """Add to the list, dictionary, set or called object on top."""
        top = self._stack[-1]
        (top if isinstance(top, list) else top.items).extend(items)

    def _call(self, function: Any, arguments: Any) -> None:
        self._push(_Call(function, arguments))

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _build(self) -> None:
        (state,) = self._pop(1)
        top = self._stack[-1]
        if isinstance(top, _Call):
            top.states.append(state)


_LITERALS = frozenset(
    {
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
    }
)

# Private members of _Machine are this table's business: it is the other half of the class.
_OPCODES: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda m, a: None,
    "FRAME": lambda m, a: None,
    "MARK": lambda m, a: m._push(_MARK),
    "POP": lambda m, a: m._pop(1),
    "POP_MARK": lambda m, a: m._since_mark(),
    "DUP": lambda m, a: m._push(m._stack[-1]),
    "NONE": lambda m, a: m._push(None),
    "NEWTRUE": lambda m, a: m._push(True),
    "NEWFALSE": lambda m, a: m._push(False),
    "EMPTY_TUPLE": lambda m, a: m._push(()),
    "TUPLE": lambda m, a: m._push(tuple(m._since_mark())),
    "TUPLE1": lambda m, a: m._tuple(1),
    "TUPLE2": lambda m, a: m._tuple(2),
    "TUPLE3": lambda m, a: m._tuple(3),
    "EMPTY_LIST": lambda m, a: m._push([]),
    "LIST": lambda m, a: m._push(m._since_mark()),
    "APPEND": lambda m, a: m._extend(m._pop(1)),
    "APPENDS": lambda m, a: m._extend(m._since_mark()),
    "EMPTY_DICT": lambda m, a: m._push(_Pairs()),
    "DICT": lambda m, a: m._push(_Pairs(m._since_mark())),
    "SETITEM": lambda m, a: m._extend(m._pop(2)),
    "SETITEMS": lambda m, a: m._extend(m._since_mark()),
    "EMPTY_SET": lambda m, a: m._push([]),
    "ADDITEMS": lambda m, a: m._extend(m._since_mark()),
    "FROZENSET": lambda m, a: m._push(tuple(m._since_mark())),
    "GLOBAL": lambda m, a: m._push(_Global(a)),
    "STACK_GLOBAL": lambda m, a: m._push(_Global(" ".join(m._pop(2)))),
    "REDUCE": lambda m, a: m._call(*m._pop(2)),
    "NEWOBJ": lambda m, a: m._call(*m._pop(2)),
    "NEWOBJ_EX": lambda m, a: m._call(*m._pop(3)[:2]),
    "BUILD": lambda m, a: m._build(),
    "BINPERSID": lambda m, a: m._push(_Persistent(m._pop(1)[0])),
    "PUT": lambda m, a: m._put(a),
    "BINPUT": lambda m, a: m._put(a),
    "LONG_BINPUT": lambda m, a: m._put(a),
    "MEMOIZE": lambda m, a: m._put(len(m._memo)),
    "GET": lambda m, a: m._push(m._memo[a]),
    "BINGET": lambda m, a: m._push(m._memo[a]),
    "LONG_BINGET": lambda m, a: m._push(m._memo[a]),
}


def _named(root: Any) -> dict[str, Storage]:
    """Walk the tree, every node once, and name each storage by the first way to it."""
    found: dict[str, Storage] = {}
    names: set[str] = set()
    seen: set[int] = set()
    alive: list[Any] = []  # an id may be used again once its object is gone
    pending: list[tuple[str, Any]] = [("", root)]
    while pending:
        path, node = pending.pop()
        if not isinstance(node, list | tuple | _Pairs | _Call) or id(node) in seen:
            continue
        seen.add(id(node))
        alive.append(node)
        if isinstance(node, _Call) and _is_tensor(node):
            key, storage = _storage(node, path)
            name = storage.name if storage.name not in names else f"{storage.name}#{key}"
            names.add(name)
            found.setdefault(key, Storage(name=name, dtype=storage.dtype, shape=storage.shape))
        else:
            children = [((path + label)[-MAX_NAME_CHARS:], child) for label, child in _children(node)]
            pending += reversed(children)
    return found


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, _Pairs):
        for key, value in zip(node.items[::2], node.items[1::2], strict=True):
            yield f"/{key}"[:MAX_NAME_CHARS] if isinstance(key, str | int) else "/?", value
    elif isinstance(node, _Call):
        yield "", node.arguments
        ordered = isinstance(node.function, _Global) and node.function.name == "collections OrderedDict"
        yield "", _Pairs(node.items) if ordered else node.items
        yield from (("", state) for state in node.states)
    else:
        for index, child in enumerate(node):
            yield f"/{index}" if len(node) > 1 else "", child


def _is_tensor(node: _Call) -> bool:
    return (
        isinstance(node.function, _Global)
        and node.function.name.startswith(_REBUILD)
        and bool(node.arguments)
        and isinstance(node.arguments[0], _Persistent)
    )


def _storage(node: _Call, path: str) -> tuple[str, Storage]:
    _, kind, key, _, _ = node.arguments[0].arguments
    shape = node.arguments[2]
    typed = node.arguments[6] if len(node.arguments) > 6 and isinstance(node.arguments[6], _Global) else kind
    dtype = typed.name.rpartition(" ")[2].removesuffix("Storage")
    whole = isinstance(shape, tuple) and all(type(size) is int for size in shape)
    name = path.lstrip("/")
    return str(key), Storage(name=name or str(key), dtype=dtype, shape=shape if whole else ())
