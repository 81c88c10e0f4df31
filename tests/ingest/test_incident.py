"""The record: what is kept of it is what comes back."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.incident import Action, Evidence, Incident, Update, as_kept

TIMES = st.none() | st.datetimes(timezones=st.timezones()).map(lambda t: t.replace(microsecond=0))
TEXTS = st.text(min_size=1, max_size=40).filter(
    lambda t: t.strip("\x1c\x1d\x1e\x1f\x85 \t\n\r\x0b\x0c\u2028\u2029")
)


@given(title=TEXTS, at=TIMES, held=st.none() | st.booleans(), label=st.none() | TEXTS)
def test_what_was_written_down_is_read_back_equal_to_what_was_validated(title, at, held, label):
    incident = Incident(
        source="s",
        source_id="1",
        title=title,
        detected_at=at,
        updates=[Update(text="seen", at=at)],
        actions=[Action(text="done", held=held)],
        evidence=[Evidence(text="log line", at=at)],
        labels={"team": label},
        services=["db"],
    )

    back = as_kept(incident.content(), id="inc-1", version=2)

    assert back == incident.model_copy(update={"id": "inc-1", "version": 2})
    assert back.model_dump_json() == Incident(**back.model_dump()).model_dump_json()
