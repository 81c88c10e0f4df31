"""The house: what may import what, and what a module may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ["ingest", "retrieval", "training", "eval", "serving"]
HEAVY = {"torch", "transformers", "sentence_transformers", "mlflow", "chromadb", "onnxruntime"} | {
    "datasets",
    "peft",
    "accelerate",
    "matplotlib",
    "llguidance",
    "pyarrow",
    "pandas",
}
MODULES = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))


def imported(module: Path) -> set[str]:
    """The top-level packages that this module imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def name_of(module: Path) -> str:
    return str(module.relative_to(ROOT))


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_room_imports_itself_and_the_rooms_before_it_and_nothing_else(module):
    room = module.relative_to(ROOT).parts[0]

    later = set(ROOMS[ROOMS.index(room) + 1 :])

    assert not imported(module) & later


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_no_module_is_longer_than_a_person_reads_at_once(module):
    assert len(module.read_text().splitlines()) <= 420


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_no_module_imports_a_heavy_library_when_it_is_imported(module):
    top = [
        n for n in ast.parse(module.read_text()).body if isinstance(n, ast.Import | ast.ImportFrom)
    ]
    names = {
        alias.name.split(".")[0] for n in top if isinstance(n, ast.Import) for alias in n.names
    }
    names |= {str(n.module).split(".")[0] for n in top if isinstance(n, ast.ImportFrom)}

    assert not names & HEAVY


@pytest.mark.parametrize("module", [m for m in MODULES if m.name == "__init__.py"], ids=name_of)
def test_a_package_file_holds_its_sentence_and_nothing_else(module):
    [sentence] = ast.parse(module.read_text()).body

    assert isinstance(sentence, ast.Expr)


def test_help_imports_nothing_heavy():
    script = (
        "import sys\n"
        "from serving.cli import app\n"
        "try: app(['--help'], prog_name='scarwise')\n"
        "except SystemExit: pass\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)

    assert done.stderr.strip() == "[]"


def test_chromas_server_and_http_client_are_named_nowhere():
    # CVE-2026-45829: the server runs code before it authenticates; the embedded client does not.
    sources = {name_of(m): m.read_text() for m in MODULES}

    found = [n for n, s in sources.items() if "HttpClient" in s or "chromadb.server" in s]

    assert found == []


def test_the_environment_is_read_in_one_place():
    readers = {name_of(m) for m in MODULES if "os.environ" in m.read_text()}

    assert readers <= {"serving/settings.py", "serving/client.py"}
