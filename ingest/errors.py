"""The errors a caller can act on.

    Refused                 what was given cannot be taken as it is: fix it and send it again
      Unreadable            a file, a row or a body is not what it claims to be
      Unknown               it names an incident, a query, a token, ... that is not here
      Conflict              it contradicts what is already kept
    Unavailable             what was given is fine, but the machine cannot serve it now
      StoreBusy             another process holds the database
      StoreFull             no room left on the disk
      StoreReadOnly         the database or its folder cannot be written
      StoreUnreachable      the database cannot be opened or spoken to

Each carries one sentence that names the thing and the way out; the command line prints it, the
API sends it as a problem document. Anything else that escapes is a bug in us.
"""


class Refused(ValueError):
    """What was given cannot be taken as it is."""


class Unreadable(Refused):
    """A file, a row or a body is not what it claims to be."""


class Unknown(Refused, LookupError):
    """It names something that is not here."""


class Conflict(Refused):
    """It contradicts what is already kept."""


class Unavailable(RuntimeError):
    """What was given is fine, but the machine cannot serve it now."""


class StoreBusy(Unavailable):
    """Another process holds the database."""


class StoreFull(Unavailable):
    """No room is left on the disk."""


class StoreReadOnly(Unavailable):
    """The database or its folder cannot be written."""


class StoreUnreachable(Unavailable):
    """The database cannot be opened or spoken to."""
