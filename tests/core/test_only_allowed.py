"""Code that a file names: imported only where the user says so, said on stderr, and never able to end the command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from evaluate.core.components import ALLOW, Registry, only_allowed
from evaluate.core.errors import UsageError

THINGS: Registry[object] = Registry("thing of a test")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a module that registers `it`, and gives its name and the file that it writes when it is imported."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv(ALLOW, raising=False)
    names = []

    def make(more: str = "") -> tuple[str, Path]:
        names.append(f"strangers_{tmp_path.name}_{len(names)}".replace("-", "_"))
        file = tmp_path / f"{names[-1]}.imported"
        (tmp_path / f"{names[-1]}.py").write_text(
            f"open({str(file)!r}, 'w').close()\n{more}\nfrom {__name__} import THINGS\n"
            f"@THINGS.register({names[-1]!r})\ndef it(): 'What it is.'\n"
        )
        return names[-1], file

    yield make
    for name in names:
        sys.modules.pop(name, None)


def test_what_a_recipe_names_is_imported_and_said(module, capsys):
    name, file = module("print('hello from it')")
    assert THINGS.get(f"{name}:{name}").target is sys.modules[name].it and file.exists()
    out, err = capsys.readouterr()
    assert not out and f"importing {name}" in err and "hello from it" in err


def test_what_a_file_names_is_not_imported(module, capsys):
    name, file = module()
    with only_allowed(), pytest.raises(UsageError, match=rf"--allow {name} \(or LEANFIT_ALLOW={name}\)"):
        THINGS.get(f"{name}:{name}")
    assert not file.exists() and name not in sys.modules and capsys.readouterr() == ("", "")


@pytest.mark.parametrize("how", ["named", "package", "environment", "around", "imported"])
def test_what_the_user_allows_is_imported(how, module, monkeypatch):
    name, file = module()
    allow = {"named": ["other", name], "package": [name.split(".")[0]]}.get(how, [])
    if how == "environment":
        monkeypatch.setenv(ALLOW, f"other, {name}")
    if how == "imported":
        __import__(name)
    with only_allowed([name] if how == "around" else ()), only_allowed(allow):
        assert THINGS.get(f"{name}:{name}").name == name and file.exists()


def test_what_was_allowed_once_is_not_allowed_afterwards(module):
    (one, _), (other, file) = module(), module()
    with only_allowed([one]):
        THINGS.get(f"{one}:{one}")
    with only_allowed(), pytest.raises(UsageError, match="--allow"):
        THINGS.get(f"{other}:{other}")
    assert not file.exists()


@pytest.mark.parametrize(
    "ends", ["raise SystemExit(0)", "import sys; sys.exit()", "raise BaseException('no')", "1 / 0"]
)
def test_a_module_that_cannot_be_imported_is_one_error(ends, module):
    name, _ = module(ends)
    with pytest.raises(UsageError, match=f"importing '{name}' failed"):
        THINGS.get(f"{name}:{name}")


@pytest.mark.parametrize(
    "address", ["os:system", "builtins:eval", ":it", ".x:it", "..:it", "a b:it", "os.path:join", "x:y:z"]
)
def test_an_address_of_nothing_registered_is_one_error(address):
    with pytest.raises(UsageError):
        THINGS.get(address)
