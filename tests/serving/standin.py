"""A model server of our own for tests: it speaks as vLLM, llama.cpp or Ollama do, with adapters.

    python -m tests.serving.standin BASE [--context N]

serves a real model, in a process of its own, and prints its port; `served` does so in this process
with any voice. Its errors have the bodies that the real servers give; `Faults` are what can be
wrong with one, set from outside by `POST /standin/faults`.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Protocol

ROOT = Path(__file__).parents[2]
Asked = list[dict[str, str]]
Json = dict[str, Any]


class Voice(Protocol):
    """What answers behind the server; `adapter` None is the base."""

    def says(self, asked: Asked, schema: Json | None, adapter: str | None, most: int) -> str: ...

    def logprobs(self, rows: list[list[int]], adapter: str | None) -> list[list[Json | None]]: ...

    def load(self, name: str, folder: Path) -> None: ...

    def unload(self, name: str) -> None: ...


class Parrot:
    """Says what it is told to say, at once, and counts characters as tokens."""

    def __init__(self, says: Callable[[Asked, str | None], str], context: int = 10**6) -> None:
        self._says = says
        self._context = context

    def says(self, asked: Asked, schema: Json | None, adapter: str | None, most: int) -> str:
        length = sum(len(message["content"]) for message in asked)
        if length + most > self._context:
            raise TooLong(self._context, length)
        if schema and "word" in schema.get("properties", {}):
            return json.dumps({"word": schema["properties"]["word"]["const"]})
        return self._says(asked, adapter)

    def logprobs(self, rows: list[list[int]], adapter: str | None) -> list[list[Json | None]]:
        return [[None, *({str(id): {"logprob": -0.5}} for id in row[1:])] for row in rows]

    def load(self, name: str, folder: Path) -> None: ...

    def unload(self, name: str) -> None: ...


class Model:
    """A real base in memory, asked by one thread at a time."""

    def __init__(self, base: Path, context: int) -> None:
        from training.model import load_base

        self._loaded = load_base(str(base), device="cpu")
        self._context = context
        # torch models answer one thread at a time.
        self._lock = threading.Lock()

    def says(self, asked: Asked, schema: Json | None, adapter: str | None, most: int) -> str:
        from retrieval.prompt import Prompt
        from training.batches import question_ids
        from training.model import generate

        *first, user = (message["content"] for message in asked)
        system = first[0] if first else ""
        prompt = Prompt("diagnose", system, user, form=schema)
        length = len(question_ids(self._loaded.tokenizer, prompt, 10**6))
        if length + most > self._context:
            raise TooLong(self._context, length)
        with self._lock:
            [text] = generate(
                self._loaded, [prompt], adapter=adapter, max_new_tokens=most,
                constrained=schema is not None,
            )  # fmt: skip
        return text

    def logprobs(self, rows: list[list[int]], adapter: str | None) -> list[list[Json | None]]:
        import torch

        from training.model import _speaking

        found = []
        with self._lock, _speaking(self._loaded, adapter), torch.no_grad():
            for row in rows:
                logits = self._loaded.model(input_ids=torch.tensor([row])).logits[0, :-1]
                chances = logits.float().log_softmax(-1)
                told = [chances[n, id].item() for n, id in enumerate(row[1:])]
                pairs = zip(row[1:], told, strict=True)
                found.append([None, *({str(id): {"logprob": lp}} for id, lp in pairs)])
        return found

    def load(self, name: str, folder: Path) -> None:
        from training.model import with_adapter

        with self._lock:
            if name not in self._loaded.adapters:
                with_adapter(self._loaded, folder, name=name)

    def unload(self, name: str) -> None:
        from training.model import without_adapter

        with self._lock:
            without_adapter(self._loaded, name)


@dataclass
class Faults:
    """What is wrong with the server just now."""

    slow_s: float = 0.0  # before every answer
    fail: list[int] = field(default_factory=list)  # with these statuses, one a question
    retry_after: str = ""
    drop: int = 0  # so many questions: hang up instead
    refuses_form: bool = False
    ignores_form: bool = False
    knows_system: bool = True
    loads: bool = True  # whether adapters may be loaded while it runs
    most_rank: int = 64
    key: str = ""
    sends_to: str = ""
    garbage: str = ""


class TooLong(Exception):
    def __init__(self, context: int, length: int) -> None:
        super().__init__(
            f"This model's maximum context length is {context} tokens. However, you requested 0 "
            f"output tokens and your prompt contains at least {length} input tokens, for a total "
            f"of at least {length} tokens. Please reduce the length of the input prompt or the "
            f"number of requested output tokens. (parameter=input_tokens, value={length})"
        )


class Trouble(Exception):
    """An answer that is an error: its status and its body."""

    def __init__(self, status: int, message: str, kind: str = "BadRequestError") -> None:
        super().__init__(message)
        self.status = status
        error = {"message": message, "type": kind, "param": None, "code": status}
        self.body: Json = {"error": error}


class StandIn:
    """The state of one server: which adapters are there, what is wrong, and what it was asked."""

    def __init__(
        self, voice: Voice, *, kind: str = "vllm", base: str = "base-model", context: int = 4096,
        adapters: Sequence[str] = (), faults: Faults | None = None,
    ) -> None:  # fmt: skip
        self.voice = voice
        self.kind = kind
        self.base = base
        self.context = context
        self.adapters: dict[str, str] = {name: f"/models/{name}.gguf" for name in adapters}
        self.faults = faults or Faults()
        self.calls: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()  # by model
        self.order: list[str] = []  # of loads, unloads and the first answer of each model
        self.asked: list[Json] = []
        self.blobs: set[str] = set()
        self.at_once = self.most_at_once = 0
        # Handlers' threads count together.
        self.lock = threading.Lock()

    def get(self, path: str) -> Any:
        if path == "/v1/models":
            return {"object": "list", "data": self._listed()}
        if path == "/lora-adapters" and self.kind == "llama.cpp":
            listed = enumerate(self.adapters.values())
            return [{"id": n, "path": path, "scale": 0.0} for n, path in listed]
        if path == "/standin/seen":
            return {
                "calls": self.calls, "answered": self.answered, "order": self.order,
                "adapters": self.adapters, "most_at_once": self.most_at_once,
            }  # fmt: skip
        raise Trouble(404, "Not Found")

    def post(self, path: str, body: Json) -> Any:
        if path == "/standin/faults":
            self.faults = Faults(**body)
            return {}
        if path == "/standin/forget":
            return self._forget()
        if path == "/v1/chat/completions":
            return self._chat(body)
        if path == "/v1/completions" and self.kind == "vllm":
            return self._completion(body)
        if path == "/v1/load_lora_adapter" and self.kind == "vllm" and self.faults.loads:
            return self._load(body)
        if path == "/v1/unload_lora_adapter" and self.kind == "vllm" and self.faults.loads:
            return self._unload(body)
        if path == "/api/create" and self.kind == "ollama":
            return self._create(body)
        raise Trouble(404, "Not Found")

    def _listed(self) -> list[Json]:
        owner = {"vllm": "vllm", "llama.cpp": "llamacpp", "ollama": "library"}.get(self.kind, "?")
        base = {"id": self.base, "object": "model", "owned_by": owner}
        if self.kind == "llama.cpp":
            return [base]
        if self.kind == "ollama":
            names = [*self.adapters, self.base]
            return [{**base, "id": f"{name}:latest"} for name in names]
        base |= {"root": f"/models/{self.base}", "parent": None, "max_model_len": self.context}
        lora = {"object": "model", "owned_by": owner, "parent": self.base}
        return [base, *({**lora, "id": n, "root": r} for n, r in self.adapters.items())]

    def _forget(self) -> Json:
        """As a restart does."""
        for name in self.adapters:
            self.voice.unload(name)
        self.adapters = {}
        return {}

    def _chat(self, body: Json) -> Json:
        self.asked.append(body)
        form = body.get("response_format")
        if form and self.faults.refuses_form:
            raise Trouble(400, "response_format is not supported by this server")
        if not self.faults.knows_system and body["messages"][0]["role"] == "system":
            raise Trouble(400, "System role not supported")
        adapter = self._adapter(body)
        schema = form["json_schema"]["schema"] if form and not self.faults.ignores_form else None
        try:
            text = self.voice.says(body["messages"], schema, adapter, body["max_tokens"])
        except TooLong as error:
            raise Trouble(400, str(error)) from None
        model = adapter or self.base
        with self.lock:
            if not self.answered[model]:
                self.order.append(f"answer {model}")
            self.answered[model] += 1
        message = {"role": "assistant", "content": self.faults.garbage or text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        named = self.base if self.kind == "llama.cpp" else model
        return {"object": "chat.completion", "model": named, "choices": [choice]}

    def _completion(self, body: Json) -> Json:
        told = self.voice.logprobs(body["prompt"], self._adapter(body))
        choices = [{"index": n, "text": "", "prompt_logprobs": t} for n, t in enumerate(told)]
        return {"object": "text_completion", "model": body["model"], "choices": choices[::-1]}

    def _adapter(self, body: Json) -> str | None:
        if self.kind == "llama.cpp":
            names = list(self.adapters)
            on = [names[s["id"]] for s in body.get("lora", []) if s["scale"]]
            return on[0] if on else None
        model = body["model"]
        if model == self.base or (self.kind == "ollama" and model == f"{self.base}:latest"):
            return None
        if model not in self.adapters:
            raise Trouble(404, f"The model `{model}` does not exist.", "NotFoundError")
        return str(model)

    def _load(self, body: Json) -> str:
        name, folder = body["lora_name"], Path(body["lora_path"])
        if name in self.adapters:
            raise Trouble(
                400,
                f"The lora adapter '{name}' has already been loaded. If you want to load the "
                "adapter in place, set 'load_inplace' to True.",
                "InvalidUserInput",
            )
        if not (folder / "adapter_config.json").is_file():
            raise Trouble(
                404, f"Loading lora {name} failed: No adapter found for {folder}", "NotFoundError"
            )
        rank = json.loads((folder / "adapter_config.json").read_text())["r"]
        if rank > self.faults.most_rank:
            most = self.faults.most_rank
            raise Trouble(
                500, f"LoRA rank {rank} is greater than max_lora_rank {most}.",
                "InternalServerError",
            )  # fmt: skip
        self.voice.load(name, folder)
        self.adapters[name] = str(folder)
        self.order.append(f"load {name}")
        return f"Success: LoRA adapter '{name}' added successfully."

    def _unload(self, body: Json) -> str:
        name = body["lora_name"]
        if name not in self.adapters:
            raise Trouble(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
        del self.adapters[name]
        self.voice.unload(name)
        self.order.append(f"unload {name}")
        return f"Success: LoRA adapter '{name}' removed successfully."

    def _create(self, body: Json) -> Json:
        missing = [d for d in body["adapters"].values() if d not in self.blobs]
        if missing or not self.faults.loads:
            raise Trouble(400, "unsupported architecture")
        self.adapters[body["model"]] = body["from"]
        return {"status": "success"}


class Handler(BaseHTTPRequestHandler):
    standin: ClassVar[StandIn]
    is_over: ClassVar[bool] = False
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answered(lambda: self.standin.get(self.path))

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path.startswith("/api/blobs/"):
            self.standin.blobs.add(self.path.removeprefix("/api/blobs/"))
            self._send(201, {})
            return
        self._answered(lambda: self.standin.post(self.path, json.loads(content or b"{}")))

    def _answered(self, act: Callable[[], Any]) -> None:
        ours, faults = self.standin, self.standin.faults
        if self.is_over:  # a connection outlives its server here, as it never would elsewhere
            self.close_connection = True
            return
        if self.path.startswith("/standin/"):
            self._send(200, act())
            return
        with ours.lock:
            ours.calls[self.path] += 1
            ours.at_once += 1
            ours.most_at_once = max(ours.most_at_once, ours.at_once)
            hangs_up, faults.drop = faults.drop > 0, max(0, faults.drop - 1)
            status = faults.fail.pop(0) if faults.fail and not hangs_up else 200
        try:
            time.sleep(faults.slow_s)
            if hangs_up:
                self.close_connection = True
                return
            self._checked(status, act)
        finally:
            with ours.lock:
                ours.at_once -= 1

    def _checked(self, status: int, act: Callable[[], Any]) -> None:
        faults = self.standin.faults
        if faults.key and self.headers["Authorization"] != f"Bearer {faults.key}":
            self._send(401, {"error": "Unauthorized"})
        elif faults.sends_to:
            self._send(307, {}, {"Location": faults.sends_to})
        elif status != 200:
            more = {"Retry-After": faults.retry_after} if faults.retry_after else {}
            self._send(status, {"error": {"message": "not now"}}, more)
        else:
            try:
                self._send(200, act())
            except Trouble as trouble:
                plain = {"detail": str(trouble)}
                self._send(trouble.status, plain if str(trouble) == "Not Found" else trouble.body)

    def _send(self, status: int, told: Any, headers: dict[str, str] | None = None) -> None:
        body = told.encode() if isinstance(told, str) else json.dumps(told).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *told: Any) -> None: ...


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *told: Any) -> None:
        """Who asked has hung up: that is the test."""


@contextmanager
def served(standin: StandIn, port: int = 0) -> Iterator[str]:
    """This server in this process; its address, as the setting has it."""
    made = type("Handler", (Handler,), {"standin": standin})
    server = Server(("127.0.0.1", port), made)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        made.is_over = True
        server.shutdown()
        server.server_close()
        thread.join()


class Process:
    """The server with a real model, in a process of its own."""

    def __init__(self, base: Path, context: int, port: int = 0) -> None:
        words = ["--context", str(context), "--port", str(port)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.serving.standin", str(base), *words],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def seen(self) -> Json:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/standin/seen") as answer:
            told: Json = json.loads(answer.read())
            return told

    def tell(self, what: str, **told: Any) -> None:
        """`faults`, with those given and no other, or `forget`."""
        body = json.dumps({**asdict(Faults()), **told} if what == "faults" else {}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/standin/{what}", body)
        with urllib.request.urlopen(request):
            pass

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()


def main() -> None:
    import torch

    parser = argparse.ArgumentParser()
    parser.add_argument("base", type=Path)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    standin = StandIn(Model(given.base, given.context), context=given.context)
    with served(standin, given.port) as url:
        print(url.rpartition(":")[2].removesuffix("/v1"), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
