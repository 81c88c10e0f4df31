"""A progress bar: on a terminal; silence elsewhere."""


class Bar:
    """A progress bar on a terminal; silence elsewhere."""

    def __init__(self, what: str, total: int | None) -> None:
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        from serving.terminal import notices

        out = notices()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=out,
            transient=True,
            disable=not out.is_terminal,
        )
        self._what = what
        self._task = self._progress.add_task(what, total=total, note="")

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def named(self, name: str) -> None:
        self._progress.update(self._task, description=f"{self._what} {name}")

    def note(self, note: str) -> None:
        self._progress.update(self._task, note=note)

    def line(self, line: str) -> None:
        """A line that stays, above the bar; also where there is no terminal."""
        self._progress.console.print(line, style="dim", markup=False)

    def forward(self, step: int) -> None:
        self._progress.advance(self._task, step)

    def at(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total, note=f"{done} of {total}")
