"""One of several processes that fit an adapter together, each with a GPU and its share of a batch.

`launched` writes a job file, runs `accelerate launch -m training.worker JOB` and follows it; on a
CPU, where accelerate starts one process only, torch's own launcher does it. The process with rank
0 writes, and says each step on its standard output.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ingest.errors import Refused, StoreFull, Unavailable
from retrieval.prompt import Prompt
from training.fit import Diverged, RowsLost, Step
from training.folders import in_our_words
from training.learner import learned
from training.mixture import Lesson
from training.model import Loaded, ModelUnsound, load_base
from training.recipe import Recipe

JOB, LESSONS, FAILED, LOG = "job.json", "lessons.jsonl", "failed.json", "worker.log"
_KNOWN = {e.__name__: e for e in (Diverged, RowsLost, StoreFull, ModelUnsound)}
_LOOK_EVERY_S = 2.0


class Job(BaseModel):
    """What the processes have to know; the lessons lie beside it, one on a line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Path
    device: str
    dtype: str
    begin: Path | None
    recipe: Recipe
    processes: int
    parent: int  # the process that waits; without it nobody wants the adapter


def launched(
    base: Loaded,
    begin: Path | None,
    lessons: Sequence[Lesson],
    recipe: Recipe,
    folder: Path,
    processes: int,
    progress: Callable[[Step], None] | None,
) -> None:
    """As `learner.learned`, by so many processes; this one's base leaves the GPU meanwhile."""
    job = Job(
        base=base.folder.absolute(), device=base.device, dtype=base.dtype, recipe=recipe,
        begin=begin.absolute() if begin else None, processes=processes, parent=os.getpid(),
    )  # fmt: skip
    (folder / FAILED).unlink(missing_ok=True)
    (folder / LESSONS).write_text("".join(map(_as_line, lessons)), encoding="utf-8")
    (folder / JOB).write_text(job.model_dump_json(indent=1), encoding="utf-8")
    moved = base.device == "cuda" and not base.four_bit
    if moved:
        base.model.to("cpu")
    try:
        code = _run(_command(job, folder / JOB), folder / LOG, progress)
    finally:
        if moved:
            base.model.to(base.device)
    if (folder / FAILED).is_file():
        told = json.loads((folder / FAILED).read_text(encoding="utf-8"))
        raise _KNOWN[told["kind"]](told["said"])
    if code:
        raise Unavailable(
            f"training in {processes} processes ended with {code}; {folder / LOG} says why, and "
            "the next run goes on from its last checkpoint"
        )
    for done in (JOB, LESSONS, LOG):
        (folder / done).unlink()


def _command(job: Job, path: Path) -> list[str]:
    if job.device == "cpu":
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node"]
        return [sys.executable, "-m", *launcher, str(job.processes), "-m", __name__, str(path)]
    launcher = ["accelerate.commands.launch", "--multi_gpu", "--num_machines", "1",
                "--mixed_precision", "no", "--dynamo_backend", "no", "--num_processes"]  # fmt: skip
    return [sys.executable, "-m", *launcher, str(job.processes), "-m", __name__, str(path)]


def _run(command: list[str], log: Path, progress: Callable[[Step], None] | None) -> int:
    """Its exit code; what it says of its steps is passed on while it runs."""
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True) as running,
    ):
        try:
            assert running.stdout
            for line in running.stdout:
                if line.startswith('{"step":') and progress:
                    progress(Step(**json.loads(line)))
        except BaseException:
            running.terminate()
            raise
    return running.returncode


def _as_line(lesson: Lesson) -> str:
    asked = lesson.prompt
    told = {"id": lesson.id, "system": asked.system, "user": asked.user, "answer": lesson.answer,
            "epoch": lesson.epoch}  # fmt: skip
    return json.dumps(told, ensure_ascii=False) + "\n"


def _from_line(line: str) -> Lesson:
    told = json.loads(line)
    asked = Prompt("diagnose", told["system"], told["user"])
    return Lesson(told["id"], asked, told["answer"], told["epoch"])


def main(path: Path) -> int:
    """Do this process's share of the job; 1 when it failed, and then rank 0 says why in a file."""
    from accelerate import PartialState

    job = Job.model_validate_json(path.read_text(encoding="utf-8"))
    threading.Thread(target=_end_with, args=(job.parent,), daemon=True).start()
    here = PartialState(cpu=job.device == "cpu")
    folder = path.parent
    try:
        told = (folder / LESSONS).read_text(encoding="utf-8").split("\n")
        lessons = [_from_line(line) for line in told if line]
        base = load_base(
            str(job.base), device=job.device, dtype=job.dtype, four_bit=job.recipe.four_bit
        )
        with in_our_words(folder):
            learned(
                base, job.begin, lessons, job.recipe, folder, processes=job.processes,
                first=here.is_main_process, progress=_say if here.is_main_process else None,
            )  # fmt: skip
    except (Refused, Unavailable) as error:
        if type(error).__name__ not in _KNOWN:
            raise
        if here.is_main_process:
            said = {"kind": type(error).__name__, "said": str(error)}
            (folder / FAILED).write_text(json.dumps(said), encoding="utf-8")
        return 1
    finally:
        here.destroy_process_group()
    return 0


def _say(step: Step) -> None:
    print(json.dumps(asdict(step)), flush=True)


def _end_with(parent: int) -> None:
    """End this process when the one that waits for it is gone, or two runs would share a folder."""
    while True:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os._exit(1)
        time.sleep(_LOOK_EVERY_S)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
