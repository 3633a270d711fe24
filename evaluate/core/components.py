"""The one registry: passes, models, tasks, metrics, losses, laws, units and whatever else is called by a name.

A component is a function or a class that its decorator put under a name. A recipe calls it by that name, or as
`module:name`, which imports the module and takes what it registered: never an arbitrary function of it. The source of a
component is part of every key that a result of it is kept under.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import inspect
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Generic, TypeVar

from evaluate.core.errors import LeanfitError, UsageError, did_you_mean

T = TypeVar("T")
F = TypeVar("F")

ENTRY_POINTS = "leanfit"
ALLOW = "LEANFIT_ALLOW"
_OURS = ("compress", "evaluate", "leanfit")
_ALL: dict[str, Registry[Any]] = {}
_allowed: ContextVar[Sequence[str] | None] = ContextVar("allowed", default=None)


@dataclass(frozen=True)
class Component(Generic[T]):
    """Something registered. `facts` holds what its kind declares besides (a pass's traits, a unit's factors).

    code : the hash of its source as it was when it was registered, which is the code that runs.
    """

    kind: str
    name: str
    target: T
    facts: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""

    @property
    def module(self) -> str:
        """The module that defines it."""
        return str(getattr(self.target, "__module__", "") or "")

    @property
    def built_in(self) -> bool:
        """Whether it comes with leanfit."""
        return self.module.split(".")[0] in _OURS

    @property
    def address(self) -> str:
        """What a recipe or an artifact calls it by in a fresh process: plain for built-ins, else `module:name`."""
        return self.name if self.built_in or self.module == "__main__" else f"{self.module}:{self.name}"

    @property
    def summary(self) -> str:
        """The first line of its docstring, or the fact of this name."""
        return str(self.facts.get("summary") or "") or (inspect.getdoc(self.target) or "").strip().split("\n")[0]

    @property
    def source(self) -> str:
        """SHA-256, in hex, of the code it is made of: its module, and what that imports of the same package.

        For a user's own it is that of the code as registered and of the files as they are now. Where a file was changed
        and not imported again, or a helper was imported again alone, the two differ, and no other process shares it.
        """
        return hashlib.sha256(f"{self.code} {source_of_target(self.target)}".encode()).hexdigest()


class Registry(Generic[T]):
    """The components of one kind, in the order in which they were registered.

    kind  : what messages call one of them: "pass", "metric".
    home  : the package whose import registers the built-in ones; imported at the first look-up.
    error : what an unknown name raises.
    inner : whether users meet them only in artifacts, never naming one: they are left out of lists.
    """

    def __init__(
        self, kind: str, home: str = "", error: type[LeanfitError] = UsageError, *, inner: bool = False
    ) -> None:
        self.kind, self.home, self.error, self.inner = kind, home, error, inner
        self.problems: list[str] = []  # of packages whose entry points could not be imported
        self._known: dict[str, Component[T]] = {}
        self._whole = False
        _ALL[kind] = self

    def register(self, name: str, **facts: Any) -> Callable[[F], F]:
        """Decorator: put a function or class under `name`. Raises ValueError where another one has that name."""

        def decorate(target: F) -> F:
            own = getattr(target, "__module__", "").split(".")[0] not in _OURS
            new: Component[Any] = Component(self.kind, name, target, facts, source_of_target(target) if own else "")
            known = self._known.get(name)
            if known is not None and _identity(known.target) != _identity(target):
                raise ValueError(f"a {self.kind} named {name!r} is registered already, by {_identity(known.target)}")
            self._known[name] = new
            return target

        return decorate

    def registered(self) -> dict[str, Component[T]]:
        """The components that are registered so far; nothing is imported."""
        return dict(self._known)

    def forget(self, name: str) -> None:
        """Take a component out again, as tests do with their own."""
        self._known.pop(name, None)

    def all(self, *, installed: bool = True) -> dict[str, Component[T]]:
        """All components by name: the built-in ones, those of installed packages (entry points), the user's own."""
        if self.home and self.home not in sys.modules:
            importlib.import_module(self.home)
        if installed and not self._whole:
            self._whole = True
            self.problems += _load_entry_points()
        return dict(self._known)

    def get(self, name: str) -> Component[T]:
        """The component of a name, or of `package.module:name`. Raises `error`, with the nearest name."""
        if ":" in name:
            return self._addressed(name)
        known = self._known.get(name) or self.all(installed=False).get(name) or self.all().get(name)
        if known is None:
            broken = "".join(f" {problem}." for problem in self.problems)
            near = did_you_mean(name, self._known) or "."
            raise self.error(
                f"unknown {self.kind} {name!r}{near} Known: {', '.join(self._known)}; "
                f"one of your own is named as package.module:name.{broken}"
            )
        return known

    def _addressed(self, address: str) -> Component[T]:
        module, _, name = address.partition(":")
        self.load(module, address)
        own = {n: c for n, c in self._known.items() if c.module == module}
        if name in own:
            return own[name]
        raise self.error(
            f"{self.kind} {address!r}: module {module!r} registers no {self.kind} named {name!r}"
            f"{did_you_mean(name, own) or '.'} It registers {', '.join(own) or 'nothing'}. Only what is decorated with "
            f"@register_{self.kind}({name!r}) in that module can be used by name."
        )

    def load(self, module: str, address: str) -> None:
        """Import the module of an address, unless it is; that is said on stderr, and what it prints goes there too.

        Raises `error` where a file that is only read wants it, and where the import fails.
        """
        if module in sys.modules:
            return
        allowed = _allowed.get()
        if allowed is not None and module not in allowed and module.split(".")[0] not in allowed:
            raise self.error(
                f"{self.kind} {address!r}: the file wants the module {module!r}, which is code of whoever wrote it; "
                f"where you trust it: --allow {module} (or {ALLOW}={module})"
            )
        sys.stderr.write(f"leanfit: importing {module}, which {self.kind} {address!r} names\n")
        try:
            with contextlib.redirect_stdout(sys.stderr):
                importlib.import_module(module)
        except BaseException as error:  # SystemExit too: a module does not end the process
            if isinstance(error, KeyboardInterrupt):
                raise
            raise self.error(
                f"{self.kind} {address!r}: importing {module!r} failed: {type(error).__name__}: {error}. Install it, "
                "or put its folder on PYTHONPATH (for the current folder: PYTHONPATH=. leanfit ...)."
            ) from error


def registries() -> dict[str, Registry[Any]]:
    """Every registry that exists so far, by its kind."""
    return dict(_ALL)


@contextlib.contextmanager
def only_allowed(allow: Sequence[str] = ()) -> Iterator[None]:
    """Inside, a file that is only read (an artifact, a bundle, a Record) makes nothing be imported.

    allow : modules or packages that may be; $LEANFIT_ALLOW (separated by commas) adds to them, and so does what is
            allowed around this. What is imported already may be used: the user's own program did that.
    """
    more = (part.strip() for part in os.environ.get(ALLOW, "").split(","))
    token = _allowed.set((*(_allowed.get() or ()), *allow, *filter(None, more)))
    try:
        yield
    finally:
        _allowed.reset(token)


@functools.lru_cache(maxsize=1)
def _load_entry_points() -> tuple[str, ...]:
    """Import what installed packages offer under the entry point group `leanfit`; a sentence for each that fails."""
    import importlib.metadata  # ten milliseconds, which only a look-up of what is installed is worth

    problems = []
    found: Any = importlib.metadata.entry_points()  # of Python 3.9: a dict
    for point in found.select(group=ENTRY_POINTS) if hasattr(found, "select") else found.get(ENTRY_POINTS, []):
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                point.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001  (a stranger's package may raise anything)
            problems.append(f"the entry point {point.name!r} ({point.value}) cannot be loaded: {error}")
    return tuple(problems)


def _identity(target: Any) -> str:
    return f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', repr(target))}"


def _typed_in(target: Any) -> str:
    """The source of what has no file; its bytecode where none is kept, as at a prompt."""
    try:
        return inspect.getsource(target)
    except (OSError, TypeError):
        code = getattr(target, "__code__", None)
        return type(target).__qualname__ if code is None else str(code.co_code.hex())


def source_of_target(target: Any) -> str:
    """SHA-256, in hex, of the code of a function or class; of itself alone where it is in no file."""
    module = str(getattr(target, "__module__", "") or "")
    return source_of_module(module) or hashlib.sha256(_typed_in(target).encode()).hexdigest()


def source_of_module(module: str) -> str:
    """SHA-256, in hex, of `files_of_module`. Empty where it has no file."""
    return _source_of_ours(module) if module.split(".")[0] in _OURS else _read_source(module)


@functools.lru_cache(maxsize=256)
def _source_of_ours(module: str) -> str:
    return _read_source(module)


def _read_source(module: str) -> str:
    digest = hashlib.sha256()
    files = files_of_module(module)
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name].read_bytes() + b"\0")
    return digest.hexdigest() if files else ""


def files_of_module(module: str) -> dict[str, Path]:
    """Name -> file of a module and of all that it imports, directly or not, from the same place.

    The same place is its top-level package, or for a module on its own the files beside it. leanfit's packages count as
    one. Read from disk, so that it does not matter what has been imported so far.
    """
    ours = module.split(".")[0] in _OURS
    waiting, seen = [module], dict[str, Path]()
    while waiting:
        name = waiting.pop()
        if name in seen or (ours and name.split(".")[0] not in _OURS):
            continue
        file = _file_of(name, module)
        if file is not None:
            seen[name] = file
            waiting += _imported(file.read_bytes().decode("utf-8", "replace"), name)
    return seen


def _file_of(name: str, start: str) -> Path | None:
    """The source file of a module that lies in the same place as `start`, found without importing anything."""
    here = _root_of(start)
    if here is None:
        return None
    home, alone = here
    if not alone and name.split(".")[0] != start.split(".")[0] and name.split(".")[0] not in _OURS:
        return None
    if name == "__main__":
        file = getattr(sys.modules[name], "__file__", None)  # a notebook and a prompt have none
        return Path(file) if file else None
    place = home.joinpath(*name.split("."))
    return next((f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file()), None)


def _root_of(module: str) -> tuple[Path, bool] | None:
    """The folder that holds a module's top-level package or file, and whether the files beside it belong to it.

    None for what has no file, and for Python's own library, whose modules all lie beside each other.
    """
    if module.split(".")[0] in getattr(sys, "stdlib_module_names", ()):  # Python 3.10 on
        return None
    top = sys.modules.get(module.split(".")[0])
    file = getattr(top, "__file__", None)
    if not file or not str(file).endswith(".py"):
        return None
    path = Path(file)
    package = path.name == "__init__.py"
    home = path.parent.parent if package else path.parent
    installed = bool({"site-packages", "dist-packages"} & set(home.parts))
    return home, not package and not installed


_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]+)|import[ \t]+([^\n#]+))", re.M)


def _imported(source: str, name: str) -> Iterator[str]:
    """Names that may be modules, of every import statement at any depth."""
    for origin, names, plain in _IMPORT.findall(source):
        if plain:
            yield from (part.split()[0] for part in plain.split(",") if part.split())
            continue
        dots = len(origin) - len(origin.lstrip("."))
        base = origin if not dots else ".".join([*name.split(".")[:-dots], *filter(None, [origin.lstrip(".")])])
        yield base
        yield from (f"{base}.{part.split()[0]}" for part in names.strip("()").split(",") if part.split())
