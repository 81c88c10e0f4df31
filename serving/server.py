"""One process that serves: bind, announce, answer, stop cleanly."""

import contextlib
import logging
import os
import socket
import sys

from ingest import access
from ingest.errors import Refused, Unavailable
from serving.app import create_app
from serving.auth import is_loopback
from serving.running import Running, announce
from serving.schedule import Schedule
from serving.service import Progress, Service
from serving.settings import Settings

log = logging.getLogger(__name__)


class PortTaken(Unavailable):
    """Another process listens where this one was to."""


class TokenFirst(Refused):
    """Only a loopback address may be served without a token."""


def run(settings: Settings, *, host: str | None = None, port: int | None = None) -> None:
    """Serve until interrupted; progress and the address go to stderr."""
    import uvicorn
    from threadpoolctl import threadpool_limits

    # Products here are small and questions come side by side: BLAS threads that spin for each
    # other cost late interaction 12 ms a question instead of 1 on two busy cores.
    threadpool_limits(limits=1, user_api="blas")
    host = host or settings.serve.host
    port = settings.serve.port if port is None else port
    logging.getLogger().setLevel(settings.serve.log.upper())
    for chatty in ("alembic", "chromadb", "httpx", "uvicorn.error"):
        logging.getLogger(chatty).setLevel("WARNING")
    _say(f"data folder {settings.home}")
    service = Service.open(settings)
    app = create_app(service)
    schedule = Schedule(settings.training.schedule_hours * 3600, count=app.state.metrics.retrained)
    try:
        _may_bind(service, host)
        listening = _bound(host, port)
        address = Running(host, listening.getsockname()[1], os.getpid())
        announce(settings.running, address)
        condition = service.index.condition()
        _say(f"{condition.incidents} incidents; listening on {address.url}")
        if not access.any_token(service.store):
            _say("open: no token exists, so anybody on this machine may call")
        service.start(_progress)
        if settings.training.schedule_hours:
            schedule.start()
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5)
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        with contextlib.suppress(FileNotFoundError):
            settings.running.unlink()
        schedule.close()
        service.close()


def _may_bind(service: Service, host: str) -> None:
    if is_loopback(host) or access.any_token(service.store):
        return
    raise TokenFirst(
        f"{host} can be reached from other machines and no token exists; "
        "make one first: `scarwise token create NAME --scope write`"
    )


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise PortTaken(
            f"cannot listen on {host}:{port} ({error.strerror}); "
            "stop what is there, or choose another with --port"
        ) from None
    return listening


def _progress(step: Progress) -> None:
    _say(step.step if not step.total else f"{step.step}: {step.done} of {step.total}")


def _say(line: str) -> None:
    print(f"scarwise: {line}", file=sys.stderr, flush=True)
