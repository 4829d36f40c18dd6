from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gnncompress.errors import UsageError
from gnncompress.factories import call_factory, is_reference, load_reference, source_digest
from tests.conftest import Result, one_line


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, text: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


def test_names_are_told_from_references() -> None:
    assert is_reference("my_file.py:build")
    assert is_reference("package.module:build")
    assert is_reference("my_file.py"), "a file, of which it is yet to be said what is meant in it"
    assert not is_reference("gcn")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "def build(): ...\ndef _hidden(): ...\nclass Net: ...\nVALUE = 1\n",
            "mine.py: name a function in it, such as mine.py:build; it has: build, Net",
        ),
        ("raise SystemExit\n", "mine.py: name a function in it, such as mine.py:build; it has: none"),
        ("def (\n", "mine.py: is no Python ("),
        (None, "mine.py: no such file as "),
    ],
)
def test_a_file_without_a_name_in_it_says_what_it_has(here: Path, text: str | None, message: str) -> None:
    if text is not None:
        write("mine.py", text)
    for wanted in (load_reference, source_digest):
        with pytest.raises(UsageError) as caught:
            wanted("mine.py")
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)


def test_files_and_what_lies_beside_them(here: Path) -> None:
    write("code/beside_them.py", "VALUE = 41\n")
    write("code/mine.py", "from beside_them import VALUE\ndef make(): return VALUE + 1\nclass Thing: pass\n")
    assert load_reference("code/mine.py:make")() == 42
    assert load_reference(f"{here}/code/mine.py:Thing").__name__ == "Thing"


def test_modules_in_the_working_folder(here: Path) -> None:
    write("module_of_mine_in_cwd.py", "def make(): return 7\n")
    assert load_reference("module_of_mine_in_cwd:make")() == 7
    assert load_reference("json:dumps")([1]) == "[1]"


def test_a_changed_file_is_read_again(here: Path) -> None:
    write("mine.py", "def make(): return 1\n")
    first, digest = load_reference("mine.py:make")(), source_digest("mine.py:make")
    write("mine.py", "def make(): return 2\n")
    assert (first, load_reference("mine.py:make")()) == (1, 2)
    assert source_digest("mine.py:make") != digest
    write("mine.py", "def make(): return 1\n")
    assert source_digest("mine.py:make") == digest


def test_an_edit_within_a_second_is_seen_by_the_next_process(here: Path) -> None:
    write("mine.py", "def make(): return 1\n")
    load_reference("mine.py:make")
    assert not Path("__pycache__").exists()  # whose entries tell no two texts of one second and one size apart


def test_digest_of_a_module_imports_nothing(here: Path) -> None:
    write("module_that_must_not_run.py", "raise SystemExit\n")
    assert len(source_digest("module_that_must_not_run:make")) == 64


@pytest.mark.parametrize(
    ("reference", "text", "message"),
    [
        ("mine.py:build", "def built(): pass\ndef _hidden(): pass\n", "mine.py has no 'build'; it has: built"),
        ("mine.py:build", "", "mine.py has no 'build'; it has: nothing to call"),
        ("mine.py:build", "build = 3\n", "mine.py:build: 'build' is a int, not a function or class"),
        (
            "mine.py:build",
            "x = 1\nx / 0\n",
            r"importing it raised ZeroDivisionError: division by zero \(mine.py, line 2\)",
        ),
        ("mine.py:build", "def build(:\n", "importing it raised SyntaxError: invalid syntax .*line 1"),
        (
            "mine.py:build",
            "import not_there_at_all\n",
            "importing it raised ModuleNotFoundError: No module named 'not_th",
        ),
        ("other.py:build", "", "other.py:build: no such file as .*other.py"),
        ("no.such.module:build", "", "no.such.module:build: no module 'no.such.module' can be found"),
        ("no_such_module:build", "", "no_such_module:build: no module 'no_such_module' can be found; a file is named"),
        ("mine.py:", "", "mine.py:: use file.py:name or package.module:name"),
        (":build", "", ":build: use file.py:name or package.module:name"),
        ("mine.py:a b", "", "use file.py:name or package.module:name"),
    ],
)
def test_code_that_cannot_be_loaded(here: Path, reference: str, text: str, message: str) -> None:
    write("mine.py", text)
    with pytest.raises(UsageError, match=message) as caught:
        load_reference(reference)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reference", ["nowhere.py:load", "no_such_module_at_all:load", "no.such.package:load"])
def test_digest_of_nothing(here: Path, reference: str) -> None:
    with pytest.raises(UsageError, match=r"no such file as|no module"):
        source_digest(reference)


def test_factories_get_what_they_name(here: Path) -> None:
    offered = {"features": 5, "classes": 3}
    assert call_factory("x:f", lambda features, classes: (features, classes), offered) == (5, 3)
    assert call_factory("x:f", lambda classes, width=9: (classes, width), offered) == (3, 9)
    assert call_factory("x:f", lambda: 1, offered) == 1
    with pytest.raises(UsageError, match="x:f wants width; it may take any of: features, classes"):
        call_factory("x:f", lambda width: width, offered)
    with pytest.raises(UsageError, match="x:f wants width; it may take any of: no arguments"):
        call_factory("x:f", lambda width: width, {})


def test_a_factory_that_raises_names_its_line(here: Path) -> None:
    write("mine.py", "def build():\n    value = {}\n    return value['key']\n")
    with pytest.raises(UsageError, match=r"mine.py:build raised KeyError: 'key' \(mine.py, line 3\)"):
        call_factory("mine.py:build", load_reference("mine.py:build"), {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0\n", r"ZeroDivisionError: division by zero \(__init__.py, line 1\)"),
        ("\nraise ValueError('two\\nlines')\n", r"ValueError: two lines \(__init__.py, line 2\)"),
        ("import sys\nsys.exit('not today')\n", r"SystemExit: not today \(__init__.py, line 2\)"),
        ("import not_there\n", r"ModuleNotFoundError: No module named 'not_there' \(__init__.py, line 1\)"),
    ],
)
@pytest.mark.parametrize("ask", [source_digest, load_reference])
def test_a_package_that_raises_when_it_is_looked_into(
    here: Path, text: str, message: str, ask: Callable[[str], object]
) -> None:
    package = here.name  # another one each time: Python remembers where it found a package
    write(f"{package}/__init__.py", text)
    write(f"{package}/inside.py", "def build(): pass\n")
    with pytest.raises(UsageError, match=f"{package}.inside:build: importing it raised {message}") as caught:
        ask(f"{package}.inside:build")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import sys\nsys.exit('no data')\n",
            "mine.py:build: importing it raised SystemExit: no data .mine.py, line 2",
        ),
        ("def build():\n    raise SystemExit(3)\n", r"mine.py:build raised SystemExit: 3 \(mine.py, line 2\)"),
        ("import sys\ndef build(): sys.exit()\n", r"mine.py:build raised SystemExit \(mine.py, line 2\)"),
        ("def build():\n    assert 0\n", r"mine.py:build raised AssertionError \(mine.py, line 2\)"),
        ("from builtins import dict as build\n", "mine.py:build raised ValueError: no signature found"),
    ],
)
def test_code_that_exits_is_told_of(here: Path, text: str, message: str) -> None:
    write("mine.py", text)
    with pytest.raises(UsageError, match=message) as caught:
        call_factory("mine.py:build", load_reference("mine.py:build"), {})
    assert "\n" not in str(caught.value)


def test_an_exit_of_the_users_code_is_an_error_of_the_command_line(here: Path, cli: Callable[..., Result]) -> None:
    write("mine.py", "import sys\ndef load():\n    sys.exit('no data here')\n")
    result = cli("train", "-d", "mine.py:load", "-o", here / "runs")
    assert result.code == 2
    one_line(result, "mine.py:load raised SystemExit: no data here (mine.py, line 3)")


RAISING = """import json
from beside import parse

def inside(): return json.loads("{")
def deep(): return parse("{")
def torchs():
    import torch
    return torch.nn.Linear(3, 2)(torch.ones(1, 4))
"""


@pytest.mark.parametrize(("name", "line"), [("inside", 4), ("deep", 5), ("torchs", 8)])
@pytest.mark.parametrize("folder", ["code", "gnncompress", "venv/lib/site-packages"])
def test_the_line_that_is_named_is_in_the_users_file(here: Path, folder: str, name: str, line: int) -> None:
    write(f"{folder}/mine.py", RAISING)
    write(f"{folder}/beside.py", "import json\n\n\n\n\n\n\n\n\n\ndef parse(text): return json.loads(text)\n")
    reference = f"{folder}/mine.py:{name}"
    with pytest.raises(UsageError, match=rf" \(mine\.py, line {line}\)$"):
        call_factory(reference, load_reference(reference), {})


def test_the_line_of_a_module_or_of_what_it_imports(here: Path) -> None:
    write("mine_in_cwd.py", "import json\nfrom helper_in_cwd import build\ndef make(): return json.loads('{')\n")
    write("helper_in_cwd.py", "import json\n\ndef build(): return json.loads('{')\n")
    with pytest.raises(UsageError, match=r"\(mine_in_cwd\.py, line 3\)"):
        call_factory("mine_in_cwd:make", load_reference("mine_in_cwd:make"), {})
    with pytest.raises(UsageError, match=r"\(helper_in_cwd\.py, line 3\)"):  # not Python's own json
        call_factory("mine_in_cwd:build", load_reference("mine_in_cwd:build"), {})
