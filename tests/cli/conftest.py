"""What a command leaves by default goes into the test's own folder."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command leaves by default goes into the test's own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIRTUALDEPTH_DATA", raising=False)
