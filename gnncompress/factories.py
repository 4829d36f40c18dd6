"""A user's own code, named on the command line: ``path/to/file.py:name`` or ``package.module:name``.

Such a file runs with the user's rights, as if they had typed ``python file.py``; it is loaded only when it is named.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from gnncompress.errors import GnncompressError, UsageError


def is_reference(name: str) -> bool:
    """Say whether ``name`` points at code (``file.py:name``, ``module:name``) instead of naming a known thing."""
    return ":" in name


def load_reference(reference: str) -> Callable[..., Any]:
    """Import what ``reference`` points at.

    Raises:
        UsageError: if there is no such file, module or attribute, if it is no function or class, or if the code
            raises while it is imported; the text names the line.
    """
    place, name = _split(reference)
    module = _module(reference, place)
    if not hasattr(module, name):
        public = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise UsageError(f"{reference}: {place} has no {name!r}; it has: {', '.join(public) or 'nothing to call'}")
    factory = getattr(module, name)
    if not callable(factory):
        raise UsageError(f"{reference}: {name!r} is a {type(factory).__name__}, not a function or class")
    return factory


def source_digest(reference: str) -> str:
    """Return the SHA-256 of the file that ``reference`` names, so that changed code is another run.

    Raises:
        UsageError: if there is no such file or module.
    """
    place, _ = _split(reference)
    path = _path(place)
    if path is None:
        _see_working_folder()
        try:
            found = importlib.util.find_spec(place)
        except (ImportError, ValueError):
            found = None
        if found is None or not found.origin:
            raise UsageError(f"{reference}: no module {place!r} can be found; a file is named like my_file.py:build")
        path = Path(found.origin)
    if not path.is_file():
        raise UsageError(f"{reference}: no such file as {path}")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def call_factory(reference: str, factory: Callable[..., Any], offered: Mapping[str, Any]) -> Any:
    """Call ``factory`` with those of the ``offered`` arguments that its signature names.

    Raises:
        UsageError: if it wants an argument that is not offered, or raises; the text names the line.
    """
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
    named = {name: value for name, value in offered.items() if name in parameters}
    try:
        return factory(**named)
    except GnncompressError:
        raise
    except Exception as error:
        raise UsageError(f"{reference} raised {_said(error)}") from error


def _split(reference: str) -> tuple[str, str]:
    place, _, name = reference.rpartition(":")
    if not place or not name.isidentifier():
        raise UsageError(f"{reference}: use file.py:name or package.module:name")
    return place, name


def _path(place: str) -> Path | None:
    return Path(place) if place.endswith(".py") or "/" in place else None


def _see_working_folder() -> None:
    """A module beside the user is found as it would be by ``python -m``."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def _module(reference: str, place: str) -> ModuleType:
    path = _path(place)
    try:
        if path is None:
            _see_working_folder()
            return importlib.import_module(place)
        return _from_file(reference, path.resolve())
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        if f"{place}.".startswith(f"{error.name}."):
            raise UsageError(
                f"{reference}: no module {place!r} can be found; a file is named like my_file.py:build"
            ) from error
        raise UsageError(f"{reference}: importing it raised {_said(error)}") from error
    except Exception as error:
        raise UsageError(f"{reference}: importing it raised {_said(error)}") from error


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


def _said(error: Exception) -> str:
    """Return an error of the user's code in one line, with the line of that code that raised it."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, SyntaxError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith("<") and "gnncompress/" not in frame.filename]
    return f"{text} ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else text
