"""Ask the running service of this data folder; nothing heavy is imported to do so."""

import json
import os
from http.client import HTTPConnection, HTTPException
from typing import Any

from ingest.errors import Refused, Unavailable
from serving.running import Running

TIMEOUT_S = 60


class NobodyAnswers(Unavailable):
    """A service announced itself, but does not answer."""


class TokenNeeded(Unavailable):
    """The service wants a token that this command was not given."""


def ask(service: Running, method: str, path: str, content: dict[str, Any] | None = None) -> Any:
    """The service's JSON answer; a problem document becomes the error that it describes."""
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get("SCARWISE_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    connection = HTTPConnection(service.host, service.port, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, json.dumps(content).encode() if content else None, headers)
        response = connection.getresponse()
        body = response.read()
    except (OSError, HTTPException) as error:
        raise NobodyAnswers(
            f"the service at {service.url} does not answer ({error}); is it still starting?"
        ) from None
    finally:
        connection.close()
    try:
        answer = json.loads(body)
    except ValueError:
        raise NobodyAnswers(f"{service.url} is not a Scarwise service") from None
    if response.status in (401, 403):
        raise TokenNeeded(f"{answer['detail']}; set SCARWISE_TOKEN")
    if response.status >= 500:
        raise Unavailable(answer["detail"])
    if response.status >= 400:
        raise Refused(answer["detail"])
    return answer
