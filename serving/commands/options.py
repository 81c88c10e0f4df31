"""What several commands share: their options, their settings, and how they say what they did."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from ingest.store import Store
from serving import settings
from serving.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; kept in the audit trail.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]

ACTOR = "cli"


def loaded() -> Settings:
    """The settings, with the data folder made."""
    found = settings.load()
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    make_home(found)
    return found


def make_home(found: Settings) -> None:
    """The data folder, readable by its owner only; `StoreReadOnly` when it cannot be made."""
    from ingest.errors import StoreReadOnly

    try:
        found.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreReadOnly(
            f"the data folder {found.home} cannot be made ({error.strerror}); "
            "set SCARWISE_HOME to a folder that can be written"
        ) from None


@contextmanager
def opened() -> Iterator[Store]:
    """The store of the settings, closed afterwards."""
    from serving.service import open_store

    store = open_store(loaded())
    try:
        yield store
    finally:
        store.close()


def say(as_json: bool, view: Any, sentence: str) -> None:
    """One line for a person, or the document for a machine."""
    print(json.dumps(view, default=str) if as_json else sentence)


def confirmed(yes: bool, question: str) -> None:
    """Go on only when the person agrees; where nobody can be asked, `--yes` must say so."""
    from ingest.errors import Refused

    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused(f"{question} Say --yes: there is nobody here to ask.")
    typer.confirm(question, abort=True)
