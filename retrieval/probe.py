"""Ask one Chroma folder, from a process of its own, whether it can be trusted.

A damaged folder can end the process that opens it, or answer with no hits while its count is
right; so the question is put by a process that may die, and it is answered by looking: some of
the vectors that the folder holds are searched for, and each must find itself.

    python -m retrieval.probe FOLDER    prints {"sound": true, "count": 1234} and exits with 0
"""

import json
import sys
from pathlib import Path
from typing import Any

COLLECTION = "vectors"
SAMPLE = 64


def open_collection(folder: Path) -> Any:
    """Chroma's collection in this folder, without its embedding function, server or telemetry."""
    import chromadb
    from chromadb.config import Settings

    client = chromadb.PersistentClient(
        path=str(folder), settings=Settings(anonymized_telemetry=False)
    )
    return client.get_collection(COLLECTION, embedding_function=None)


def probe(folder: Path) -> dict[str, Any]:
    """Whether every sampled vector finds itself, and how many vectors there are."""
    import numpy as np

    collection = open_collection(folder)
    count = collection.count()
    if not count:
        return {"sound": True, "count": 0}
    ids = collection.get(include=[])["ids"]
    sample = ids[:: max(1, len(ids) // SAMPLE)][:SAMPLE]
    held = collection.get(ids=sample, include=["embeddings"])
    vectors = np.asarray(held["embeddings"], np.float32)
    found = collection.query(query_embeddings=vectors, n_results=1, include=["distances"])
    # Equal texts have equal vectors, so the distance says it, not the id. float32 rounding.
    misses = sum(not d or abs(d[0]) > 1e-3 for d in found["distances"])
    sound = misses == 0 and len(held["ids"]) == len(sample) and len(ids) == count
    return {"sound": sound, "count": count, "asked": len(sample), "misses": misses}


if __name__ == "__main__":
    answer = probe(Path(sys.argv[1]))
    print(json.dumps(answer))
    sys.exit(0 if answer["sound"] else 1)
