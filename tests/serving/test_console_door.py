"""Who may look at the console, and which forms it takes."""

import pytest

from ingest import access, audit, feedback
from tests.serving.browser import Form, Seen, asked, press, put, see
from tests.serving.conftest import incident


@pytest.fixture
def full(client):
    """A console over one incident in two versions."""
    put(client, incident())
    put(client, incident(root_cause="A deploy doubled the pool size of every basket pod."))
    return client


@pytest.fixture
def locked(full, cold):
    """(client, secrets by scope) of a console that asks for a token."""
    secrets = {s: access.create(cold.store, s, [s], actor="tests") for s in access.SCOPES}
    return full, secrets


def logged_in(client, secret):
    return press(client, see(client, "/login").form("/login"), token=secret)


def test_a_form_without_the_key_of_our_own_pages_changes_nothing(full, cold):
    form = asked(full, "too many clients already").form("/verdicts")

    missing = press(full, Form(form.action, "post", form.fields | {"csrf": ""}), "wrong")
    guessed = press(full, Form(form.action, "post", form.fields | {"csrf": "0" * 64}), "wrong")
    full.cookies.clear()
    from_elsewhere = press(full, form, "wrong")

    assert [r.status_code for r in (missing, guessed, from_elsewhere)] == [403, 403, 403]
    assert feedback.given(cold.store) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://127.0.0.1:1"},
    ],
)
def test_a_form_that_another_site_sends_changes_nothing(locked, cold, headers):
    full, secrets = locked
    logged_in(full, secrets["admin"])
    form = asked(full, "too many clients already").form("/verdicts")

    data = form.fields | {"verdict": "wrong"}
    response = full.post("/verdicts", data=data, headers=headers)

    assert response.status_code == 403
    assert feedback.given(cold.store) == []


def test_who_is_not_logged_in_is_led_to_the_login_and_back(locked):
    full, secrets = locked

    away = full.get("/diagnose?text=too+many+clients", follow_redirects=False)
    login = see(full, away.headers["location"])
    back = press(full, login.form("/login"), token=secrets["read"])

    assert away.status_code == 303
    assert back.headers["location"] == "/diagnose?text=too+many+clients"
    cookie = back.headers["set-cookie"]
    assert cookie.startswith("scarwise_token=")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Seen before" in see(full, back.headers["location"]).text


def test_a_link_from_a_chat_takes_one_step_so_that_the_cookie_comes_along(locked):
    full, _ = locked

    page = see(full, "/incidents?service=a", headers={"sec-fetch-site": "cross-site"})

    refresh = [a["content"] for t, a in page.elements if a.get("http-equiv") == "refresh"]
    assert refresh == ["0; url=/incidents?service=a"]


def test_a_wrong_token_is_refused_and_a_revoked_one_ends_the_visit(locked, cold):
    full, secrets = locked

    wrong = logged_in(full, "scw_wrong")
    logged_in(full, secrets["write"])
    access.revoke(cold.store, "write", actor="tests")

    assert wrong.status_code == 401
    assert "not known here" in Seen(wrong.text).text
    assert full.get("/", follow_redirects=False).headers["location"] == "/login"


def test_logging_out_forgets_the_token(locked):
    full, secrets = locked
    logged_in(full, secrets["read"])

    press(full, see(full, "/").form("/logout"))

    assert full.get("/", follow_redirects=False).status_code == 303


@pytest.mark.parametrize(
    "next", ["https://evil.test/", "//evil.test", "/\\evil.test", "/\t/evil.test"]
)
def test_the_login_leads_to_no_other_site(locked, next):
    full, secrets = locked
    form = see(full, "/login").form("/login")

    assert press(full, form, token=secrets["read"], next=next).headers["location"] == "/"


def test_a_token_that_only_reads_is_offered_no_button_and_refused_the_act(locked, cold):
    full, secrets = locked
    logged_in(full, secrets["read"])
    page = asked(full, "too many clients already")
    [id] = {i.incident.id for i in cold.store.page()}
    key = page.form("/logout").fields["csrf"]

    verdict = full.post("/verdicts", data={"csrf": key, "incident_id": id, "verdict": "same"})
    forget = full.post(f"/incidents/{id}/forget", data={"csrf": key, "confirm": "1"})
    release = full.post(f"/incidents/{id}/release", data={"csrf": key})

    assert {f.action for f in page.forms} == {"/logout", "/diagnose"}
    assert {f.action for f in see(full, f"/incidents/{id}").forms} == {"/logout"}
    assert [r.status_code for r in (verdict, forget, release)] == [403, 403, 403]
    assert "this needs admin" in Seen(forget.text).text
    assert cold.store.count() == {"incidents": 1, "versions": 2, "quarantined": 0, "feedback": 0}


def test_an_act_is_attributed_to_the_token(locked, cold):
    full, secrets = locked
    logged_in(full, secrets["write"])

    press(full, asked(full, "too many clients already").form("/verdicts"), "same")

    last = audit.entries(cold.store)[-1]
    assert (last.actor, last.act) == ("token:write", "feedback.given")
    assert feedback.given(cold.store)[0].who == "write"


def test_a_browser_may_name_the_origin_of_our_own_forms(client):
    response = client.get("/")

    assert response.headers["referrer-policy"] == "same-origin"
    assert "default-src 'self'" in response.headers["content-security-policy"]
