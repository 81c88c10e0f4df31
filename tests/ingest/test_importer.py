"""Finding the files and telling their formats."""

import json
import os
from pathlib import Path

import pytest

from ingest.errors import Refused, Unreadable
from ingest.importer import Found, Refusal, find, kinds, read
from ingest.incident import Incident

ONE = json.dumps({"source": "s", "source_id": "1", "title": "t", "services": ["a"]})
PAGE = "# Down\n\n## Impact\nx\n\n## Root cause\ny\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files to read, two to pass over, and two hidden ones; the tests run beside it."""
    files = {
        "mine/a.jsonl": ONE,
        "mine/deep/er/down.md": PAGE,
        "mine/deep/list.csv": "id,title\n1,t\n",
        "mine/image.png": "\x89PNG\0\0",
        "mine/empty.json": "",
        "mine/.hidden.jsonl": ONE,
        "mine/.git/b.jsonl": ONE,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine"


def names(found: list[Found]) -> list[tuple[str, str]]:
    return [(file.kind, file.name) for file in found]


ALL = [
    ("native", "mine/a.jsonl"),
    ("table", "mine/deep/list.csv"),
    ("markdown", "mine/deep/er/down.md"),
]


def test_a_folder_is_read_with_its_folders_and_without_what_is_hidden(folder):
    found, left_out = find(["mine"])

    assert names(found) == ALL
    assert found[0] == Found(Path("mine/a.jsonl"), "native", len(ONE), "mine/a.jsonl")
    assert left_out == [
        Refusal("mine/empty.json", None, None, "empty: there is no incident in it", skipped=True),
        Refusal(
            "mine/image.png",
            None,
            None,
            "not a format that is known here (archive, native, markdown, table); --kind says which",
            skipped=True,
        ),
    ]


@pytest.mark.parametrize("given", ["mine", "./mine/", "../{0}/mine", "{1}/mine"])
def test_a_file_has_the_same_name_from_wherever_its_folder_is_given(folder, given):
    given = given.format(folder.parent.name, folder.parent)

    assert names(find([given])[0]) == ALL


def test_a_file_has_the_same_name_from_inside_its_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)

    assert names(find(["."])[0]) == ALL


def test_a_page_given_by_itself_is_called_as_in_its_folder(folder):
    Path("mine/page.md").write_text(PAGE)

    alone, within, by_pattern = (
        {name for _, name in names(find([path])[0]) if name.endswith("page.md")}
        for path in ("mine/page.md", "mine", "mine/*.md")
    )

    assert alone == within == by_pattern == {"mine/page.md"}


def test_a_pattern_names_files_and_two_stars_any_folders(folder):
    assert names(find(["mine/*.jsonl"])[0]) == ALL[:1]
    assert sorted(names(find(["mine/**"])[0])) == sorted(ALL)
    assert names(find(["mine/d*"])[0]) == [
        ("table", "deep/list.csv"),
        ("markdown", "deep/er/down.md"),
    ]


def test_a_name_with_a_star_in_it_is_a_file_before_it_is_a_pattern(folder):
    Path("mine/[a]*.jsonl").write_text(ONE)

    assert names(find(["mine/[a]*.jsonl"])[0]) == [("native", "mine/[a]*.jsonl")]


def test_each_file_is_found_once(folder):
    assert names(find(["mine/a.jsonl", "mine", "mine/*"])[0]) == ALL


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("mine/a.json", "mine/a.json: no such file or folder; did you mean mine/a.jsonl?"),
        ("nine", "nine: no such file or folder; did you mean mine?"),
        ("zzz/zzz", "zzz/zzz: no such file or folder"),
        ("mine/*.xml", "mine/*.xml: nothing matches this pattern"),
        ("~nobody-here/x", "~nobody-here/x: no such file or folder"),
        ("", "an empty path; `.` is the folder that you are in"),
        ("a\0b", "a␀b: no such file or folder"),
    ],
)
def test_a_path_that_names_nothing_stops_everything_before_it_begins(folder, path, told):
    with pytest.raises(Unreadable) as refused:
        find(["mine", path])

    assert str(refused.value).startswith(told)


def test_a_kind_that_is_none_names_the_nearest(folder):
    with pytest.raises(Refused, match="no kind 'markdwn'; did you mean 'markdown'"):
        find(["mine"], kind="markdwn")


def test_with_a_kind_a_folder_gives_the_files_with_its_endings(folder):
    found, left_out = find(["mine"], kind="native")

    assert names(found) == ALL[:1]
    assert {(Path(r.path).name, r.skipped) for r in left_out} == {
        ("down.md", True),
        ("list.csv", True),
        ("image.png", True),
        ("empty.json", True),
    }


def test_with_a_kind_a_named_file_is_read_as_that_whatever_it_is_called(folder):
    Path("notes.txt").write_text("Just words")

    assert names(find(["notes.txt"], kind="markdown")[0]) == [
        ("markdown", f"{folder.parent.name}/notes.txt")
    ]


def test_a_named_file_of_no_known_format_is_refused_not_skipped(folder):
    [refusal] = find(["mine/image.png"])[1]

    assert not refusal.skipped


def test_a_named_file_is_taken_at_its_ending_so_that_its_faults_are_told(folder):
    Path("odd.json").write_text('{"titel": "x"}')
    [file] = find(["odd.json"])[0]

    [refusal] = read(file)

    assert str(refusal).startswith("odd.json:1: titel: not a field of an incident")


def test_a_file_that_is_gone_when_it_is_read_is_a_refusal(folder):
    [file] = find(["mine/a.jsonl"])[0]
    file.path.unlink()

    assert [str(record) for record in read(file)] == [
        "mine/a.jsonl: cannot be read: No such file or directory"
    ]


def test_links_to_folders_are_not_followed(folder):
    os.symlink("..", folder / "deep" / "loop")

    assert names(find(["mine"])[0]) == ALL


def test_what_is_neither_file_nor_folder_is_refused(folder):
    os.mkfifo("pipe")

    assert [str(r) for r in find(["pipe"])[1]] == ["pipe: neither a file nor a folder"]


def test_the_progress_adds_up_to_the_size(folder):
    Path("big.jsonl").write_text((ONE + "\n") * 500)
    found = find(["big.jsonl", "mine"])[0]
    read_bytes = dict.fromkeys(found, 0)

    for file in found:
        told: list[int] = []
        assert all(isinstance(r, Incident) for r in read(file, on_bytes=told.append))
        read_bytes[file] = sum(told)

    assert read_bytes == {file: file.size for file in found}


def test_reading_holds_one_record_at_a_time(folder):
    Path("long.jsonl").write_text((ONE + "\n") * 5000)
    [file] = find(["long.jsonl"])[0]
    told: list[int] = []

    next(read(file, on_bytes=told.append))

    assert sum(told) < 1000


def test_every_kind_has_its_sentence():
    assert list(kinds()) == ["archive", "native", "markdown", "table"]
    assert all(sentence for sentence in kinds().values())
