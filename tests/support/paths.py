"""Where things lie in the repository."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
TEST_DATA = ROOT / "tests" / "data"
