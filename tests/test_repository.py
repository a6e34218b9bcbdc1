"""What the repository promises about itself."""

import ast
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("agent", "coordinator", "sterna")
MODULES = sorted(
    path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if path.parent != ROOT / "sterna" / "v1"
)
SHELL_SCRIPTS = sorted(
    path
    for path in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"]
    if path.is_file() and path.read_bytes().startswith(b"#!") and b"bash" in path.read_bytes().split(b"\n")[0]
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_no_module_is_longer_than_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_module_says_what_it_owns(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_of_code_is_a_package(package: str) -> None:
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    missing = [relative(folder) for folder in folders if not (folder / "__init__.py").exists()]
    assert missing == []


@pytest.mark.parametrize("path", SHELL_SCRIPTS, ids=relative)
def test_scripts_are_strict_sound_and_executable(path: Path) -> None:
    assert os.access(path, os.X_OK)
    assert "\nset -euo pipefail\n" in path.read_text()
    subprocess.run(["bash", "-n", str(path)], check=True, timeout=10)


def test_the_scripts_that_the_documents_name_exist() -> None:
    names = {path.name for path in SHELL_SCRIPTS}
    assert {"setup", "check", "test", "test-long", "demo", "bench", "gen-protos", "run"} <= names


def test_ci_runs_the_test_command_and_nothing_else() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[0].startswith("#!")
    assert lines[1:] == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "./scripts/test"]


def test_bench_lists_its_names_and_runs_none_without_one() -> None:
    done = subprocess.run(
        [str(ROOT / "scripts" / "bench")], capture_output=True, text=True, check=False, timeout=10, cwd="/"
    )
    assert done.returncode == 2
    assert "usage: scripts/bench NAME" in done.stderr
    for benchmark in (ROOT / "benchmarks").glob("[a-z]*.py"):
        assert f"  {benchmark.stem.replace('_', '-')}\n" in done.stderr


def requirements() -> set[str]:
    extras = PROJECT["optional-dependencies"]
    named = [*PROJECT["dependencies"], *(line for lines in extras.values() for line in lines)]
    return {re.split(r"[\[<>=~! ]", line)[0] for line in named} - {"sterna"}


@pytest.mark.parametrize("requirement", sorted(requirements()))
def test_every_dependency_has_its_reason(requirement: str) -> None:
    reasons = (ROOT / "docs" / "dependencies.md").read_text()
    assert re.search(rf"^\| `{re.escape(requirement)}` \| \S", reasons, re.MULTILINE)


def test_no_reason_is_left_over() -> None:
    reasons = (ROOT / "docs" / "dependencies.md").read_text()
    assert set(re.findall(r"^\| `([^`]+)` \|", reasons, re.MULTILINE)) == requirements()


def test_the_glossary_defines_each_word_once() -> None:
    words = re.findall(r"^\*\*([^*]+)\*\*", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert len(words) > 20
    assert len(words) == len(set(words))
    assert words == sorted(words, key=str.casefold)


def test_the_commands_start_code_that_exists() -> None:
    for target in PROJECT["scripts"].values():
        module, _, function = target.partition(":")
        source = ROOT / Path(*module.split(".")).with_suffix(".py")
        if not source.exists():
            source = source.with_suffix("") / "__init__.py"
        functions = [node.name for node in ast.parse(source.read_text()).body if hasattr(node, "name")]
        assert function in functions


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=relative)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_handbook_lists_every_page() -> None:
    listed = set(re.findall(r"\(([\w-]+\.md)\)", (ROOT / "docs" / "README.md").read_text()))
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
