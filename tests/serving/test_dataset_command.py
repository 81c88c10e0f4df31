"""`scarwise dataset` as a person types it."""

import json

from tests.serving.conftest import incident

TOLD = {
    "status": "resolved",
    "started_at": "2024-03-01T09:00:00Z",
    "resolved_at": "2024-03-01T10:00:00Z",
    "root_cause": "The lease had expired.",
    "cause_family": "lease",
    "resolution": "Renew the lease.",
}


def test_an_export_is_made_listed_and_shown(scarwise, tmp_path):
    path = tmp_path / "incidents.jsonl"
    later = {"started_at": "2024-04-01T09:00:00Z", "resolved_at": "2024-04-01T10:00:00Z"}
    told = incident("1", **TOLD), incident("2", **{**TOLD, **later}, title="cart is slow")
    path.write_text("".join(json.dumps(record) + "\n" for record in told))
    scarwise("ingest", str(path))

    made = scarwise("dataset", "export")
    again = json.loads(scarwise("dataset", "export", "--json").stdout)
    listed = json.loads(scarwise("dataset", "list", "--json").stdout)
    shown = scarwise("dataset", "show", again["name"])

    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.startswith(f"{again['name']}: 3 rows of 2 incidents, 0 incidents left out")
    assert not again["fresh"]
    assert [(d["name"], d["rows"], d["new"]) for d in listed] == [(again["name"], 3, 2)]
    assert "closed_book" in shown.stdout


def test_what_is_not_there_is_one_line_and_exit_code_2(scarwise):
    nothing = scarwise("dataset", "export")
    unknown = scarwise("dataset", "show", "ds-000000000000")

    assert (nothing.returncode, unknown.returncode) == (2, 2)
    assert nothing.stderr.splitlines()[-1].startswith("scarwise: there is nothing to learn from")
    assert unknown.stderr == (
        "scarwise: there is no dataset 'ds-000000000000' here; "
        "`scarwise dataset list` shows which are\n"
    )
