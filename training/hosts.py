"""How vLLM, llama.cpp and Ollama take an adapter, name it, and are asked with it.

vLLM loads and drops adapters while it runs. llama.cpp has those that it was started with, and each
question says which. Ollama makes a model of its own of a base with an adapter.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol

from training.adapters import CONFIG, WEIGHTS, manifest
from training.calls import ModelServer, NoSuchModel, ServerFailed, ServerRefuses

Kind = Literal["vllm", "llama.cpp", "ollama"]

_OWNERS: Mapping[str, Kind] = {"vllm": "vllm", "llamacpp": "llama.cpp", "library": "ollama"}
_SWITCH = "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
_NOBODY = "scarwise-asks-whether-this-is-on"


class Host(Protocol):
    """A kind of server, as far as adapters go; `until` as for `ModelServer`."""

    @property
    def kind(self) -> Kind: ...

    @property
    def tells_likelihoods(self) -> bool:
        """Whether it says how likely a given answer is."""
        ...

    def adapters(self, until: float) -> dict[str, str]:
        """The adapters that are there by name, each with where it came from."""
        ...

    def load(self, name: str, folder: Path, until: float) -> None:
        """See to it that this adapter is there under this name; never another under it.

        Raises `ServerRefuses` with what to do.
        """
        ...

    def unload(self, name: str, until: float) -> None:
        """Let it go, where that is the server's to do."""
        ...

    def chosen(self, base: str, adapter: str | None, until: float) -> dict[str, Any]:
        """The fields of a question that say who answers. Raises `NoSuchModel`."""
        ...

    def switch(self, until: float) -> str | None:
        """What is to be switched on before it takes an adapter; None when nothing is."""
        ...


class Vllm:
    """vLLM; `folder` is the path under which it sees our adapters."""

    kind: Kind = "vllm"
    tells_likelihoods = True

    def __init__(self, server: ModelServer, folder: str) -> None:
        self._server = server
        self._folder = folder

    def adapters(self, until: float) -> dict[str, str]:
        return {m["id"]: str(m.get("root")) for m in models(self._server, until) if m.get("parent")}

    def load(self, name: str, folder: Path, until: float) -> None:
        place = str(PurePosixPath(self._folder) / folder.name)
        there = self.adapters(until).get(name)
        if there is None:
            said = self._post(name, place, folder, until)
            there = self.adapters(until).get(name)
            if there is None:
                raise ServerRefuses(f"{self._server.root} does not list {name}: {said}")
        if there != place:
            raise ServerRefuses(
                f"{self._server.root} serves {name} from {there} and not from {place}: a name is "
                "never given twice, so unload that one, or give each data folder its own server"
            )

    def unload(self, name: str, until: float) -> None:
        with suppress(NoSuchModel):  # it was restarted, or somebody else was faster
            self._server.post("/v1/unload_lora_adapter", {"lora_name": name}, until=until)

    def chosen(self, base: str, adapter: str | None, until: float) -> dict[str, Any]:
        return {"model": adapter or base}

    def switch(self, until: float) -> str | None:
        # Unloading what was never there changes nothing, and says whether it could be.
        try:
            self._server.post("/v1/unload_lora_adapter", {"lora_name": _NOBODY}, until=until)
        except NoSuchModel:
            return None
        except ServerRefuses:
            return _SWITCH
        return None

    def _post(self, name: str, place: str, folder: Path, until: float) -> str:
        try:
            content = {"lora_name": name, "lora_path": place}
            return str(self._server.post("/v1/load_lora_adapter", content, until=until))
        except NoSuchModel as error:
            raise ServerRefuses(
                f"{self._server.root} finds no adapter at {place} ({error.said}); "
                "serve.endpoint_adapters is the path under which it sees our adapters folder"
            ) from None
        except ServerRefuses as error:
            if "already been loaded" in error.said:  # by another process, just now
                return error.said
            if error.said in ("", "Not Found", "Method Not Allowed"):
                raise ServerRefuses(
                    f"{self._server.root} loads no adapter while it runs; {_SWITCH}"
                ) from None
            raise ServerRefuses(self._refused(name, folder, error.said)) from None
        except ServerFailed as error:  # as which the engine's refusal of an adapter comes back
            raise ServerRefuses(self._refused(name, folder, error.said)) from None

    def _refused(self, name: str, folder: Path, said: str) -> str:
        rank = manifest(folder).rank
        return (
            f"{self._server.root} does not take {name}: {said}; it is of rank {rank}, which "
            f"--max-lora-rank must allow, and needs --enable-lora and the base it was trained on"
        )


class LlamaCpp:
    """llama.cpp's server: what it was not started with, it does not have."""

    kind: Kind = "llama.cpp"
    tells_likelihoods = False

    def __init__(self, server: ModelServer) -> None:
        self._server = server

    def adapters(self, until: float) -> dict[str, str]:
        return {PurePosixPath(a["path"]).stem: a["path"] for a in self._listed(until)}

    def load(self, name: str, folder: Path, until: float) -> None:
        if name not in self.adapters(until):
            raise ServerRefuses(
                f"llama.cpp at {self._server.root} was started without {name}: convert it "
                f"(`convert_lora_to_gguf.py {folder} --outfile {name}.gguf`) and restart "
                f"llama-server with --lora {name}.gguf --lora-init-without-apply; with "
                "serve.endpoint_evaluates = false the gate does not wait for that"
            )

    def unload(self, name: str, until: float) -> None:
        """It keeps what it was started with."""

    def chosen(self, base: str, adapter: str | None, until: float) -> dict[str, Any]:
        # Looked up each time: a restart with other --lora flags numbers them anew, and the wrong
        # adapter would answer.
        listed = self._listed(until)
        scales = [
            {"id": a["id"], "scale": float(PurePosixPath(a["path"]).stem == adapter)}
            for a in listed
        ]
        if adapter is not None and not any(s["scale"] for s in scales):
            raise NoSuchModel(f"llama.cpp at {self._server.root} has no adapter {adapter}")
        return {"model": base, "lora": scales}

    def switch(self, until: float) -> str | None:
        if self._listed(until):
            return None
        return "start llama-server with --lora NAME.gguf --lora-init-without-apply"

    def _listed(self, until: float) -> list[dict[str, Any]]:
        return list(self._server.get("/lora-adapters", until=until))


class Ollama:
    """Ollama: an adapter is a model there, made of the base and of the files that it is sent."""

    kind: Kind = "ollama"
    tells_likelihoods = False

    def __init__(self, server: ModelServer, base: str) -> None:
        self._server = server
        self._base = base

    def adapters(self, until: float) -> dict[str, str]:
        return {
            m["id"].removesuffix(":latest"): m["id"]
            for m in models(self._server, until)
            if m["id"].removesuffix(":latest") != self._base.removesuffix(":latest")
        }

    def load(self, name: str, folder: Path, until: float) -> None:
        if name in self.adapters(until):
            return
        hashes = {file: f"sha256:{manifest(folder).files[file]}" for file in (CONFIG, WEIGHTS)}
        try:
            for file, digest in hashes.items():
                self._server.upload(f"/api/blobs/{digest}", folder / file, until=until)
            content = {"model": name, "from": self._base, "adapters": hashes, "stream": False}
            self._server.post("/api/create", content, until=until)
        except (ServerRefuses, ServerFailed) as error:
            raise ServerRefuses(
                f"Ollama made no {name} ({error}); it takes adapters of few architectures as they "
                f"are. For others convert it (convert_lora_to_gguf.py) and write a Modelfile: "
                f"FROM {self._base}, ADAPTER ./{name}.gguf; then `ollama create {name}`"
            ) from None

    def unload(self, name: str, until: float) -> None:
        """It drops what nobody asks from memory by itself; its disk is the operator's."""

    def chosen(self, base: str, adapter: str | None, until: float) -> dict[str, Any]:
        return {"model": adapter or base}

    def switch(self, until: float) -> str | None:
        return None


def models(server: ModelServer, until: float) -> list[dict[str, Any]]:
    """What `/v1/models` lists. Raises `ServerRefuses` when that is no such list."""
    told = server.get("/v1/models", until=until)
    listed = told.get("data") if isinstance(told, dict) else None
    if not isinstance(listed, list) or not all(isinstance(m, dict) and "id" in m for m in listed):
        raise ServerRefuses(f"{server.root} is no OpenAI-compatible server: it lists no models")
    return listed


def kind_of(listed: list[dict[str, Any]], root: str) -> Kind:
    """What kind of server lists its models so. Raises `ServerRefuses` when none that is known."""
    owners = {str(m.get("owned_by")) for m in listed}
    found = {_OWNERS[owner] for owner in owners if owner in _OWNERS}
    if len(found) != 1:
        raise ServerRefuses(
            f"{root} does not say whether it is vLLM, llama.cpp or Ollama (its models are owned by "
            f"{', '.join(sorted(owners)) or 'nobody'}); set serve.endpoint_kind"
        )
    return found.pop()
