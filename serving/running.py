"""How a running service is found by the command line of the same data folder."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Running:
    """A service that announced itself."""

    host: str
    port: int
    pid: int

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def announce(path: Path, service: Running) -> None:
    """Let the command line of this data folder find the service."""
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(asdict(service)), encoding="utf-8")
    draft.replace(path)


def running(path: Path) -> Running | None:
    """The service that announced itself and still lives, if any."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        found = Running(str(said["host"]), int(said["port"]), int(said["pid"]))
        os.kill(found.pid, 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found
