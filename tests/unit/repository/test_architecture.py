"""The rules that keep the code readable and movable: how long things get, declared dependencies, no
machine in a file. Who may import whom is in pyproject.toml (import-linter, run by `make lint`).
"""

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import ROOT

MOST_LINES, MOST_FUNCTION_LINES = 420, 72  # at 100 columns
PACKAGES = ("geoagent_rl", "actors", "cluster")
MACHINE = "|".join(
    (
        r"index-url +=? *https?://",
        r"https?://[^ \"')]*/simple",
        r"(^|[ \"'=:(])/(root|opt|home|srv|w[o]rk|f[a]rm|tmp/[a-z])/",
    )
)


def tracked(*patterns: str) -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of every import in a file, those inside functions included."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_every_import_is_a_declared_dependency():
    """What the code imports must be installed by the project itself, not only by chance through
    something else.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = project["dependencies"] + [
        text for extra in project["optional-dependencies"].values() for text in extra
    ]
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    declared |= {
        "torchvision"
    }  # comes with both builds of vLLM, which alone know the version that fits
    provided = packages_distributions()
    undeclared = {}
    for path in [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]:
        for name in imported(ast.parse(path.read_text())) - sys.stdlib_module_names - set(PACKAGES):
            if not {canonicalize_name(dist) for dist in provided.get(name, [])} & declared:
                undeclared.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert not undeclared


def test_files_and_functions_stay_short():
    too_long = []
    for path in tracked("*.py"):
        text = path.read_text()
        name = path.relative_to(ROOT)
        if (lines := text.count("\n")) > MOST_LINES:
            too_long.append(f"{name}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if (lines := node.end_lineno - node.lineno + 1) > MOST_FUNCTION_LINES:
                    too_long.append(f"{name}:{node.lineno} {node.name}: {lines} lines")
    assert not too_long


def test_no_machine_path_or_registry_host_in_any_file():
    command = [
        "git",
        "grep",
        "-nIE",
        MACHINE,
        "--",
        ".",
        ":!tests/unit/repository/test_architecture.py",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    if done.returncode > 1:
        pytest.skip("not a git checkout")
    assert done.stdout == ""


def test_unit_tests_mirror_the_packages():
    """tests/unit/geo is of geoagent_rl/geo, tests/unit/cluster/cli of cluster/cli; what lies loose
    is of a module that lies loose in geoagent_rl; tests/unit/repository is of the repository.
    """
    unit = ROOT / "tests" / "unit"
    for path in unit.rglob("test_*.py"):
        room = path.parent.relative_to(unit).as_posix()
        if room == ".":
            module = f"{path.stem.removeprefix('test_')}.py"
            assert (ROOT / "geoagent_rl" / module).exists(), path
        elif room != "repository":
            assert any((root / room).is_dir() for root in (ROOT, ROOT / "geoagent_rl")), path
