"""The documentation stays true: links lead somewhere, commands parse, the configuration reference
and the list of error messages are those of the code."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer

from cluster.cli.main import app
from geoagent_rl.config.describe import at
from geoagent_rl.config.reference import reference
from tests.support.documents import PAGES, commands
from tests.support.paths import ROOT

ERRORS = ("NoEngineCompletes", "UserError", "BadImage", "InfraError", "LearnerLost")
SHOWN = (
    60  # characters of a message that the troubleshooting page must hold; fewer where it is shorter
)
SHELL = ("&", "&&", "|", ";", ">", "<", "2>")  # what follows is no longer the command's
CLI = typer.main.get_command(app)


def name_of(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_relative_link_leads_to_a_file(path):
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    local = [link.split("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert not [link for link in local if not (path.parent / link).exists()]


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site name them."""
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_link_into_a_page_leads_to_a_heading(path):
    links = re.findall(r"\]\(([\w./-]*\.md)#([^)\s]+)\)", path.read_text(encoding="utf-8"))
    assert not [f"{page}#{to}" for page, to in links if to not in headings(path.parent / page)]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_command_in_the_documentation_parses(path):
    for line in commands(path.read_text(encoding="utf-8")):
        words = shlex.split(line, comments=True)[1:]
        words = words[: next((i for i, word in enumerate(words) if word in SHELL), len(words))]
        command, name = CLI, "geoagent-rl"
        while hasattr(command, "commands") and words and words[0] not in ("-h", "--help"):
            name = words.pop(0)
            assert name in command.commands, f"{line}: no command {name}"
            command = command.commands[name]
        if {"-h", "--help"} & set(words):
            continue
        context = command.make_context(name, words)
        keys = [item.split("=")[0] for item in context.params.get("overrides") or ()]
        assert all(at(key) for key in keys), line


def test_the_configuration_reference_is_that_of_the_code():
    """Mend: python -m geoagent_rl.config.reference docs/configuration.md"""
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == reference()


def template(node: ast.expr) -> str:
    """A message as written, "…" for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) else "…" for part in node.values
        )
    return "…"


def messages() -> set[str]:
    """Every message with words of its own that the code raises as one of ERRORS."""
    found = set()
    for package in ("geoagent_rl", "actors", "cluster"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id in ERRORS
                    and node.args
                ):
                    found.add(re.sub("…+", "…", template(node.args[0])))
    return {message for message in found if len(re.findall("[a-z]", message)) > 5}


def test_the_troubleshooting_page_has_every_error_message():
    """Mend: add the message, in backquotes, to the section of docs/troubleshooting.md that it
    belongs to.
    """
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert sorted(message for message in messages() if message[:SHOWN].rstrip() not in page) == []


def test_the_troubleshooting_page_has_no_message_that_is_gone():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    listed = re.findall(r"^- `(.+?)`$", page, re.MULTILINE)
    known = messages()
    assert (
        listed
        and [said for said in listed if not any(message.startswith(said) for message in known)]
        == []
    )
