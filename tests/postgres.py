"""A PostgreSQL server of our own, which a test may stop and start again."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL

# A test's data outlives no crash, so nothing waits for a disk.
_QUICK_INIT = ("-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions")


class Server:
    """A server in a folder that is its own; nobody else can speak to it."""

    def __init__(self, folder: Path) -> None:
        """Make its files, under a path short enough for a socket; `LookupError` where PostgreSQL
        is not installed."""
        found = programs()
        if found is None:
            raise LookupError("PostgreSQL is not installed")
        self.folder = folder
        self._programs = found
        self._run("initdb", "-D", folder / "data", "-U", "postgres", *_QUICK_INIT)

    @property
    def url(self) -> URL:
        return URL.create(
            "postgresql+psycopg", "postgres", database="postgres", query={"host": str(self.folder)}
        )

    def start(self) -> None:
        quick = "-c fsync=off -c full_page_writes=off"
        options = f"-k {self.folder} -c listen_addresses= {quick}"
        data = ("-D", self.folder / "data")
        self._run("pg_ctl", *data, "-o", options, "-w", "-l", "/dev/null", "start")

    def stop(self) -> None:
        """At once, whoever is connected: as when it is killed."""
        self._run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop")

    def _run(self, program: str, *words: Path | str) -> None:
        """One of PostgreSQL's programs, which refuse to be run by root."""
        command = [str(self._programs / program), *map(str, words)]
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
            command = ["runuser", "-u", pwd.getpwnam("postgres").pw_name, "--", *command]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"


@contextmanager
def running() -> Iterator[Server]:
    """One that runs, and is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="scarwise-postgres-"))
    try:
        server = Server(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def programs() -> Path | None:
    """Where PostgreSQL's programs are; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    here = shutil.which("initdb")
    if found:
        return found[-1].parent
    return Path(here).parent if here else None
