"""Reading a file that a test writes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest.importer import Refusal, find, read
from ingest.incident import Incident

Read = Callable[..., list[Incident | Refusal]]


@pytest.fixture
def read_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Writes the content under the name, and reads it: what `scarwise ingest NAME` would do."""
    monkeypatch.chdir(tmp_path)

    def reading(
        name: str, content: str | bytes, *, kind: str = "auto", **how: Any
    ) -> list[Incident | Refusal]:
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
        found, refused = find([name], kind=kind)
        return [*refused, *(record for file in found for record in read(file, **how))]

    return reading
