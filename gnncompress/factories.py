"""A user's own code, named on the command line: ``path/to/file.py:name`` or ``package.module:name``.

Such a file runs with the user's rights, as if they had typed ``python file.py``; it is loaded only when it is named.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

from gnncompress.errors import GnncompressError, UsageError

_NOT_THE_USERS = (Path(__file__).resolve().parent, Path(sysconfig.get_path("stdlib")).resolve())
_INSTALLED = {"site-packages", "dist-packages"}


def is_reference(name: str) -> bool:
    """Say whether ``name`` points at code (``file.py:name``, ``module:name``) instead of naming a known thing.

    So does a file without a name in it, for which whatever imports it says what is missing.
    """
    return ":" in name or name.endswith(".py")


def load_reference(reference: str) -> Callable[..., Any]:
    """Import what ``reference`` points at.

    Raises:
        UsageError: if there is no such file, module or attribute, if it is no function or class, or if the code
            raises while it is imported; the text names the line.
    """
    place, name = _split(reference)
    module = _module(reference, place)
    if not hasattr(module, name):
        public = sorted(
            key
            for key, value in vars(module).items()
            if callable(value) and not key.startswith("_") and getattr(value, "__module__", "") == module.__name__
        )
        raise UsageError(f"{reference}: {place} has no {name!r}; it has: {', '.join(public) or 'nothing to call'}")
    factory = getattr(module, name)
    if not callable(factory):
        raise UsageError(f"{reference}: {name!r} is a {type(factory).__name__}, not a function or class")
    return factory


def source_digest(reference: str) -> str:
    """Return the SHA-256 of the file that ``reference`` names, so that changed code is another run.

    Of that file alone: a change of what it imports or reads is not seen.

    Raises:
        UsageError: if there is no such file or module, or if a package around the module raises; the text names the
            line.
    """
    place, _ = _split(reference)
    path = _path(place)
    if path is None:
        with _importing(reference):
            found = importlib.util.find_spec(place)
        if found is None or not found.origin:
            raise UsageError(_no_module(reference))
        path = Path(found.origin)
    if not path.is_file():
        raise UsageError(f"{reference}: no such file as {path}")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def call_factory(reference: str, factory: Callable[..., Any], offered: Mapping[str, Any]) -> Any:
    """Call ``factory`` with those of the ``offered`` arguments that its signature names.

    Raises:
        UsageError: if it wants an argument that is not offered, or raises or exits; the text names the line.
    """
    with user_code(reference):
        return factory(**_arguments(reference, factory, offered))


@contextmanager
def user_code(reference: str) -> Iterator[None]:
    """Turn whatever the user's code raises here, and also its exit, into one line that names the line.

    Raises:
        UsageError: in place of what is not an error of this package.
    """
    try:
        yield
    except GnncompressError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"{reference} raised {_said(error, reference)}") from error


def _arguments(reference: str, factory: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(factory).parameters
    wanted = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    unknown = [name for name in wanted if name not in offered]
    if unknown:
        raise UsageError(
            f"{reference} wants {', '.join(unknown)}; it may take any of: {', '.join(offered) or 'no arguments'}"
        )
    return {name: value for name, value in offered.items() if name in parameters}


def _split(reference: str) -> tuple[str, str]:
    if reference.endswith(".py"):
        raise UsageError(f"{reference}: {_functions(Path(reference))}")
    place, _, name = reference.rpartition(":")
    if not place or not name.isidentifier():
        raise UsageError(f"{reference}: use file.py:name or package.module:name")
    return place, name


def _functions(path: Path) -> str:
    """Say which functions and classes a file has, without running it."""
    try:
        held = ast.parse(path.read_bytes()).body
    except OSError:
        return f"no such file as {path.resolve()}"
    except (SyntaxError, ValueError) as error:
        return f"is no Python ({error})"
    names = [
        one.name for one in held if isinstance(one, (ast.FunctionDef, ast.ClassDef)) and not one.name.startswith("_")
    ]
    example = names[0] if names else "build"
    return f"name a function in it, such as {path}:{example}; it has: {', '.join(names) or 'none'}"


def _path(place: str) -> Path | None:
    return Path(place) if place.endswith(".py") or "/" in place else None


@contextmanager
def _importing(reference: str) -> Iterator[None]:
    """Find a module as ``python -m`` would, also beside the user, and put what goes wrong in one line."""
    place, _ = _split(reference)
    by_name = _path(place) is None
    here = str(Path.cwd())
    if by_name and here not in sys.path:
        sys.path.append(here)
    try:
        yield
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        if by_name and isinstance(error, ModuleNotFoundError) and f"{place}.".startswith(f"{error.name}."):
            raise UsageError(_no_module(reference)) from error
        raise UsageError(f"{reference}: importing it raised {_said(error, reference)}") from error


def _no_module(reference: str) -> str:
    place, _ = _split(reference)
    return f"{reference}: no module {place!r} can be found; a file is named like my_file.py:build"


def _module(reference: str, place: str) -> ModuleType:
    path = _path(place)
    with _importing(reference):
        return importlib.import_module(place) if path is None else _from_file(reference, path.resolve())


def _from_file(reference: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"{reference}: no such file as {path}")
    # Named by place and content, so that a file that was changed is read again.
    name = f"gnncompress_user_{hashlib.sha256(str(path).encode() + path.read_bytes()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # what lies beside the file is imported as if the file were run
    loader = _AsWritten(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _AsWritten(SourceFileLoader):
    """Compiles the file each time: bytecode is cached by second and size, and may be of the text before an edit."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _said(error: BaseException, reference: str) -> str:
    """Return an error of the user's code in one line, with the line of that code that raised it."""
    text = ": ".join(part for part in (type(error).__name__, " ".join(str(error).split())) if part)
    if isinstance(error, SyntaxError):
        return text
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [item for item in frames if _is_in(item[0], reference)] or [item for item in frames if _is_users(item[0])]
    if not own:
        return text
    frame, line = own[-1]
    return f"{text} ({Path(frame.f_code.co_filename).name}, line {line})"


def _is_in(frame: FrameType, reference: str) -> bool:
    """Say whether a frame lies in the file that ``reference`` names."""
    place, _ = _split(reference)
    path = _path(place)
    if path is None:
        return bool(frame.f_globals.get("__name__") == place)
    return frame.f_code.co_filename == str(path.resolve())


def _is_users(frame: FrameType) -> bool:
    """Say whether a frame lies in neither this package nor Python nor something installed."""
    file = frame.f_code.co_filename
    path = Path(file).resolve()
    ours = any(path.is_relative_to(folder) for folder in _NOT_THE_USERS)
    return not file.startswith("<") and not ours and not _INSTALLED & set(path.parts)
