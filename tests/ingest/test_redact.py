"""Nothing that must not be kept is kept, and nothing else is touched.

Secrets are put together here from pieces, so that no scanner of repositories takes them for real.
"""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.incident import Action, Evidence, Incident, Update
from ingest.redact import identity, redact, redact_text
from tests.ingest.given import incident

A1 = "a1B2c3D4e5F6g7H8i9J0" * 8
HEX = "0f1e2d3c4b5a69788796a5b4c3d2e1f0" * 4
AWS = "AKIA" + "Q3EGR7TWUVYZ2ABC"
GITHUB = "ghp_" + A1[:36]
KEY_BLOCK = "\n".join(
    [
        "-----BEGIN RSA PRIVATE KEY-----",
        A1[:64],
        A1[3:67],
        A1[:22] + "==",
        "-----END RSA PRIVATE KEY-----",
    ]
)
WEB_TOKEN = ".".join([base64.urlsafe_b64encode(b'{"alg":"HS256"}').decode(), A1[:30], A1[5:40]])
REAL = Path(__file__).parents[3] / "shared" / "data" / "dev" / "incidents.jsonl"


def test_a_key_becomes_a_placeholder_that_says_what_it_was():
    kept, counts = redact_text(f"deploy failed: {AWS} is not authorised, ask ops@example.com")

    assert kept == "deploy failed: <AWS_KEY:1> is not authorised, ask <EMAIL:1>"
    assert counts == {"AWS_KEY": 1, "EMAIL": 1}


@pytest.mark.parametrize(
    ("kind", "secret"),
    [
        ("AWS_KEY", AWS),
        ("GITHUB_TOKEN", GITHUB),
        ("GITHUB_TOKEN", "github_pat_" + A1[:82]),
        ("GITLAB_TOKEN", "glpat-" + A1[:20]),
        ("SLACK_TOKEN", "xoxb-" + "123456789012-" + A1[:24]),
        ("STRIPE_KEY", "sk_live_" + A1[:24]),
        ("TWILIO_KEY", "SK" + HEX[:32]),
        ("SENDGRID_KEY", "SG." + A1[:22] + "." + A1[:43]),
        ("NPM_TOKEN", "npm_" + A1[:36]),
        ("PYPI_TOKEN", "pypi-AgE" + A1[:80]),
        ("OPENAI_KEY", "sk-proj-" + A1[:60]),
        ("ANTHROPIC_KEY", "sk-ant-" + A1[:60]),
        ("HUGGINGFACE_TOKEN", "hf_" + A1[:34]),
        ("GOOGLE_KEY", "AIza" + A1[:35]),
        ("DIGITALOCEAN_TOKEN", "dop_v1_" + HEX[:64]),
        ("SHOPIFY_TOKEN", "shpat_" + HEX[:32]),
        ("TELEGRAM_TOKEN", "123456789:AA" + A1[:33]),
        ("MAILGUN_KEY", "key-" + HEX[:32]),
        ("NEWRELIC_KEY", "NRAK-" + A1[:27].upper()),
        ("VAULT_TOKEN", "hvs." + A1[:60]),
        ("DOPPLER_TOKEN", "dp.pt." + A1[:43]),
        ("GRAFANA_TOKEN", "glsa_" + A1[:32] + "_" + HEX[:8]),
        ("DATABRICKS_TOKEN", "dapi" + HEX[:32]),
        ("LINEAR_KEY", "lin_api_" + A1[:40]),
        ("ATLASSIAN_TOKEN", "ATATT3x" + A1[:80]),
        ("SCARWISE_TOKEN", "scw_" + A1[:43]),
        ("JWT", WEB_TOKEN),
        ("PASSWORD_HASH", "$2b$12$" + A1[:53]),
        ("PRIVATE_KEY", KEY_BLOCK),
        ("PRIVATE_KEY", KEY_BLOCK.replace("\n", "\\n")),
        ("PRIVATE_KEY", KEY_BLOCK.rpartition("\n")[0]),
    ],
)
@pytest.mark.parametrize(
    "line", ["{} was revoked", "\x1b[31m{}\x1b[0m", "q=%3D{}", "one\\n{}\\ntwo"]
)
def test_what_a_vendor_issues_is_known_by_its_shape(kind, secret, line):
    kept, counts = redact_text(line.format(secret))

    assert kept == line.format(f"<{kind}:1>")
    assert counts == {kind: 1}


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("password=hunter2", "password=<PASSWORD:1>"),
        ("DB_PASSWORD: 'letmein'", "DB_PASSWORD: '<PASSWORD:1>'"),
        ("the password is hunter2, sorry", "the password is <PASSWORD:1>, sorry"),
        ("pwd=a;b!9 user=app", "pwd=<PASSWORD:1> user=app"),
        ('{"db_password": "p\\"q"}', '{"db_password": "<PASSWORD:1>"}'),
        (
            '{\\"password\\":\\"hunter2\\",\\"n\\":1}',
            '{\\"password\\":\\"<PASSWORD:1>\\",\\"n\\":1}',
        ),
        ("<password>hunter2</password>", "<password><PASSWORD:1></password>"),
        ("define('DB_PASSWORD', 'letmein');", "define('DB_PASSWORD', '<PASSWORD:1>');"),
        ("--db-password hunter2 --wait", "--db-password <PASSWORD:1> --wait"),
        ("mysql -uroot -phunter2 orders", "mysql -uroot -p<PASSWORD:1> orders"),
        ("curl -u app:hunter2 https://x", "curl -u app:<PASSWORD:1> https://x"),
        ("sshpass -p hunter2 ssh ops@b", "sshpass -p <PASSWORD:1> ssh ops@b"),
        ("postgres://app:s3cr3t@db-1:5432/x", "postgres://app:<PASSWORD:1>@db-1:5432/x"),
        ("redis://:s3cr3t@cache:6379/0", "redis://:<PASSWORD:1>@cache:6379/0"),
        ("app:s3cr3t@tcp(db-1:3306)/x", "app:<PASSWORD:1>@tcp(db-1:3306)/x"),
        ("Server=db;Pwd=x9!aB;Encrypt=1", "Server=db;Pwd=<PASSWORD:1>;Encrypt=1"),
        ("IDENTIFIED BY 'x9!aB' later", "IDENTIFIED BY 'x9!aB' later"),
        ("ALTER USER a IDENTIFIED BY 'x9!aB'", "ALTER USER a IDENTIFIED BY '<PASSWORD:1>'"),
        ("CREATE ROLE a PASSWORD 'letmein'", "CREATE ROLE a PASSWORD '<PASSWORD:1>'"),
        ("machine h login ci password hunter2", "machine h login ci password <PASSWORD:1>"),
        ("Authorization: Basic YXBwOmh1bnRlcjI=", "Authorization: Basic <BASIC_AUTH:1>"),
        (f"Authorization: Bearer {A1[:24]}", "Authorization: Bearer <TOKEN:1>"),
        ('{"auth": "YXBwOmh1bnRlcjI="}', '{"auth": "<AUTH:1>"}'),
        ("Cookie: sid=abc123; theme=dark", "Cookie: sid=<COOKIE:1>; theme=<COOKIE:2>"),
        ("Set-Cookie: sid=abc123; Path=/", "Set-Cookie: sid=<COOKIE:1>; Path=/"),
        (f"api_key={HEX[:32]}", "api_key=<API_KEY:1>"),
        (f"X-Api-Key: {A1[:20]}", "X-Api-Key: <API_KEY:1>"),
        (f"?token={A1[:20]}&page=2", "?token=<TOKEN:1>&page=2"),
        (f"client_secret: {A1[:20]}", "client_secret: <SECRET:1>"),
        (f"private_key=0x{HEX[:64]}", "private_key=<PRIVATE_KEY:1>"),
        (f"&X-Amz-Signature={HEX[:64]}", "&X-Amz-Signature=<SIGNATURE:1>"),
        ("- name: DB_PASSWORD\n  value: hunter2", "- name: DB_PASSWORD\n  value: <PASSWORD:1>"),
        ("otp=493021", "otp=<OTP:1>"),
        ("verification code 493021", "verification code <PASSWORD:1>"),
        ("creds: bob / Hunter2!x", "creds: bob / <PASSWORD:1>"),
        ("new password - Welcome1!", "new password - <PASSWORD:1>"),
        ("a=b&password=p%26w%21x9&c=d", "a=b&password=<PASSWORD:1>&c=d"),
        ("a%3Db%26password%3Dp9w1x%26c%3Dd", "a%3Db%26password%3D<PASSWORD:1>%26c%3Dd"),
        ("&quot;password&quot;:&quot;p9w&quot;", "&quot;password&quot;:&quot;<PASSWORD:1>&quot;"),
        ("密码：hunter2x9", "密码：<PASSWORD:1>"),
    ],
)
def test_a_secret_is_known_by_what_stands_beside_it(line, kept):
    assert redact_text(line)[0] == kept


def test_every_value_of_a_kubernetes_secret_goes_and_its_keys_stay():
    manifest = (
        "kind: Secret\nmetadata:\n  name: db\ndata:\n"
        "  user: YXBw\n  url: cG9zdGdyZXM=\ntype: Opaque\n"
    )

    kept, _ = redact_text(manifest + "---\nkind: ConfigMap\ndata:\n  mode: cluster\n")

    assert kept == (
        "kind: Secret\nmetadata:\n  name: db\ndata:\n  user: <SECRET:1>\n  url: <SECRET:2>\n"
        "type: Opaque\n---\nkind: ConfigMap\ndata:\n  mode: cluster\n"
    )


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("mail to bob.smith+x@mail.example.com", "mail to <EMAIL:1>"),
        ("user=bob%40example.com", "user=<EMAIL:1>"),
        ("call +49 30 9018200 or (415) 555-2671", "call <PHONE:1> or <PHONE:2>"),
        ("charged 4111 1111 1111 1111 twice", "charged <CARD:1> twice"),
        ("refund to DE89 3704 0044 0532 0130 00 failed", "refund to <IBAN:1> failed"),
    ],
)
def test_personal_data_is_known_by_its_checksum_or_plan(line, kept):
    assert redact_text(line)[0] == kept


@pytest.mark.parametrize(
    "line",
    [
        "password reset failed for 42 users",
        "token expired; the secret was rotated",
        'secret "db-creds" not found',
        "key=user_id cache key=user:42:profile",
        "token=null password=*** secret=${DB_SECRET} pwd=/home/app api_key={{ key }}",
        "secretKeyRef: name: db-creds key: password",
        '{"password": ["This field is required."]}',
        "password must be at least 12 characters",
        "Access denied for user 'app' (using password: YES)",
        "next_page_token=CAESBgoEbmV4dA12345 max_tokens=4096",
        f"trace_id={HEX[:32]} span_id={HEX[:16]} etag={HEX[:32]}",
        f"commit {HEX[:40]} image app@sha256:{HEX[:64]}",
        "request 4bf92f35-77b3-4da6-a3ce-929d0e0e4736 took 2024-01-02T03:04:05+00:00",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf",
        "offset=4539578763621486 [ 1234.567890] usb 1-1",
        "git@github.com:org/app.git root@db-1.example.com getty@tty1.service",
        "PASS: TestOrders (0.00s) bypass=on compass=north",
        "fingerprint SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
        "uptime +0000 (2019) 12345 (404) +1",
        "10.1.2.3 and 8.8.8.8 answered",
        "ssh -p 2222 host; psql -p 5432; docker run -p 8080:80",
        'password = os.environ["DB_PASSWORD"]',
        "IDENTIFIED by its client id",
        "secret: kube-system/default-token-abcde",
        "login: bob / see vault; the password to the db was lost; token - 5 left",
        "security code review; exit code 137; status code 404404",
    ],
)
def test_what_only_resembles_a_secret_is_left_alone(line):
    assert redact_text(line) == (line, {})


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("from 8.8.8.8:53 to 10.1.2.3", "from <IP:1>:53 to 10.1.2.3"),
        ("from 203.0.113.9/32 via 2001:db8::1", "from <IP:1>/32 via <IP:2>"),
        ("127.0.0.1 ::1 fe80::1 192.168.0.1", "127.0.0.1 ::1 fe80::1 192.168.0.1"),
        ("version 3.4.0.1 v1.2.3.4 a-2.6.26.6-49", "version 3.4.0.1 v1.2.3.4 a-2.6.26.6-49"),
        (
            "12:34:56 aa:bb:cc:dd:ee:ff ::ffff:10.1.2.3",
            "12:34:56 aa:bb:cc:dd:ee:ff ::ffff:10.1.2.3",
        ),
    ],
)
def test_public_addresses_go_where_asked_and_private_ones_stay(line, kept):
    assert redact_text(line, ips=True)[0] == kept


def test_every_text_of_an_incident_is_redacted():
    given = Incident(
        source="mail",
        source_id="from ops@example.com",
        title=f"login {GITHUB}",
        url="https://app:hunter2@example.com/1",
        summary=f"s {GITHUB}",
        services=["bob@example.com"],
        severity=f"sev {AWS}",
        symptoms=f"s {GITHUB}",
        updates=[Update(text=f"u {GITHUB}", author="bob@example.com")],
        root_cause=f"r {AWS}",
        cause_family="bob@example.com",
        resolution=f"f {GITHUB}",
        actions=[Action(text=f"a {AWS}")],
        lessons=f"l {AWS}",
        labels={"bob@example.com": AWS, "db_password": "hunter2"},
        evidence=[Evidence(text=f"e {AWS}", source="bob@example.com")],
    )

    kept = redact(given).incident

    assert kept.content() == {
        **kept.content(),
        "source": "mail",
        "source_id": "redacted-d2872b1a3a87fc6d",
        "title": "login <GITHUB_TOKEN:1>",
        "url": "https://app:<PASSWORD:1>@example.com/1",
        "summary": "s <GITHUB_TOKEN:1>",
        "services": ["<EMAIL:2>"],
        "severity": "sev <AWS_KEY:1>",
        "symptoms": "s <GITHUB_TOKEN:1>",
        "updates": [{"text": "u <GITHUB_TOKEN:1>", "at": None, "author": "<EMAIL:2>"}],
        "root_cause": "r <AWS_KEY:1>",
        "cause_family": "<EMAIL:2>",
        "resolution": "f <GITHUB_TOKEN:1>",
        "actions": [{"text": "a <AWS_KEY:1>", "held": None, "at": None}],
        "lessons": "l <AWS_KEY:1>",
        "labels": {"<EMAIL:2>": "<AWS_KEY:1>", "db_password": "<PASSWORD:1>"},
        "evidence": [{"text": "e <AWS_KEY:1>", "kind": "log", "source": "<EMAIL:2>", "at": None}],
    }


def test_a_clean_incident_comes_back_as_it_was():
    clean = incident(updates=[Update(text="looking into it")], labels={"team": "orders"})

    redacted = redact(clean)

    assert redacted.incident is clean
    assert redacted.counts == {}


def test_a_secret_told_once_is_hidden_where_it_stands_bare():
    given = incident(
        summary="the old one, Tr0ub4dor9, still works", resolution="password=Tr0ub4dor9 was rotated"
    )

    kept = redact(given)

    assert kept.incident.summary == "the old one, <PASSWORD:1>, still works"
    assert kept.incident.resolution == "password=<PASSWORD:1> was rotated"
    assert kept.counts == {"PASSWORD": 2}


def test_a_secret_that_is_an_ordinary_word_does_not_spoil_the_text():
    kept = redact(incident(summary="production is down", resolution="password=production"))

    assert kept.incident.summary == "production is down"
    assert kept.incident.resolution == "password=<PASSWORD:1>"


def test_a_new_value_gets_a_number_that_the_text_does_not_use_yet():
    kept, counts = redact_text("<EMAIL:1> wrote to new@example.com")

    assert kept == "<EMAIL:1> wrote to <EMAIL:2>"
    assert counts == {"EMAIL": 1}


def test_the_people_of_the_ticket_are_replaced_wherever_they_are_named():
    given = incident(
        symptoms="Ana Silva saw it first; silva, ana and ana.silva are on it; @mkowalski helped",
        updates=[
            Update(text="Ana Silva paged me", author="Ana Silva (SRE)"),
            Update(text="looking", author="mkowalski"),
            Update(text="done, thanks Ana Silvano", author="Ana  Silva"),
        ],
        labels={"assignee": "Ana Silva", "team": "Ana Silva Fan Club"},
    )

    kept = redact(given).incident

    assert (
        kept.symptoms
        == "<PERSON:1> saw it first; silva, ana and <PERSON:1> are on it; <PERSON:2> helped"
    )
    assert [(u.author, u.text) for u in kept.updates] == [
        ("<PERSON:1> (SRE)", "<PERSON:1> paged me"),
        ("<PERSON:2>", "looking"),
        ("<PERSON:1>", "done, thanks Ana Silvano"),
    ]
    assert kept.labels == {"assignee": "<PERSON:1>", "team": "<PERSON:1> Fan Club"}


@pytest.mark.parametrize(
    "author",
    ["oncall", "deploy-bot", "Support", "Platform Engineering", "PagerDuty", "SRE", "Team B"],
)
def test_a_role_or_a_tool_is_nobody(author):
    given = incident(
        summary="support and engineering say the bot works",
        updates=[Update(text="x", author=author)],
    )

    assert redact(given).incident is given


def test_a_name_of_one_word_is_replaced_as_author_and_never_as_a_word():
    given = incident(
        summary="mark the queue as drained, will retry", updates=[Update(text="ok", author="Mark")]
    )

    kept = redact(given).incident

    assert kept.summary == "mark the queue as drained, will retry"
    assert kept.updates[0].author == "<PERSON:1>"


def test_a_name_that_holds_a_secret_becomes_a_digest_of_its_own():
    kept = {identity(f"mail from {who}@example.com") for who in ("ann", "bob", "ann")}

    assert all(name.startswith("redacted-") and len(name) == 25 for name in kept)
    assert len(kept) == 2
    assert identity("INC-4711") == "INC-4711"


def test_a_field_that_grows_too_long_is_cut_where_everybody_can_see_it():
    given = incident(title="a@b.io " * 71)

    kept = redact(given)

    assert len(kept.incident.title) <= 500
    assert kept.incident.title.endswith("<EMAIL:1>…")
    assert kept.counts == {"CUT": 1, "EMAIL": 71}
    assert redact(kept.incident).counts == {}


def test_what_was_found_is_counted_and_never_shown():
    kept = redact(incident(summary=f"{GITHUB} and {GITHUB} and {AWS}"))

    assert kept.counts == {"AWS_KEY": 1, "GITHUB_TOKEN": 2}
    assert GITHUB not in repr(kept)


SECRETS = st.sampled_from([AWS, GITHUB, WEB_TOKEN, KEY_BLOCK, "bob@example.com", "+49 30 9018200"])
PASSWORDS = st.from_regex(r"[A-Za-z][A-Za-z0-9!#^_+~-]{6,20}[0-9][A-Za-z]", fullmatch=True)
NAMED = st.builds(
    str.format,
    st.sampled_from(
        [
            "password={}",
            '"api_token": "{}"',
            "--secret {}",
            "redis://:{}@h/0",
            "client_secret: '{}'",
        ]
    ),
    PASSWORDS,
)
WORDS = st.sampled_from(
    [
        "password",
        "token:",
        "key=",
        "<EMAIL:1>",
        "<X:",
        "://",
        "@",
        '"',
        "\\n",
        "--",
        "(",
        ";",
        "=",
        "-p",
    ]
)
TEXTS = st.lists(SECRETS | NAMED | WORDS | st.text(max_size=12), max_size=12).flatmap(
    lambda parts: st.sampled_from(["", " ", "\n"]).map(lambda joint: joint.join(parts))
)


@settings(deadline=None)
@given(TEXTS, st.booleans())
def test_twice_is_once(text, ips):
    once, _ = redact_text(text, ips=ips)

    assert redact_text(once, ips=ips) == (once, {})


@settings(deadline=None)
@given(st.lists(TEXTS.filter(str.strip), min_size=1, max_size=4))
def test_an_incident_redacted_twice_is_redacted_once(texts):
    given = incident(
        summary=texts[0],
        updates=[Update(text=t, author="Ana Silva") for t in texts],
        labels={"secret": texts[-1][:2000]},
    )

    once = redact(given).incident

    assert redact(once).incident == once
    assert redact(once).counts == {}


@settings(deadline=None)
@given(SECRETS, st.text(max_size=40), st.text(max_size=40))
def test_no_planted_secret_survives_its_surroundings(secret, before, after):
    kept, _ = redact_text(f"{before} {secret} {after}")

    assert secret not in kept


@settings(deadline=None)
@given(PASSWORDS, st.text(max_size=40))
def test_the_same_value_is_the_same_placeholder_in_every_field(password, noise):
    given = incident(
        summary=f"{noise}\npassword={password}", resolution=f"redis://:{password}@cache/0"
    )

    kept = redact(given).incident

    assert kept.resolution == "redis://:<PASSWORD:1>@cache/0"
    assert str(kept.summary).endswith("password=<PASSWORD:1>")


@settings(deadline=None)
@given(st.lists(st.from_regex(r"[a-z]{1,9}|[0-9]{1,4}|[0-9a-f]{8}", fullmatch=True)))
def test_plain_words_and_numbers_are_untouched(words):
    line = " ".join(words)

    assert redact_text(line) == (line, {})


def test_real_operators_wrote_hardly_anything_that_must_go():
    if not REAL.exists():
        pytest.skip(f"{REAL} is not here: five thousand real incidents were not checked")
    with REAL.open(encoding="utf-8") as lines:
        told = [json.loads(line) for line in lines]

    touched = [t["id"] for t in told if redact_text(json.dumps(t, ensure_ascii=False))[1]]

    assert touched == []
