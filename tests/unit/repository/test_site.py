"""The documentation builds as a site without a warning, and the site asks no other server for
anything. The notebook runs."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from tests.support.monitor_runs import new_run, photograph, record
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_the_site_has_every_page_and_needs_no_other_server(site):
    pages = {path.relative_to(site).with_suffix(".md") for path in site.rglob("*.html")}
    sources = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if page.name != "404.md"} == sources
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img)[^>]+(?:src|href)=\"(https?:[^\"]+)", page.read_text()
        )
        assert loaded == [], page


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 900


def test_every_page_is_in_the_navigation_and_in_the_index():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = re.findall(r"[\w/-]+\.md", json.dumps(nav))
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    assert sorted(listed) == sorted(pages)
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert {page for page in pages if f"]({page})" not in index} == {"index.md"}


def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    record(new_run(tmp_path), photograph(tmp_path / "photos"), range(1, 6))
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "docs" / "explore.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    names: dict[str, object] = {}
    for number, code in enumerate(cells):
        exec(compile(code, f"cell {number}", "exec"), names)
    assert len(cells) >= 7 and "groups taught nothing" in capsys.readouterr().out
    assert names[
        "table"
    ]().total.is_monotonic_decreasing  # as the notebook says: less and less right
    assert not any(cell.get("outputs") for cell in notebook["cells"])
