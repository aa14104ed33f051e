"""What pip sees of each package: name, version, licence, types."""

import tomllib
from importlib import import_module
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(file.parent for file in ROOT.glob("packages/*/pyproject.toml"))


def project(package: Path) -> dict:
    return tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_folder_import_name_and_version_agree(package):
    settings = project(package)
    module = import_module(package.name.replace("-", "_"))
    assert settings["name"] == package.name
    assert settings["version"] == module.__version__ == version(package.name)
    assert Path(module.__file__).parent == package / "src" / module.__name__  # this checkout, not another one


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_types_licence_and_readme_travel_in_the_wheel(package):
    assert (package / "src" / package.name.replace("-", "_") / "py.typed").exists()
    assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (package / project(package)["readme"]).read_text(encoding="utf-8").startswith(f"# {package.name}\n")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_requires_no_sibling(package):
    settings = project(package)
    required = [*settings["dependencies"], *chain(*settings["optional-dependencies"].values())]
    siblings = {other.name for other in PACKAGES} - {"rec-core", package.name}
    assert not [name for name in required if name.startswith(tuple(siblings))]
