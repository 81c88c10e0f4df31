"""Tables: CSV and its relatives."""

import csv
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import Refused
from ingest.file import File
from ingest.importer import find, read
from ingest.incident import Incident, Update
from ingest.refusal import Refusal
from ingest.sources import table

DEV = Path(__file__).parents[4] / "shared" / "data" / "dev"


def said(records: list[Incident | Refusal]) -> list[str]:
    """Each record: an incident's title, or the refusal as a person sees it."""
    return [r.title if isinstance(r, Incident) else str(r) for r in records]


def test_a_servicenow_export_needs_no_map(read_text):
    content = (
        "number,short_description,description,state,priority,opened_at,resolved_at,cmdb_ci,"
        "sys_id,close_notes,work_notes,assignment_group\n"
        'INC1,Disk full,"db-3 is\nfull, it says",Closed,2 - High,2024-01-31 10:00:00,'
        "2024-01-31 11:00:00,db-3,abc,Log rotation mended,"
        '"2024-01-31 10:05:00 - On call (Work notes)\nLooking\n\n'
        '2024-01-31 10:50:00 - On call (Work notes)\nFreed 20 GB",Databases\n'
    )

    [incident] = read_text("export.csv", content)

    assert incident == Incident(
        source="servicenow",
        source_id="INC1",
        title="Disk full",
        summary="db-3 is\nfull, it says",
        services=["db-3"],
        severity="2 - High",
        status="resolved",
        started_at=datetime(2024, 1, 31, 10, tzinfo=UTC),
        resolved_at=datetime(2024, 1, 31, 11, tzinfo=UTC),
        resolution="Log rotation mended",
        updates=[
            Update(text="Looking", author="On call", at=datetime(2024, 1, 31, 10, 5, tzinfo=UTC)),
            Update(
                text="Freed 20 GB", author="On call", at=datetime(2024, 1, 31, 10, 50, tzinfo=UTC)
            ),
        ],
        labels={"assignment_group": "Databases"},
    )


def test_a_jira_export_needs_no_map(read_text):
    content = (
        "Summary,Issue key,Issue id,Issue Type,Status,Priority,Resolution,Created,Resolved,"
        "Component/s,Component/s,Comment,Comment\n"
        "Login broken,OPS-9,10009,Incident,Done,High,Fixed,25/Mar/24 4:10 PM,25/Mar/24 5:00 PM,"
        "auth,web,25/Mar/24 4:20 PM;u-1;Found it; rolling back,\n"
    )

    [incident] = read_text("jira.csv", content)

    assert incident == Incident(
        source="jira",
        source_id="OPS-9",
        title="Login broken",
        services=["auth", "web"],
        severity="High",
        status="resolved",
        started_at=datetime(2024, 3, 25, 16, 10, tzinfo=UTC),
        resolved_at=datetime(2024, 3, 25, 17, 0, tzinfo=UTC),
        updates=[
            Update(
                text="Found it; rolling back",
                author="u-1",
                at=datetime(2024, 3, 25, 16, 20, tzinfo=UTC),
            )
        ],
        labels={"issue_type": "Incident", "resolution": "Fixed"},
    )


def test_a_pagerduty_export_has_its_title_in_the_description(read_text):
    content = (
        "id,incident_number,description,service_id,service_name,escalation_policy_id,"
        "escalation_policy_name,created_on,resolved_on,seconds_to_first_ack,urgency\n"
        "Q1,12,CPU above 90%,P1,checkout,E1,Default,2024-03-01T10:00:00Z,"
        "2024-03-01T10:30:00Z,40,high\n"
    )

    [incident] = read_text("incidents.csv", content)

    assert (incident.source, incident.source_id, incident.title) == (
        "pagerduty",
        "12",
        "CPU above 90%",
    )
    assert (incident.services, incident.severity) == (["checkout"], "high")


def test_a_given_map_goes_before_the_known_names(read_text):
    content = "Ref;What;Where;When;Title\n7;Pump stopped;hall 3, roof;2024-01-02 03:04;ignored\n"
    columns = {
        "source": "=plant",
        "source_id": "Ref",
        "title": "what",
        "services": "Where",
        "started_at": "When",
        "labels.site": "=north",
    }

    [incident] = read_text("x.csv", content, columns=columns)

    assert incident == Incident(
        source="plant",
        source_id="7",
        title="Pump stopped",
        services=["hall 3", "roof"],
        started_at=datetime(2024, 1, 2, 3, 4, tzinfo=UTC),
        labels={"site": "north"},
    )


@pytest.mark.parametrize(
    ("content", "columns", "told"),
    [
        (
            "title,when\na,b\n",
            {},
            "no column for source_id among title, when; say which it is, such as --map "
            "source_id=number, or --map 'source_id=*' for an id made from the whole row",
        ),
        (
            "number,when\na,b\n",
            {},
            "no column for title among number, when; say which it is, such as --map "
            "title=short_description",
        ),
        ("id,title\na,b\n", {"title": "titel"}, "no column 'titel'; did you mean 'title'?"),
        ("id,title\na,b\n", {"url": "zzz"}, "no column 'zzz'; there are id, title"),
        ('id,"x\na,b\n', {}, "not a row of this table: a quote is opened in it and never closed"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_mapped_names_its_columns_and_the_way(
    read_text, content, columns, told
):
    assert said(read_text("a.csv", content, columns=columns)) == [f"a.csv:1: {told}"]


def test_a_map_of_a_field_that_is_none_is_refused_as_a_whole(read_text):
    with pytest.raises(Refused, match=r"no field 'titel' to be mapped; did you mean 'title'\?"):
        read_text("a.csv", "id,title\n1,a\n", columns={"titel": "title"})


def test_bad_rows_are_refused_with_the_line_they_begin_on_and_the_rest_goes_in(read_text):
    content = (
        "id,title,summary,started_at\n"
        '1,one,"three\nlines\nlong",2024-01-01\n'
        "2,two\n"
        "\n"
        "3,three,,someday\n"
        "4,,,\n"
        '5,"fi"ve,,\n'
        "6,six,,2024-01-06,,\n"
        "7,seven,,,more\n"
        '8,eight,"never closed,\n'
    )

    assert said(read_text("a.csv", content)) == [
        "one",
        "a.csv:5: expected 4 cells as in the header, got 2",
        "a.csv:7: started_at: expected a time such as 2026-03-01T10:00:00Z, got 'someday'",
        "a.csv:8: title: missing; every incident needs a title",
        "a.csv:9: not a row of this table: ',' expected after '\"'",
        "six",
        "a.csv:11: expected 4 cells as in the header, got 5",
        "a.csv:12: not a row of this table: a quote is opened in it and never closed",
    ]


@pytest.mark.parametrize(
    ("dates", "read_as"),
    [
        (["03/04/2024", "25/04/2024"], [(3, 4), (25, 4)]),
        (["03/04/2024 10:00", "04/25/2024 10:00"], [(4, 3), (25, 4)]),
        (["03-04-2024", "05-06-2024"], [(3, 4), (5, 6)]),
        (["03.04.2024", "05.06.2024"], [(3, 4), (5, 6)]),
        (["03-25-2024", "03-04-2024"], [(25, 3), (4, 3)]),
        (["05/05/2024", "06/06/2024"], [(5, 5), (6, 6)]),
    ],
)
def test_day_and_month_are_told_apart_by_the_whole_column(read_text, dates, read_as):
    rows = "".join(f"{n},t,{date}\n" for n, date in enumerate(dates))

    incidents = read_text("a.csv", "id,title,opened\n" + rows)

    assert [(i.started_at.day, i.started_at.month) for i in incidents] == read_as


def test_another_column_tells_where_its_own_does_not(read_text):
    [incident] = read_text("a.csv", "id,title,opened,closed\n1,t,03/04/2024,13/04/2024\n")

    assert incident.started_at == datetime(2024, 4, 3, tzinfo=UTC)


def test_a_date_that_nothing_settles_is_refused_with_the_way_out(read_text):
    assert said(read_text("a.csv", "id,title,opened\n1,t,03/04/2024\n")) == [
        "a.csv:2: opened: expected a time such as 2026-03-01T10:00:00Z, got '03/04/2024'; no row "
        "tells whether day or month comes first, write 2021-04-03 for 3 April"
    ]


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffid,title\n1,a b\n".encode(),
        "id;title\n1;a b\n".encode("utf-16"),
        b"sep=|\nid|title\n1|a b\n",
        b"id\ttitle\r\n1\ta b\r\n",
        b'"id", "title"\n"1", "a b"\n',
    ],
    ids=["mark", "utf-16", "sep", "tabs", "quotes"],
)
def test_encoding_and_delimiter_are_found_by_themselves(read_text, content):
    [incident] = read_text("a.csv", content)

    assert (incident.source, incident.source_id, incident.title) == ("a", "1", "a b")


def test_what_tools_write_for_nothing_is_nothing(read_text):
    [incident] = read_text(
        "a.csv", "id,title,severity,service,resolved_at\n1,t,N/A,?,0000-00-00 00:00:00\n"
    )

    assert incident == Incident(source="a", source_id="1", title="t")


def test_html_in_a_cell_becomes_text(read_text):
    html = (
        '"<div><span class=""y"">9:18 PM</span>&nbsp;Slow &amp; slower.</div><div>x &lt; y</div>"'
    )

    [incident] = read_text("a.csv", f"id,title,description\n1,t,{html}\n")

    assert incident.summary == "9:18 PM Slow & slower.\nx < y"


def test_an_id_can_be_made_from_the_whole_row(read_text):
    content = "status,service\n[RESOLVED] Errors,S3\n[RESOLVED] Errors,EC2\n"
    columns = {"source_id": "*", "title": "status", "status": "status"}

    first, second = read_text("a.csv", content, columns=columns)
    [again] = read_text("a.csv", content.replace("[RESOLVED] Errors,S3\n", ""), columns=columns)

    assert (first.title, first.status) == ("[RESOLVED] Errors", "resolved")
    assert first.source_id != second.source_id == again.source_id


def test_rows_of_an_audit_log_are_versions_that_do_not_know_their_end_yet(read_text):
    content = (
        "number,title,state,opened_at,sys_updated_at,resolved_at\n"
        "INC1,Slow,New,29-02-2016 01:16,29-02-2016 01:23,29-02-2016 11:29\n"
        "INC1,Slow,Closed,29-02-2016 01:16,29-02-2016 11:29,29-02-2016 11:29\n"
    )

    first, last = read_text("log.csv", content)

    assert (first.status, first.known_at, first.resolved_at) == (
        "open",
        datetime(2016, 2, 29, 1, 23, tzinfo=UTC),
        None,
    )
    assert (last.status, last.resolved_at) == ("resolved", last.known_at)


def test_a_table_with_one_row_for_each_incident_leaves_the_change_out(read_text):
    [incident] = read_text("a.csv", "id,title,updated\n1,t,2024-01-01\n")

    assert incident.known_at is None


def test_a_status_that_we_have_no_word_for_is_kept_as_a_label(read_text):
    [incident] = read_text("a.csv", "id,title,status\n1,t,Awaiting parts\n")

    assert (incident.status, incident.labels) == ("open", {"status": "Awaiting parts"})


def test_a_table_in_a_folder_that_speaks_of_no_incidents_is_passed_over(tmp_path):
    tmp_path.joinpath("metrics.csv").write_text("time,cpu,memory\n1,2,3\n")

    assert [(r.path, r.skipped) for r in find([str(tmp_path)])[1]] == [
        (str(tmp_path / "metrics.csv"), True)
    ]


def test_a_column_that_is_there_twice_tells_a_text_once(read_text):
    columns = {"source_id": "ref", "title": "what"}

    [incident] = read_text("a.csv", "ref,ref,what,what\n1,2,t,u\n", columns=columns)

    assert (incident.source_id, incident.title) == ("1", "t")


def test_a_header_alone_holds_no_incident(read_text):
    assert said(read_text("a.csv", "id,title\n")) == [
        "a.csv: a header and no row under it: there is no incident in it"
    ]


def test_the_public_tables_go_in_with_a_map():
    if not DEV.is_dir():
        pytest.skip("the public exports (shared/data/dev) are not beside this checkout")

    [health], _ = find([str(DEV / "exports" / "aws_health_export.csv")])
    columns = {"source_id": "*", "title": "status", "source": "=aws-health"}
    incidents = list(read(health, columns=columns))
    [log], _ = find([str(DEV / "exports" / "servicenow_incident_event_log.csv")])
    [told] = read(log)

    assert len({i.source_id for i in incidents if isinstance(i, Incident)}) == 150
    assert "no column for title among number, incident_state" in str(told)


def written(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


cells = st.text(max_size=10) | st.sampled_from(
    [
        "id", "title", "summary", "status", "opened", "comment", "03/04/2024", "13.1.24", "?",
        "2024-01-01T10:00+99:99", "<br>", "<b>&#0;</b>", "closed", "99999999999999999999", "\0",
        "25/Mar/24 4:10 PM;a;b", "0001-01-01", "31-12-9999 23:59 PST",
    ]
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(
    content=st.binary(max_size=200)
    | st.lists(st.lists(cells, max_size=6), max_size=6).map(written)
    | st.lists(st.lists(cells, min_size=3, max_size=3), max_size=6).map(
        lambda rows: written([["id", "title", "opened"], *rows])
    ),
    columns=st.dictionaries(
        st.sampled_from(["title", "source_id", "started_at", "labels.x", "labels.", "known_at"]),
        st.sampled_from(["*", "=", "=a", "id", "title", "opened", ""]),
        max_size=3,
    ),
)
def test_whatever_the_table_only_incidents_and_refusals_come_out(
    tmp_path_factory, content, columns
):
    path = Path(tmp_path_factory.getbasetemp(), "fuzz.csv")
    path.write_bytes(content)

    table.sniff(path, content.decode(errors="replace"))
    for record in table.read(File(path, "fuzz.csv", columns)):
        assert isinstance(record, (Incident, Refusal))
        str(record).encode()
