"""How Alembic reaches the database: through the connection that opening the store hands over.

To write the next revision: make a scratch store, change `ingest/schema.py`, then
`alembic -x url=sqlite:///scratch.db revision --autogenerate -m "what it adds"`.
"""

from alembic import context
from sqlalchemy import Connection, create_engine

from ingest.schema import metadata


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    url = context.get_x_argument(as_dictionary=True)["url"]
    with create_engine(url).begin() as scratch:
        migrate(scratch)
