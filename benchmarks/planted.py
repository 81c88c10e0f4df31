"""A labelled corpus of secrets, personal data and clean lines, made up at random from a seed.

Nothing in here knows the rules of `ingest.redact`: formats are as their vendors describe them. In a
template ``<hex32>`` stands for 32 characters of that alphabet, and ``{v}`` for the secret.
"""

import base64
import json
import random
import re
import string
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_ALNUM = string.ascii_letters + string.digits
_ALPHABETS = {
    "alnum": _ALNUM,
    "url": _ALNUM + "_-",
    "base": _ALNUM + "+/",
    "crypt": _ALNUM + "./",
    "sign": _ALNUM + "-_.~!$*",
    "letter": string.ascii_letters,
    "small": string.ascii_lowercase,
    "lower": string.ascii_lowercase + string.digits,
    "upper": string.ascii_uppercase + string.digits,
    "thirtytwo": "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
    "hex": "0123456789abcdef",
    "digit": string.digits,
    "n": "123456789",
}
_BLANK = re.compile(r"<([a-z]+)(\d*)>")


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

    def filled(self, template: str) -> str:
        """The template with its blanks filled."""
        return _BLANK.sub(lambda blank: self._material(blank[1], int(blank[2] or 1)), template)

    def _material(self, name: str, length: int) -> str:
        if name == "uuid":
            return str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        return "".join(self.random.choices(_ALPHABETS[name], k=length))

    def one(self, *templates: str) -> str:
        return self.filled(self.random.choice(templates))


def password(m: Maker) -> str:
    """As people choose them: a word with digits, two words; or a generator's output."""
    word = m.one("summer", "Welcome", "dragon", "Winter", "hunter", "correct", "Admin")
    other = m.one("horse", "Falls", "moon")
    return m.one(
        f"{word}<digit2>",
        f"{word}@<digit3>",
        f"{word}!<n4>",
        f"{word}-{other}-<digit2>",
        "<sign14>7k",
    )


def token(m: Maker) -> str:
    """What a machine hands out, in any alphabet."""
    return m.one(
        "<alnum20>4f", "<alnum32>4f", "<alnum8>_<url24>9", "<hex32>", "<lower40>3", "<hex64>"
    )


def private_key(label: str, joint: str = "\n", *, is_whole: bool = True) -> Callable[[Maker], str]:
    """A PEM block with this between its lines; without its end where it is cut off."""

    def make(m: Maker) -> str:
        body = [m.filled("<base64>") for _ in range(m.random.randint(4, 20))]
        end = [m.filled("<base30>=="), f"-----END {label}-----"] if is_whole else []
        return joint.join([f"-----BEGIN {label}-----", *body, *end])

    return make


def web_token(m: Maker) -> str:
    """A JSON Web Token (RFC 7519)."""
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": m.filled("<hex8>"), "admin": True})
    coded = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts]
    return ".".join([*coded, m.filled("<url43>")])


def coded_pair(m: Maker) -> str:
    """``user:password`` as HTTP's Basic scheme sends it."""
    return base64.b64encode(m.filled("svc:<alnum12>").encode()).decode()


def card(m: Maker) -> str:
    """A number with its check digit (ISO/IEC 7812-1)."""
    digits = m.filled("4<digit14>")
    weighted = [int(d) * (2 if n % 2 else 1) for n, d in enumerate(reversed(digits), start=1)]
    return digits + str(-sum(n // 10 + n % 10 for n in weighted) % 10)


def account(m: Maker) -> str:
    """A German account number with its check digits (ISO 13616)."""
    digits = m.filled("<digit18>")
    return f"DE{98 - int(digits + '131400') % 97:02d}{digits}"


FORMATS: dict[str, str | Callable[[Maker], str]] = {
    "AWS access key id": "AKIA<thirtytwo16>",
    "AWS temporary key id": "ASIA<thirtytwo16>",
    "Google API key": "AIza<url35>",
    "Google OAuth token": "ya29.<url120>",
    "Google client secret": "GOCSPX-<url28>",
    "GitHub token": "ghp_<alnum36>",
    "GitHub app token": "ghs_<alnum36>",
    "GitHub fine-grained": "github_pat_<alnum22>_<alnum59>",
    "GitLab token": "glpat-<url20>",
    "GitLab runner token": "glrt-<url20>",
    "Slack bot token": "xoxb-<digit12>-<digit12>-<alnum24>",
    "Slack app token": "xapp-1-A<upper10>-<digit13>-<hex64>",
    "Slack webhook": "https://hooks.slack.com/services/T<upper8>/B<upper8>/<alnum24>",
    "Stripe key": "sk_live_<alnum24>",
    "Stripe webhook secret": "whsec_<alnum32>",
    "Twilio key": "SK<hex32>",
    "SendGrid key": "SG.<url22>.<url43>",
    "Mailgun key": "key-<hex32>",
    "Mailchimp key": "<hex32>-us1<digit>",
    "npm token": "npm_<alnum36>",
    "PyPI token": "pypi-AgEIcHlwaS5vcmc<url150>",
    "RubyGems key": "rubygems_<hex48>",
    "Docker token": "dckr_pat_<url27>",
    "OpenAI key": "sk-proj-<url120>",
    "OpenAI key, old": "sk-<alnum20>T3BlbkFJ<alnum20>",
    "Anthropic key": "sk-ant-api03-<url93>AA",
    "Hugging Face token": "hf_<letter34>",
    "DigitalOcean token": "dop_v1_<hex64>",
    "Shopify token": "shpat_<hex32>",
    "Telegram bot token": "<n10>:AA<url33>",
    "New Relic key": "NRAK-<upper27>",
    "Vault token": "hvs.<url90>",
    "Doppler token": "dp.pt.<alnum43>",
    "Grafana token": "glsa_<alnum32>_<hex8>",
    "Databricks token": "dapi<hex32>",
    "Linear key": "lin_api_<alnum40>",
    "Atlassian token": "ATATT3xFfGF0<url172>=<upper8>",
    "Notion token": "ntn_<alnum46>",
    "Postman key": "PMAK-<hex24>-<hex34>",
    "Square token": "sq0atp-<url22>",
    "Terraform token": "<alnum14>.atlasv1.<alnum64>",
    "Sentry token": "sntryu_<hex64>",
    "Dynatrace token": "dt0c01.<upper24>.<upper64>",
    "Tailscale key": "tskey-auth-<alnum16>-<alnum32>",
    "PlanetScale password": "pscale_pw_<url43>",
    "Supabase token": "sbp_<hex40>",
    "age key": "AGE-SECRET-KEY-1<upper58>",
    "Azure client secret": "<alnum3>8Q~<alnum34>",
    "bcrypt hash": "$2b$12$<crypt53>",
    "sha512-crypt hash": "$6$<alnum16>$<crypt86>",
    "JWT": web_token,
    "RSA private key": private_key("RSA PRIVATE KEY"),
    "PKCS#8 private key": private_key("PRIVATE KEY"),
    "private key, one line": private_key("OPENSSH PRIVATE KEY", "\\n"),
    "private key, cut off": private_key("RSA PRIVATE KEY", is_whole=False),
}

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

CONTEXTS: dict[str, tuple[str | Callable[[Maker], str], list[str]]] = {
    "password assigned": (
        password,
        [
            "password={v}",
            "DB_PASSWORD={v}",
            "passwd: {v}",
            "spring.datasource.password={v}",
            "dbPassword = {v}",
            "export PGPASSWORD='{v}'",
            "PASS={v} ./run.sh",
            "user=app password={v} host=db-1",
            "user: app\npassword: {v}\nhost: db",
        ],
    ),
    "password in JSON": (
        password,
        [
            '{{"user": "app", "password": "{v}"}}',
            '{{\\"password\\":\\"{v}\\",\\"n\\":1}}',
            "{{'password': '{v}'}}",
            '"db_passwd" : "{v}",',
        ],
    ),
    "password said": (
        password,
        [
            "the password is {v}",
            "password was {v}, please rotate it",
            'it worked with password: "{v}"',
            "Password: {v}",
        ],
    ),
    "password in XML": (
        password,
        [
            "<password>{v}</password>",
            '<add key="DbPassword" value="{v}"/>',
            '<property name="db.password" value="{v}" />',
        ],
    ),
    "password flag": (
        password,
        [
            "mysqldump --password={v} orders",
            "deploy --db-password {v} --wait",
            "mysql -u root -p{v} -h db-1 orders",
            "sshpass -p '{v}' ssh ops@bastion",
            "docker login -u ci -p {v} registry.example.com",
            "curl -u admin:{v} https://example.com/",
            "redis-cli -h cache -a {v} ping",
        ],
    ),
    "password in URL": (
        "<sign14>9",
        [
            "postgres://app:{v}@db-1.example.com:5432/orders",
            "redis://:{v}@cache:6379/0",
            "amqp://svc:{v}@mq-1/vhost",
            "mongodb+srv://root:{v}@cluster0.example.net/?retryWrites=true",
            "could not clone https://bot:{v}@git.example.com/a.git",
        ],
    ),
    "connection string": (
        "<sign16>x2",
        [
            "Server=tcp:sql.example.com,1433;User ID=app;Password={v};Encrypt=True;",
            "Data Source=db;Uid=app;Pwd={v};",
            "host=db-1 port=5432 dbname=orders user=app password={v} sslmode=require",
        ],
    ),
    "SQL": (
        password,
        [
            "CREATE USER 'app'@'%' IDENTIFIED BY '{v}';",
            "ALTER USER app WITH PASSWORD '{v}';",
            "CREATE ROLE app LOGIN PASSWORD '{v}' VALID UNTIL 'infinity';",
            "SET PASSWORD FOR 'app'@'%' = PASSWORD('{v}');",
        ],
    ),
    "Kubernetes": (
        "<base23>=",
        [
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\ndata:\n  username: {v}\n",
            "apiVersion: v1\ndata:\n  tls.key: {v}\nkind: Secret\ntype: Opaque\n",
            "env:\n- name: DB_PASSWORD\n  value: {v}\n",
        ],
    ),
    "netrc": (
        password,
        [
            "machine git.example.com login ci password {v}",
            "machine a.example.com\nlogin ci\npassword {v}",
        ],
    ),
    "bearer": (
        token,
        [
            "Authorization: Bearer {v}",
            "curl -H 'Authorization: Bearer {v}' https://example.com",
            '"authorization": "Bearer {v}",',
            "authorization=[Bearer {v}] accept=[*/*]",
            "-H 'Authorization: token {v}'",
        ],
    ),
    "basic": (
        coded_pair,
        [
            "Authorization: Basic {v}",
            '{{"auths": {{"registry.example.com": {{"auth": "{v}"}}}}}}',
            "proxy-authorization: basic {v}",
        ],
    ),
    "token assigned": (
        token,
        [
            "api_key={v}",
            "X-Api-Key: {v}",
            '"apiKey": "{v}"',
            "token={v}",
            '"access_token":"{v}","expires_in":3600',
            "client_secret: {v}",
            "SECRET_KEY_BASE={v}",
            "refresh_token = '{v}'",
            "--token {v}",
            "GET /v1/things?token={v}&page=2",
            "webhook secret: {v}",
            "DATADOG_API_KEY={v}",
            "slack-signing-secret={v}",
            ':auth_token=>"{v}"',
        ],
    ),
    "cloud secret": (
        "<base40>",
        [
            "aws_secret_access_key = {v}",
            "AWS_SECRET_ACCESS_KEY={v}",
            '"SecretAccessKey": "{v}"',
            "AccountKey={v};EndpointSuffix=x",
        ],
    ),
    "cookie": (
        token,
        [
            "Cookie: session={v}; theme=dark",
            "Set-Cookie: sid={v}; Path=/; HttpOnly",
            "'Cookie': 'connect.sid={v}'",
            "JSESSIONID={v}",
        ],
    ),
    "signed URL": (
        "<hex64>",
        [
            "https://b.s3.amazonaws.com/k?X-Amz-Date=20260304T050607Z&X-Amz-Signature={v}",
            "https://a.blob.core.windows.net/c?sv=2024-01-01&sp=r&sig={v}",
        ],
    ),
    "htpasswd": ("$apr1$<alnum8>$<crypt22>", ["admin:{v}"]),
    "hex private key": (
        "<hex64>",
        ["private_key=0x{v}", "private key: {v}", '"privateKey": "{v}"'],
    ),
}

PERSONAL: dict[str, tuple[str | Callable[[Maker], str], list[str]]] = {
    "e-mail": (
        "<small6>.<small5>@mail.example.org",
        ["mail to {v} bounced", "user={v} locked", '"email":"{v}"', "<{v}>: host unknown"],
    ),
    "phone, written out": ("+1 415 555 <n4>", ["call {v} for the vendor", "phone: {v}"]),
    "phone, US": ("(212) 555-<n4>", ["call {v} for the vendor", "phone: {v}"]),
    "phone, other": ("+49 30 <n7>", ["call {v} for the vendor", "paged {v} twice"]),
    "phone, E.164": ("+1415555<n4>", ["To={v} status=undelivered", "paged {v} twice"]),
    "card": (card, ["charged {v} twice", "card={v} declined"]),
    "IBAN": (account, ["refund to {v} failed", "iban: {v}"]),
}

CLEAN = [
    "trace_id=<hex32> span_id=<hex16> took 12ms",
    "request <uuid> timed out after 30s",
    "commit <hex40> reverted by the pipeline",
    "image registry.example.com/app@sha256:<hex64> not found",
    "container <hex64> exited with code 137",
    'etag: "<hex32>" cache miss',
    "arn:aws:iam::<digit12>:role/deploy is not authorized to perform s3:GetObject",
    "arn:aws:secretsmanager:eu-west-1:<digit12>:secret:prod/db-<letter6>",
    "consumer lag on orders-<n>: offset=<n16>",
    "[<n6>.<digit6>] Out of memory: Killed process 4211 (java)",
    "Pod checkout-<hex10>-<lower5> is in CrashLoopBackOff",
    "dial tcp 10.<n2>.4.7:5432: connect: connection refused",
    "node ip-10-0-<n2>-12.eu-west-1.compute.internal NotReady",
    "x-amz-request-id: <upper16> x-amz-id-2: <base76>",
    "version 1.<n2>.<n>+build.<hex7> rolled out",
    "session_id=<uuid> user_id=<n4> login ok",
    "Idempotency-Key: <uuid>",
    "cache key=user:<n4>:profile evicted",
    "partition key orders#<n2> is hot, key=user_id",
    "next_page_token=<url32>",
    "max_tokens=<n4> prompt_tokens: <n4>",
    "password reset failed for <n3> users",
    "token expired, asking for a new one",
    'MountVolume.SetUp failed for volume "creds" : secret "db-creds" not found',
    "password=*** token=null secret=${DB_SECRET} api_key={{ vault.key }}",
    "secretKeyRef: name: db-creds key: password",
    'raise ValueError("password must be at least 12 characters")',
    "Access denied for user 'app'@'10.1.2.3' (using password: YES)",
    "the bearer token has expired; basic auth is disabled",
    "private key mismatch: certificate and key do not belong together",
    "Jun <n> 09:10:11 host sshd[<n4>]: Failed password for invalid user",
    "GET /v1/users/<n5>?sort=name&page=3&limit=50 200 <n3>ms",
    "at com.example.Orders.place(Orders.java:<n3>)",
    "git clone git@github.com:example/app.git && git checkout <hex8>",
    "blk_-<n19> replicated to 3 datanodes",
    "checksum mismatch: expected md5 <hex32>, got <hex32>",
    "ts=17<digit11> seq=<n15> lsn=16/B374D848",
    "AWS account <digit12>, vpc-<hex17>, i-<hex17>, ami-<hex17>",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5<base48> deploy",
    "fingerprint SHA256:<base43>",
    "uptime 12 days (3.<digit2> load), <n>.0e+05 requests",
    "2026-02-1<digit>T03:04:05.678+02:00 INFO [http-nio-8080-exec-<n2>] ready",
    "kubectl -n prod get pod -l app=api -o jsonpath='{.items[0].metadata.name}' # <hex6>",
    "<n2>% of keys expired, <n4> tokens issued, 3 passwords reset",
]


def secrets(seed: int, each: int) -> Iterator[Case]:
    """`each` cases of every kind, in every family."""
    maker = Maker(seed)
    kinds = [("format", kind, make, FORMAT_LINES) for kind, make in FORMATS.items()]
    for family, table in (("context", CONTEXTS), ("personal", PERSONAL)):
        kinds += [(family, kind, make, lines) for kind, (make, lines) in table.items()]
    for family, kind, make, lines in kinds:
        for n in range(each):
            secret = maker.filled(make) if isinstance(make, str) else make(maker)
            yield Case(family, kind, lines[n % len(lines)].format(v=secret), secret)


def clean_lines(seed: int, each: int) -> Iterator[Case]:
    """`each` lines of every kind that must stay as they are."""
    maker = Maker(seed)
    for template in CLEAN:
        for _ in range(each):
            yield Case("clean", template, maker.filled(template), "")
