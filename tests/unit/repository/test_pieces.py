"""`make test` runs every test file in one piece, and fails where a piece fails."""

import sys
from pathlib import Path

import pytest

from tests import __main__ as runner
from tests.support.paths import ROOT


def owns(piece: runner.Piece, file: str) -> bool:
    ignored = [word.removeprefix("--ignore=") for word in piece.words if "--ignore=" in word]
    taken = [word for word in piece.words if "--ignore=" not in word]
    return any(map(Path(file).is_relative_to, taken)) and not any(
        map(Path(file).is_relative_to, ignored)
    )


@pytest.mark.parametrize("cut, folder", [(runner.pieces, "tests"), (runner.halves, "tests/unit")])
def test_every_test_file_is_in_one_piece(cut, folder):
    files = [str(f.relative_to(ROOT)) for f in (ROOT / folder).rglob("test_*.py")]
    pieces = cut()
    assert len(files) > 100
    assert [f for f in files if sum(owns(piece, f) for piece in pieces) != 1] == []


def test_the_order_names_pieces():
    assert set(runner.ORDER) <= {piece.name for piece in runner.pieces()}


def test_a_piece_that_fails_fails_the_whole_and_the_others_still_run(monkeypatch, capfd):
    monkeypatch.setattr(runner, "PYTEST", [sys.executable, "-c"])
    words = {"good": "print('well')", "bad": "raise SystemExit(3)", "last": "print('too')"}
    made = [runner.Piece(name, [code]) for name, code in words.items()]
    monkeypatch.setattr(runner, "pieces", lambda: made)
    assert runner.main([]) == 1
    printed = capfd.readouterr().out
    assert "well" in printed and "too" in printed and "=== bad: exit code 3" in printed
