"""How much of what must not be kept is found, and how much of the rest is touched.

Run `python -m benchmarks.redaction`. Every secret, name and line is made up at random from a seed;
nothing here knows the rules. A secret counts as found when not one occurrence of it is left, and a
clean line as touched when a single character of it changed. `make bench` runs this among others.
"""

import argparse
import base64
import json
import random
import string
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ingest.redact import redact_text

ALNUM = string.ascii_letters + string.digits
URLSAFE = ALNUM + "_-"
BASE64 = ALNUM + "+/"
HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + string.digits
LOWER = string.ascii_lowercase + string.digits
SYMBOLS = "!@#$%^*_-+=?."


@dataclass(frozen=True, slots=True)
class Case:
    """One line, and what in it must be gone; an empty secret marks a line that must stay."""

    family: str
    kind: str
    line: str
    secret: str


class Maker:
    """Random material from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def chars(self, alphabet: str, n: int) -> str:
        return "".join(self.random.choice(alphabet) for _ in range(n))

    def pick(self, *options: str) -> str:
        return self.random.choice(options)

    def hex(self, n: int) -> str:
        return self.chars(HEX, n)

    def uuid(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def base64_of(self, n: int) -> str:
        return base64.b64encode(self.random.randbytes(n)).decode()

    def json_segment(self, **claims: str) -> str:
        return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")

    def password(self) -> str:
        """As people choose them: a word with digits, two words, or a generator's output."""
        word = self.pick("summer", "Welcome", "dragon", "Winter", "hunter", "correct", "Admin")
        return self.pick(
            f"{word}{self.chars(string.digits, self.random.randint(1, 4))}",
            f"{word}{self.pick('!', '@', '#', '$')}{self.chars(string.digits, 3)}",
            f"{word}-{self.pick('horse', 'Falls', 'moon')}-{self.chars(string.digits, 2)}",
            self.chars(ALNUM + SYMBOLS, self.random.randint(10, 24)).strip(SYMBOLS) + "7k",
        )

    def token(self) -> str:
        n = self.random.randint(20, 48)
        alphabet = self.random.choice([ALNUM, URLSAFE, HEX, LOWER])
        return self.chars(alphabet, n).strip("-_") + "4f"

    def pem(self, label: str, joint: str) -> str:
        body = [self.chars(BASE64, 64) for _ in range(self.random.randint(4, 20))]
        lines = [
            f"-----BEGIN {label}-----",
            *body,
            self.chars(BASE64, 30) + "==",
            f"-----END {label}-----",
        ]
        return joint.join(lines)


FORMATS: dict[str, Callable[[Maker], str]] = {
    "AWS access key id": lambda m: m.pick("AKIA", "ASIA") + m.chars("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16),
    "Google API key": lambda m: "AIza" + m.chars(URLSAFE, 35),
    "Google OAuth token": lambda m: "ya29." + m.chars(URLSAFE, 120),
    "Google client secret": lambda m: "GOCSPX-" + m.chars(URLSAFE, 28),
    "GitHub token": lambda m: m.pick("ghp_", "gho_", "ghs_", "ghu_", "ghr_") + m.chars(ALNUM, 36),
    "GitHub fine-grained": lambda m: f"github_pat_{m.chars(ALNUM, 22)}_{m.chars(ALNUM, 59)}",
    "GitLab token": lambda m: m.pick("glpat-", "gldt-", "glrt-", "glptt-") + m.chars(URLSAFE, 20),
    "Slack token": lambda m: f"xox{m.pick('b', 'p')}-{m.chars(string.digits, 12)}-{m.chars(ALNUM, 24)}",
    "Slack app token": lambda m: f"xapp-1-A{m.chars(UPPER, 10)}-{m.chars(string.digits, 13)}-{m.hex(64)}",
    "Slack webhook": lambda m: (
        f"https://hooks.slack.com/services/T{m.chars(UPPER, 8)}/B{m.chars(UPPER, 8)}/{m.chars(ALNUM, 24)}"
    ),
    "Stripe key": lambda m: m.pick("sk_live_", "rk_live_", "sk_test_") + m.chars(ALNUM, 24),
    "Stripe webhook secret": lambda m: "whsec_" + m.chars(ALNUM, 32),
    "Twilio key": lambda m: "SK" + m.hex(32),
    "SendGrid key": lambda m: f"SG.{m.chars(URLSAFE, 22)}.{m.chars(URLSAFE, 43)}",
    "Mailgun key": lambda m: "key-" + m.hex(32),
    "Mailchimp key": lambda m: f"{m.hex(32)}-us{m.random.randint(1, 21)}",
    "npm token": lambda m: "npm_" + m.chars(ALNUM, 36),
    "PyPI token": lambda m: "pypi-AgEIcHlwaS5vcmc" + m.chars(URLSAFE, 150),
    "RubyGems key": lambda m: "rubygems_" + m.hex(48),
    "Docker token": lambda m: "dckr_pat_" + m.chars(URLSAFE, 27),
    "OpenAI key": lambda m: "sk-proj-" + m.chars(URLSAFE, 120),
    "OpenAI key, old": lambda m: f"sk-{m.chars(ALNUM, 20)}T3BlbkFJ{m.chars(ALNUM, 20)}",
    "Anthropic key": lambda m: f"sk-ant-api03-{m.chars(URLSAFE, 93)}AA",
    "Hugging Face token": lambda m: "hf_" + m.chars(string.ascii_letters, 34),
    "DigitalOcean token": lambda m: "dop_v1_" + m.hex(64),
    "Shopify token": lambda m: m.pick("shpat_", "shpss_") + m.hex(32),
    "Telegram bot token": lambda m: f"{m.chars('123456789', 10)}:AA{m.chars(URLSAFE, 33)}",
    "New Relic key": lambda m: "NRAK-" + m.chars(UPPER, 27),
    "Vault token": lambda m: "hvs." + m.chars(URLSAFE, 90),
    "Doppler token": lambda m: "dp.pt." + m.chars(ALNUM, 43),
    "Grafana token": lambda m: f"glsa_{m.chars(ALNUM, 32)}_{m.hex(8)}",
    "Databricks token": lambda m: "dapi" + m.hex(32),
    "Linear key": lambda m: "lin_api_" + m.chars(ALNUM, 40),
    "Atlassian token": lambda m: "ATATT3xFfGF0" + m.chars(URLSAFE, 172) + "=" + m.hex(8).upper(),
    "Notion token": lambda m: "ntn_" + m.chars(ALNUM, 46),
    "Postman key": lambda m: f"PMAK-{m.hex(24)}-{m.hex(34)}",
    "Square token": lambda m: "sq0atp-" + m.chars(URLSAFE, 22),
    "Terraform token": lambda m: f"{m.chars(ALNUM, 14)}.atlasv1.{m.chars(ALNUM, 64)}",
    "Sentry token": lambda m: "sntryu_" + m.hex(64),
    "Dynatrace token": lambda m: f"dt0c01.{m.chars(UPPER, 24)}.{m.chars(UPPER, 64)}",
    "Tailscale key": lambda m: f"tskey-auth-{m.chars(ALNUM, 16)}-{m.chars(ALNUM, 32)}",
    "PlanetScale password": lambda m: "pscale_pw_" + m.chars(URLSAFE, 43),
    "Supabase token": lambda m: "sbp_" + m.hex(40),
    "age key": lambda m: "AGE-SECRET-KEY-1" + m.chars("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58),
    "Azure client secret": lambda m: f"{m.chars(ALNUM, 3)}8Q~{m.chars(ALNUM, 34)}",
    "JWT": lambda m: ".".join(
        [m.json_segment(alg="HS256", typ="JWT"), m.json_segment(sub=m.hex(8)), m.chars(URLSAFE, 43)]
    ),
    "bcrypt hash": lambda m: f"$2b$12${m.chars(ALNUM + './', 53)}",
    "sha512-crypt hash": lambda m: f"$6${m.chars(ALNUM, 16)}${m.chars(ALNUM + './', 86)}",
    "private key": lambda m: m.pem(m.pick("RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY"), "\n"),
    "private key, one line": lambda m: m.pem("OPENSSH PRIVATE KEY", "\\n"),
    "private key, cut off": lambda m: m.pem("RSA PRIVATE KEY", "\n").rpartition("\n")[0],
}  # fmt: skip

FORMAT_LINES = [
    "{v}",
    "2026-03-04T05:06:07Z ERROR auth failed for {v} (401)",
    'level=warn msg="rejected" credential={v} attempt=3',
    '{{"message": "used {v}", "status": 403}}',
    "he pasted {v} in the channel",
    "curl -s https://api.example.com/v1/things?x={v}",
    "x%3D{v}",
    "\x1b[31m{v}\x1b[0m",
    "- {v}\n- rotated it",
    "first line\\n{v}\\nlast line",
]

CONTEXTS: dict[str, tuple[Callable[[Maker], str], list[str]]] = {
    "password assigned": (Maker.password, [
        "password={v}", "DB_PASSWORD={v}", "passwd: {v}", "spring.datasource.password={v}", "dbPassword = {v}",
        "export PGPASSWORD='{v}'", "PASS={v} ./run.sh", "user=app password={v} host=db-1", "user: app\npassword: {v}\nhost: db",
    ]),
    "password in JSON": (Maker.password, [
        '{{"user": "app", "password": "{v}"}}', '{{\\"password\\":\\"{v}\\",\\"n\\":1}}', "{{'password': '{v}'}}",
        '"db_passwd" : "{v}",',
    ]),
    "password said": (Maker.password, [
        "the password is {v}", "password was {v}, please rotate it", 'I reset the password to... no: password: "{v}"',
        "Password: {v}",
    ]),
    "password in XML": (Maker.password, [
        "<password>{v}</password>", '<add key="DbPassword" value="{v}"/>', '<property name="db.password" value="{v}" />',
    ]),
    "password flag": (Maker.password, [
        "mysqldump --password={v} orders", "deploy --db-password {v} --wait", "mysql -u root -p{v} -h db-1 orders",
        "sshpass -p '{v}' ssh ops@bastion", "docker login -u ci -p {v} registry.example.com",
        "curl -u admin:{v} https://example.com/", "redis-cli -h cache -a {v} ping",
    ]),
    "password in URL": (lambda m: m.chars(ALNUM + "-_.~!$*", 14) + "9", [
        "postgres://app:{v}@db-1.example.com:5432/orders", "redis://:{v}@cache:6379/0", "amqp://svc:{v}@mq-1/vhost",
        "mongodb+srv://root:{v}@cluster0.example.net/?retryWrites=true", "could not clone https://bot:{v}@git.example.com/a.git",
    ]),
    "connection string": (lambda m: m.chars(ALNUM + "!#$%^*", 16) + "x2", [
        "Server=tcp:sql.example.com,1433;User ID=app;Password={v};Encrypt=True;", "Data Source=db;Uid=app;Pwd={v};",
        "host=db-1 port=5432 dbname=orders user=app password={v} sslmode=require",
    ]),
    "SQL": (Maker.password, [
        "CREATE USER 'app'@'%' IDENTIFIED BY '{v}';", "ALTER USER app WITH PASSWORD '{v}';",
        "CREATE ROLE app LOGIN PASSWORD '{v}' VALID UNTIL 'infinity';", "SET PASSWORD FOR 'app'@'%' = PASSWORD('{v}');",
    ]),
    "Kubernetes": (lambda m: m.base64_of(18), [
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\ndata:\n  username: {v}\n",
        "apiVersion: v1\ndata:\n  tls.key: {v}\nkind: Secret\ntype: Opaque\n",
        "env:\n- name: DB_PASSWORD\n  value: {v}\n",
    ]),
    "netrc": (Maker.password, ["machine git.example.com login ci password {v}", "machine a.example.com\nlogin ci\npassword {v}"]),
    "bearer": (Maker.token, [
        "Authorization: Bearer {v}", "curl -H 'Authorization: Bearer {v}' https://example.com", '"authorization": "Bearer {v}",',
        "authorization=[Bearer {v}] accept=[*/*]", "-H 'Authorization: token {v}'",
    ]),
    "basic": (lambda m: base64.b64encode(f"svc:{m.chars(ALNUM, 12)}".encode()).decode(), [
        "Authorization: Basic {v}", '{{"auths": {{"registry.example.com": {{"auth": "{v}"}}}}}}', "proxy-authorization: basic {v}",
    ]),
    "token assigned": (Maker.token, [
        "api_key={v}", "X-Api-Key: {v}", '"apiKey": "{v}"', "token={v}", '"access_token":"{v}","expires_in":3600', "client_secret: {v}",
        "SECRET_KEY_BASE={v}", "refresh_token = '{v}'", "--token {v}", "GET /v1/things?token={v}&page=2", "webhook secret: {v}",
        "DATADOG_API_KEY={v}", "slack-signing-secret={v}", ":auth_token=>\"{v}\"",
    ]),
    "cloud keys": (lambda m: m.chars(BASE64, 40), [
        "aws_secret_access_key = {v}", "AWS_SECRET_ACCESS_KEY={v}", '"SecretAccessKey": "{v}"', "AccountKey={v};EndpointSuffix=x",
    ]),
    "cookie": (Maker.token, [
        "Cookie: session={v}; theme=dark", "Set-Cookie: sid={v}; Path=/; HttpOnly", "'Cookie': 'connect.sid={v}'", "JSESSIONID={v}",
    ]),
    "signed URL": (lambda m: m.hex(64), [
        "https://b.s3.amazonaws.com/k?X-Amz-Date=20260304T050607Z&X-Amz-Signature={v}",
        "https://a.blob.core.windows.net/c?sv=2024-01-01&sp=r&sig={v}",
    ]),
    "htpasswd": (lambda m: f"$apr1${m.chars(ALNUM, 8)}${m.chars(ALNUM + './', 22)}", ["admin:{v}"]),
    "hex private key": (lambda m: m.hex(64), ["private_key=0x{v}", "private key: {v}", '"privateKey": "{v}"']),
}  # fmt: skip

PERSONAL: dict[str, tuple[Callable[[Maker], str], list[str]]] = {
    "e-mail": (
        lambda m: f"{m.chars(string.ascii_lowercase, 6)}.{m.chars(string.ascii_lowercase, 5)}@{m.pick('example.com', 'mail.example.org')}",
        ["mail to {v} bounced", "user={v} status=locked", '"email":"{v}"', "<{v}>: host unknown"],
    ),
    "phone": (
        lambda m: m.pick(
            f"+1 415 555 {m.chars('123456789', 4)}", f"(212) 555-{m.chars('123456789', 4)}",
            f"+49 30 {m.chars('123456789', 7)}", f"+44 20 7946 0{m.chars('123456789', 3)}", f"+1415555{m.chars('123456789', 4)}",
        ),
        ["call {v} for the vendor", "phone: {v}", "paged {v} twice"],
    ),
    "card": (lambda m: luhn("4" + m.chars(string.digits, 14)), ["charged {v} twice", "card={v} declined"]),
    "IBAN": (lambda m: iban(m.chars(string.digits, 18)), ["refund to {v} failed", "iban: {v}"]),
}  # fmt: skip

CLEAN: list[Callable[[Maker], str]] = [
    lambda m: f"trace_id={m.hex(32)} span_id={m.hex(16)} took 12ms",
    lambda m: f"request {m.uuid()} timed out after 30s",
    lambda m: f"commit {m.hex(40)} reverted by the pipeline",
    lambda m: f"image registry.example.com/app@sha256:{m.hex(64)} not found",
    lambda m: f"container {m.hex(64)} exited with code 137",
    lambda m: f'etag: "{m.hex(32)}" cache miss',
    lambda m: f"arn:aws:iam::{m.chars(string.digits, 12)}:role/deploy is not authorized to perform s3:GetObject",
    lambda m: f"arn:aws:secretsmanager:eu-west-1:{m.chars(string.digits, 12)}:secret:prod/db-{m.chars(string.ascii_letters, 6)}",
    lambda m: f"consumer lag on orders-{m.random.randint(0, 40)}: offset={m.chars('123456789', 16)}",
    lambda m: f"[{m.chars('123456789', 6)}.{m.chars(string.digits, 6)}] Out of memory: Killed process 4211 (java)",
    lambda m: f"Pod checkout-{m.hex(10)}-{m.chars('bcdfghjklmnpqrstvwxz2456789', 5)} is in CrashLoopBackOff",
    lambda m: f"dial tcp 10.{m.random.randint(0, 255)}.4.7:5432: connect: connection refused",
    lambda m: f"node ip-10-0-{m.random.randint(0, 255)}-12.eu-west-1.compute.internal NotReady",
    lambda m: f"x-amz-request-id: {m.chars(UPPER, 16)} x-amz-id-2: {m.chars(BASE64, 76)}",
    lambda m: f"version 1.{m.random.randint(0, 40)}.{m.random.randint(0, 20)}+build.{m.hex(7)} rolled out",
    lambda m: f"session_id={m.uuid()} user_id={m.random.randint(1, 9999)} login ok",
    lambda m: f"Idempotency-Key: {m.uuid()}",
    lambda m: f"cache key=user:{m.random.randint(1, 9999)}:profile evicted",
    lambda m: f"partition key orders#{m.random.randint(1, 99)} is hot, key=user_id",
    lambda m: f"next_page_token={m.chars(URLSAFE, 32)}",
    lambda m: f"max_tokens={m.random.randint(100, 9000)} prompt_tokens: {m.random.randint(100, 9000)}",
    lambda m: f"password reset failed for {m.random.randint(2, 900)} users",
    lambda _: "token expired, asking for a new one",
    lambda _: 'MountVolume.SetUp failed for volume "creds" : secret "db-creds" not found',
    lambda _: "password=*** token=null secret=${DB_SECRET} api_key={{ vault.key }}",
    lambda _: "secretKeyRef: name: db-creds key: password",
    lambda _: 'raise ValueError("password must be at least 12 characters")',
    lambda _: "Access denied for user 'app'@'10.1.2.3' (using password: YES)",
    lambda _: "the bearer token has expired; basic auth is disabled",
    lambda _: "private key mismatch: certificate and key do not belong together",
    lambda m: f"Jun {m.random.randint(1, 28)} 09:10:11 host sshd[{m.random.randint(100, 9999)}]: Failed password for invalid user",
    lambda m: f"GET /v1/users/{m.random.randint(1, 99999)}?sort=name&page=3&limit=50 200 {m.random.randint(1, 900)}ms",
    lambda m: f"at com.example.Orders.place(Orders.java:{m.random.randint(1, 900)})",
    lambda m: f"git clone git@github.com:example/app.git && git checkout {m.hex(8)}",
    lambda m: f"blk_-{m.chars('123456789', 19)} replicated to 3 datanodes",
    lambda m: f"checksum mismatch: expected md5 {m.hex(32)}, got {m.hex(32)}",
    lambda m: f"ts={m.random.randint(1700000000000, 1799999999999)} seq={m.chars('123456789', 15)} lsn=16/B374D848",
    lambda m: f"AWS account {m.chars(string.digits, 12)}, vpc-{m.hex(17)}, i-{m.hex(17)}, ami-{m.hex(17)}",
    lambda m: f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5{m.chars(BASE64, 48)} deploy",
    lambda m: f"fingerprint SHA256:{m.chars(BASE64, 43)}",
    lambda m: f"uptime 12 days (3.{m.random.randint(0, 99)} load), {m.random.randint(1, 9)}.0e+05 requests",
    lambda m: f"2026-02-{m.random.randint(10, 28)}T03:04:05.678+02:00 INFO [http-nio-8080-exec-{m.random.randint(1, 99)}] ready",
    lambda m: f"kubectl -n prod get pod -l app=api -o jsonpath='{{.items[0].metadata.name}}' # {m.hex(6)}",
    lambda m: f"{m.random.randint(1, 99)}% of keys expired, {m.random.randint(1, 9999)} tokens issued, 3 passwords reset",
]  # fmt: skip

HOSTILE = {
    "a": "a", "1": "1", "space": " ", "newline": "\n", "=": "=", "@": "@", "a@": "a@", "a.": "a.", "://": "://",
    "://a:": "://a:", "eyJ": "eyJ", "eyJa.": "eyJabcdefghij.", "BEGIN": "-----BEGIN RSA PRIVATE KEY-----",
    "BEGIN, cut": "-----BEGIN ", "password=": "password=", "password: ": "password: ", "token ": "token ",
    "sk-": "sk-", "ghp_": "ghp_", "AKIA": "AKIA", "+1 ": "+1 ", "4111 ": "4111 ", "DE00": "DE00", "cookie": "cookie: a=",
    "quotes": "\"'`", "brackets": "([{<", "backslash": "\\", "placeholder": "<EMAIL:1>", "colour": "\x1b[31m",
}  # fmt: skip


def luhn(digits: str) -> str:
    """The digits with the check digit that makes them a card number (ISO/IEC 7812-1)."""
    weighted = [int(d) * (2 if n % 2 else 1) for n, d in enumerate(reversed(digits), start=1)]
    total = sum(n // 10 + n % 10 for n in weighted)
    return digits + str(-total % 10)


def iban(account: str) -> str:
    """A German account number with its check digits (ISO 13616)."""
    check = 98 - int(account + "131400") % 97
    return f"DE{check:02d}{account}"


def secrets(seed: int, each: int) -> Iterator[Case]:
    """`each` cases of every kind, in every family."""
    maker = Maker(seed)
    for kind, make in FORMATS.items():
        for n in range(each):
            yield case(maker, "format", kind, make, FORMAT_LINES[n % len(FORMAT_LINES)])
    for family, kinds in (("context", CONTEXTS), ("personal", PERSONAL)):
        for kind, (make, lines) in kinds.items():
            for n in range(each):
                yield case(maker, family, kind, make, lines[n % len(lines)])


def case(maker: Maker, family: str, kind: str, make: Callable[[Maker], str], line: str) -> Case:
    """One line with one secret in it."""
    secret = make(maker)
    return Case(family, kind, line.format(v=secret), secret)


def clean_lines(seed: int, each: int) -> Iterator[Case]:
    """`each` lines of every kind that must stay as they are."""
    maker = Maker(seed)
    for make in CLEAN:
        for _ in range(each):
            yield Case("clean", "clean", make(maker), "")


def main() -> None:
    """Print recall by kind, clean lines touched, and the time of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=20260304)
    parser.add_argument("--each", type=int, default=40, help="cases per kind")
    parser.add_argument(
        "--misses", action="store_true", help="print what was missed and what was touched"
    )
    arguments = parser.parse_args()

    cases = list(secrets(arguments.seed, arguments.each))
    clean = list(clean_lines(arguments.seed + 1, arguments.each))
    print_recall(cases, show=arguments.misses)
    print_touched(clean, show=arguments.misses)
    print_speed([*cases, *clean])
    print_hostile()


def print_recall(cases: list[Case], *, show: bool) -> None:
    found: dict[tuple[str, str], list[bool]] = {}
    for c in cases:
        gone = c.secret not in redact_text(c.line)[0]
        found.setdefault((c.family, c.kind), []).append(gone)
        if show and not gone:
            print(f"missed  {c.kind}: {c.line[:160]!r}")
    for (family, kind), hits in found.items():
        print(f"{family:<9} {kind:<24} {sum(hits):>5} / {len(hits)}")
    for family in ("format", "context", "personal"):
        hits = [hit for (name, _), some in found.items() if name == family for hit in some]
        print(f"{family:<9} {'all':<24} {sum(hits):>5} / {len(hits)} = {sum(hits) / len(hits):.2%}")


def print_touched(clean: list[Case], *, show: bool) -> None:
    touched = [c for c in clean if redact_text(c.line)[0] != c.line]
    for c in touched if show else []:
        print(f"touched {c.line[:160]!r} -> {redact_text(c.line)[0][:160]!r}")
    print(
        f"clean lines touched      {len(touched):>15} / {len(clean)} = {len(touched) / len(clean):.2%}"
    )


def print_speed(cases: list[Case]) -> None:
    began = time.process_time()
    for c in cases:
        redact_text(c.line)
    print(f"CPU per line             {(time.process_time() - began) / len(cases) * 1e3:>15.3f} ms")
    page = "\n".join(c.line for c in cases if not c.secret)[:1_000]
    began = time.process_time()
    for _ in range(1_000):
        redact_text(page)
    print(f"CPU per clean 1 kB       {time.process_time() - began:>15.3f} ms")


def print_hostile() -> None:
    """A megabyte of one thing over and over: the slowest must stay linear."""
    seconds = {}
    for name, unit in HOSTILE.items():
        text = (unit * (1_000_000 // len(unit) + 1))[:1_000_000]
        began = time.process_time()
        redact_text(text)
        seconds[name] = time.process_time() - began
    slowest = sorted(seconds, key=seconds.__getitem__, reverse=True)[:5]
    print("CPU per hostile MB       " + ", ".join(f"{n!r} {seconds[n]:.2f} s" for n in slowest))


if __name__ == "__main__":
    main()
