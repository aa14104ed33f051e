"""The one rule and the arrows: who may import whom, and what an import may load."""

import ast
import importlib.util
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {source.name: source for source in sorted(ROOT.glob("packages/*/src/*")) if (source / "__init__.py").exists()}
ROOMS = ["types", "protocols", "evaluation", "training", "language"]  # of rec_core; each may import those before it
HEAVY = {"torch", "transformers"}


def modules(package: str, *rooms: str) -> list[str]:
    """Every module of a package, or only those in the given rooms; `__main__` would run the command."""
    source = SOURCES[package]
    names = (
        ".".join(file.relative_to(source.parent).with_suffix("").parts).removesuffix(".__init__")
        for file in sorted(source.rglob("*.py"))
        if file.name != "__main__.py"
    )
    return [name for name in names if not rooms or room(name) in rooms]


def room(module: str) -> str:
    """The part of a package that a module lives in: `evaluation` for `rec_core.evaluation.metrics`."""
    return (module + "..").split(".")[1]


def imports(file: Path, package: str) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything a file imports: under TYPE_CHECKING, in functions and by name too."""
    parents = file.relative_to(SOURCES[package].parent).parts[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                above = parents[: len(parents) - level + 1] if level else ()
                origin = ".".join([*above, *([module] if module else [])])
                yield from ((node.lineno, f"{origin}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def imported_by(package: str) -> Iterator[tuple[str, str, str]]:
    """(where, module, imported name) for every import of a package."""
    source = SOURCES[package]
    for file in sorted(source.rglob("*.py")):
        module = ".".join(file.relative_to(source.parent).with_suffix("").parts).removesuffix(".__init__")
        for line, name in imports(file, package):
            yield f"{file.relative_to(ROOT)}:{line} imports {name}", module, name


def run_python(code: str, *arguments: str) -> str:
    """Standard output of a fresh interpreter, because this one has imported everything already."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(names: list[str]) -> set[str]:
    """Names of all modules that a fresh interpreter holds after it imported the given ones."""
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]; print(*sys.modules)"
    return set(run_python(code, *names).split())


def test_all_eight_packages_are_walked():
    assert len(SOURCES) == len(list(ROOT.glob("packages/*/pyproject.toml"))) == 8


@pytest.mark.parametrize("package", SOURCES)
def test_a_package_imports_rec_core_and_itself_and_never_a_sibling(package):
    siblings = SOURCES.keys() - {"rec_core", package}
    breaches = [where for where, _, name in imported_by(package) if name.partition(".")[0] in siblings]
    assert not breaches


@pytest.mark.parametrize("package", SOURCES)
def test_only_tests_import_rec_core_testing(package):
    breaches = [
        where
        for where, module, name in imported_by(package)
        if f"{name}.".startswith("rec_core.testing.") and not f"{module}.".startswith("rec_core.testing.")
    ]
    assert not breaches


def test_the_rooms_of_rec_core_import_only_the_rooms_before_them():
    breaches = [
        where
        for where, module, name in imported_by("rec_core")
        if room(module) in ROOMS
        and name.startswith("rec_core.")
        and room(name) in ROOMS[ROOMS.index(room(module)) + 1 :]
    ]
    assert not breaches


@pytest.mark.parametrize("here", [name for name in ROOMS if modules("rec_core", name)])
def test_importing_a_room_of_rec_core_loads_no_later_room_even_through_others(here):
    if here in ("training", "language"):
        pytest.importorskip("torch")
    later = ROOMS[ROOMS.index(here) + 1 :]
    loaded = loaded_by(modules("rec_core", here))
    assert not {name for name in loaded if name.startswith("rec_core.") and room(name) in later}


@pytest.mark.parametrize("package", ["rec_core", "rec_data", "rec_srs"])
def test_importing_the_package_loads_neither_torch_nor_transformers(package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed in this environment")
    assert not loaded_by([package]) & HEAVY


def test_rec_core_and_rec_data_need_torch_only_for_training_and_language():
    light = [name for name in modules("rec_core") if room(name) not in ("training", "language", "testing")]
    assert not loaded_by([*light, *modules("rec_data")]) & HEAVY


@pytest.mark.parametrize("here", [name for name in ("evaluation", "training") if modules("rec_core", name)])
def test_evaluation_and_training_import_without_polars(here):
    if here == "training":
        pytest.importorskip("torch")
    code = """
import importlib, sys

class NoPolars:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "polars":
            raise ImportError("polars is blocked by this test")

sys.meta_path.insert(0, NoPolars())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
    run_python(code, *modules("rec_core", here))


def console_scripts() -> dict[str, str]:
    """Command -> `module:function`, as far as the module is written and its package is installed here."""
    scripts: dict[str, str] = {}
    for file in sorted(ROOT.glob("packages/*/pyproject.toml")):
        scripts |= tomllib.loads(file.read_text(encoding="utf-8"))["project"].get("scripts", {})
    written = {name for package in SOURCES if importlib.util.find_spec(package) for name in modules(package)}
    return {command: target for command, target in scripts.items() if target.partition(":")[0] in written}


@pytest.mark.parametrize(("command", "target"), console_scripts().items())
def test_help_answers_without_loading_torch(command, target):
    module, _, function = target.partition(":")
    code = f"""
import sys
from {module} import {function}
sys.argv = ["{command}", "--help"]
try:
    {function}()
except SystemExit as stop:
    assert not stop.code, stop.code
print("LOADED", *sys.modules)
"""
    output = run_python(code)
    shown, _, loaded = output.partition("LOADED")
    assert command in shown
    assert not set(loaded.split()) & HEAVY
