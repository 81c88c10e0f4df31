"""Secrets known by their own shape: what vendors issue, signed tokens, private keys, password hashes.

A format is a prefix that `str.find` can look for and a tail that must follow it, so that a text
without any prefix costs a few microseconds and an adversarial one stays linear.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from ingest.sensitive.spans import Page, Span

_WORD = "[A-Za-z0-9]"
_URLSAFE = "[A-Za-z0-9_-]"
_HEX = "[0-9a-f]"
_UUID = "[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_END = "(?![A-Za-z0-9])"
# Where the prefix alone is a word or two letters: the tail must hold a digit and both cases.
_MIXED = "(?=[A-Za-z_-]{0,60}[0-9])(?=[a-z0-9_-]{0,60}[A-Z])(?=[A-Z0-9_-]{0,60}[a-z])"

# kind, prefixes, tail
_TABLE = [
    # Clouds
    ("AWS_KEY", "AKIA ASIA ABIA ACCA A3T", f"[A-Z0-9]{{16,17}}{_END}"),
    ("AWS_KEY", "ABSK", "[A-Za-z0-9+/]{80,}={0,2}"),
    ("AWS_KEY", "bedrock-api-key-", "[A-Za-z0-9+/=_-]{20,}"),
    ("GOOGLE_KEY", "AIza", f"{_URLSAFE}{{35,}}"),
    ("GOOGLE_KEY", "GOCSPX-", f"{_URLSAFE}{{20,}}"),
    ("GOOGLE_KEY", "ya29.", "[A-Za-z0-9_.-]{20,}"),
    ("GOOGLE_KEY", "1//0", f"{_URLSAFE}{{30,}}"),
    ("GOOGLE_KEY", "AAAA", f"{_URLSAFE}{{7}}:{_URLSAFE}{{100,}}"),
    ("ALIBABA_KEY", "LTAI", f"{_WORD}{{12,}}{_END}"),
    ("TENCENT_KEY", "AKID", f"{_WORD}{{32}}{_END}"),
    ("DIGITALOCEAN_TOKEN", "dop_v1_ doo_v1_ dor_v1_", f"{_HEX}{{40,}}"),
    ("HEROKU_KEY", "HRKU-", f"{_URLSAFE}{{30,}}"),
    ("CLOUDFLARE_KEY", "v1.0-", f"{_HEX}{{24}}-{_HEX}{{100,}}"),
    ("CLOUDFLARE_TOKEN", "cfat_ cfut_ cfk_", f"{_WORD}{{40,}}"),
    ("VERCEL_TOKEN", "vcp_ vci_ vca_ vcr_ vck_", f"{_WORD}{{50,}}"),
    ("AWS_KEY", "amzn.mws.", _UUID),
    ("SCALEWAY_KEY", "SCW", f"[A-Z0-9]{{17}}{_END}"),
    ("FLY_TOKEN", "fo1_", f"{_URLSAFE}{{40,}}"),
    ("FLY_TOKEN", "fm1_ fm1a_ fm1r_ fm2_", "[A-Za-z0-9+/_=,-]{60,}"),
    ("AIVEN_KEY", "AVNS_", f"{_URLSAFE}{{15,}}"),
    ("SUPABASE_KEY", "sbp_ sbp_v0_", f"{_HEX}{{40}}"),
    ("SUPABASE_KEY", "sb_secret_", f"{_URLSAFE}{{20,}}"),
    ("PLANETSCALE_KEY", "pscale_tkn_ pscale_pw_ pscale_oauth_", "[A-Za-z0-9_.=-]{30,}"),
    ("NETLIFY_TOKEN", "nfp_ nfc_ nfo_ nfu_", f"{_WORD}{{30,}}"),
    ("RENDER_KEY", "rnd_", f"{_WORD}{{28,}}"),
    # Code, packages, builds
    ("GITHUB_TOKEN", "ghp_ gho_ ghu_ ghs_ ghr_", "[A-Za-z0-9_]{30,}"),
    ("GITHUB_TOKEN", "github_pat_", "[A-Za-z0-9_]{30,}"),
    (
        "GITLAB_TOKEN",
        "glpat- gldt- glrt- glrtr- glcbt- glptt- glft- glsoat- glimt- glagent- gloas- glffct- glwt- GR1348941",
        "[A-Za-z0-9_.=-]{18,}",
    ),
    ("BITBUCKET_TOKEN", "ATBB ATCTT3 BBDC-", "[A-Za-z0-9_=-]{24,}"),
    ("ATLASSIAN_TOKEN", "ATATT3 ATSTT3", "[A-Za-z0-9_=-]{40,}"),
    ("NPM_TOKEN", "npm_", f"{_WORD}{{30,}}"),
    ("PYPI_TOKEN", "pypi-AgE", f"{_URLSAFE}{{50,}}"),
    ("RUBYGEMS_KEY", "rubygems_", f"{_HEX}{{40,}}"),
    ("CRATES_TOKEN", "cio", f"{_MIXED}{_WORD}{{32}}{_END}"),
    ("NUGET_KEY", "oy2", f"[a-z0-9]{{43}}{_END}"),
    ("CLOJARS_TOKEN", "CLOJARS_", f"{_WORD}{{50,}}"),
    ("DOCKER_TOKEN", "dckr_pat_ dckr_oat_", f"{_URLSAFE}{{20,}}"),
    ("DOCKER_TOKEN", "SWMKEY-1- SWMTKN-1-", f"{_URLSAFE}{{40,}}"),
    ("JFROG_KEY", "AKCp", f"{_WORD}{{60,}}"),
    ("JFROG_KEY", "cmVmd", f"{_WORD}{{50,}}"),
    ("CIRCLECI_TOKEN", "CCIPAT_ CCIPRJ_", f"{_URLSAFE}{{30,}}"),
    ("BUILDKITE_TOKEN", "bkua_ bkaj_ bkar_ bkpt_ bkct_", f"{_HEX}{{36,}}"),
    ("SONAR_TOKEN", "sqp_ squ_ sqa_", f"{_HEX}{{40}}"),
    ("TERRAFORM_TOKEN", "ATLAS-", f"{_WORD}{{40,}}"),
    ("PULUMI_TOKEN", "pul-", f"{_HEX}{{40}}{_END}"),
    ("PREFECT_KEY", "pnu_ pnb_", f"{_WORD}{{36}}"),
    ("HARNESS_KEY", "pat. sat.", f"{_URLSAFE}{{22}}\\.{_WORD}{{24}}\\.{_WORD}{{20}}"),
    ("OCTOPUS_KEY", "API-", f"[A-Z0-9]{{25,32}}{_END}"),
    ("SOURCEGRAPH_TOKEN", "sgp_", "(?:local_|[0-9a-fA-F]{16}_)?[0-9a-fA-F]{40}"),
    ("SOURCEGRAPH_TOKEN", "slk_", f"{_HEX}{{64}}"),
    ("POSTMAN_KEY", "PMAK- PMAT-", f"{_WORD}{{20,}}(?:-{_WORD}{{30,}})?"),
    ("LINEAR_KEY", "lin_api_ lin_oauth_", f"{_WORD}{{32,}}"),
    ("NOTION_KEY", "secret_", f"{_MIXED}{_WORD}{{43}}{_END}"),
    ("NOTION_KEY", "ntn_", f"{_WORD}{{40,}}"),
    ("AIRTABLE_KEY", "pat", f"{_WORD}{{14}}\\.{_HEX}{{64}}"),
    ("FIGMA_TOKEN", "figd_ figo_ figu_", "[A-Za-z0-9_-]{30,}"),
    ("ASANA_TOKEN", "1/ 0/", f"\\d{{10,16}}:{_HEX}{{32}}{_END}"),
    ("CONTENTFUL_TOKEN", "CFPAT-", f"{_URLSAFE}{{40,}}"),
    ("README_KEY", "rdme_", f"{_WORD}{{60,}}"),
    ("TYPEFORM_TOKEN", "tfp_", "[A-Za-z0-9_.=-]{50,}"),
    ("DROPBOX_TOKEN", "sl.", f"(?:u\\.)?{_URLSAFE}{{80,}}"),
    ("FRAMEIO_TOKEN", "fio-u-", "[A-Za-z0-9_=-]{50,}"),
    ("HUBSPOT_TOKEN", "pat-na1- pat-na2- pat-eu1- pat-ap1-", _UUID),
    # Talk, mail, pages
    ("SLACK_TOKEN", "xoxa- xoxb- xoxc- xoxd- xoxe- xoxo- xoxp- xoxr- xoxs-", "[A-Za-z0-9%-]{10,}"),
    ("SLACK_TOKEN", "xapp- xoxe.xoxp- xoxe.xoxb-", "[A-Za-z0-9-]{10,}"),
    ("TWILIO_KEY", "SK", f"[0-9a-fA-F]{{32}}{_END}"),
    ("SENDGRID_KEY", "SG.", "[A-Za-z0-9_=.-]{50,}"),
    ("MAILGUN_KEY", "key- pubkey-", f"{_HEX}{{32}}{_END}"),
    ("BREVO_KEY", "xkeysib- xsmtpsib-", f"{_HEX}{{64}}-{_WORD}{{16}}"),
    ("RESEND_KEY", "re_", f"{_MIXED}{_WORD}{{8}}_{_WORD}{{20,}}"),
    ("POSTMARK_KEY", "PMT-", f"{_URLSAFE}{{30,}}"),
    # Money
    ("STRIPE_KEY", "sk_live_ sk_test_ sk_prod_ rk_live_ rk_test_ rk_prod_ pk_live_ pk_test_", f"{_WORD}{{10,}}"),
    ("STRIPE_KEY", "whsec_", "[A-Za-z0-9+/=]{24,}"),
    ("SQUARE_KEY", "sq0atp- sq0csp- sq0idp-", f"{_URLSAFE}{{22,}}"),
    ("SQUARE_KEY", "EAAA", f"{_MIXED}{_URLSAFE}{{60}}{_END}"),
    ("PAYPAL_TOKEN", "access_token$production$ access_token$sandbox$", f"[a-z0-9]{{16}}\\${_HEX}{{32}}"),
    ("SHIPPO_TOKEN", "shippo_live_ shippo_test_", "[0-9a-fA-F]{40}"),
    ("EASYPOST_KEY", "EZAK EZTK", f"{_WORD}{{54}}"),
    ("DUFFEL_TOKEN", "duffel_live_ duffel_test_", "[A-Za-z0-9_=-]{40,}"),
    ("PLAID_TOKEN", "access-production- access-sandbox- access-development-", _UUID),
    ("FLUTTERWAVE_KEY", "FLWSECK- FLWSECK_TEST- FLWPUBK- FLWPUBK_TEST-", f"{_WORD}{{12,}}(?:-X)?"),
    ("SHOPIFY_TOKEN", "shpat_ shpca_ shppa_ shpss_ shpua_", "[0-9a-fA-F]{32}"),
    ("INSTAGRAM_TOKEN", "IGQV", f"{_URLSAFE}{{80,}}"),
    ("TWITTER_TOKEN", "AAAAAAAAAAAAAAAAAA", "[A-Za-z0-9%]{60,}"),
    ("FACEBOOK_TOKEN", "EAA", f"{_MIXED}{_WORD}{{80,}}"),
    # Models
    ("ANTHROPIC_KEY", "sk-ant-", f"{_URLSAFE}{{20,}}"),
    ("OPENAI_KEY", "sk-proj- sk-svcacct- sk-admin- sk-None-", f"{_URLSAFE}{{20,}}"),
    ("OPENROUTER_KEY", "sk-or-v1-", f"{_HEX}{{60,}}"),
    ("OPENAI_KEY", "sk-", f"{_MIXED}{_URLSAFE}{{20,}}"),
    ("API_KEY", "sk-", f"{_HEX}{{32,}}{_END}"),
    ("HUGGINGFACE_TOKEN", "hf_ api_org_", f"{_WORD}{{30,}}"),
    ("REPLICATE_TOKEN", "r8_", f"{_WORD}{{35,}}"),
    ("GROQ_KEY", "gsk_", f"{_WORD}{{40,}}"),
    ("XAI_KEY", "xai-", f"{_WORD}{{60,}}"),
    ("PERPLEXITY_KEY", "pplx-", f"{_WORD}{{40,}}"),
    ("NVIDIA_KEY", "nvapi-", f"{_URLSAFE}{{50,}}"),
    ("LLAMA_KEY", "llx-", f"{_URLSAFE}{{40,}}"),
    ("TAVILY_KEY", "tvly-", f"{_URLSAFE}{{28,}}"),
    ("TOGETHER_KEY", "tgp_v1_", f"{_URLSAFE}{{40,}}"),
    ("LANGSMITH_KEY", "lsv2_pt_ lsv2_sk_", f"{_HEX}{{32}}_{_HEX}{{10}}"),
    ("PINECONE_KEY", "pcsk_", f"{_WORD}{{5,}}_{_WORD}{{40,}}"),
    # Watching
    ("NEWRELIC_KEY", "NRAK- NRJS- NRII- NRIQ- NRAA- NRRA- NRSP- NRBR-", f"{_URLSAFE}{{19,}}"),
    ("GRAFANA_TOKEN", "glsa_ glc_", "[A-Za-z0-9_+/=-]{30,}"),
    ("GRAFANA_TOKEN", "eyJrIjoi", "[A-Za-z0-9+/=]{60,}"),
    ("SENTRY_TOKEN", "sntrys_ sntryu_ sntryi_", "[A-Za-z0-9_+/=-]{40,}"),
    ("DYNATRACE_TOKEN", "dt0c01. dt0s01. dt0s02. dt0s08. dt0s16.", "[A-Za-z0-9]{8,24}\\.[A-Za-z0-9]{60,}"),
    ("HONEYCOMB_KEY", "hcaik_ hcbik_ hccik_ hcxik_ hcamk_ hcxmk_", "[a-z0-9]{40,}"),
    ("PAGERDUTY_KEY", "pdus+_ pdeu+_", f"{_URLSAFE}{{16,}}"),
    ("LAUNCHDARKLY_KEY", "sdk- mob-", f"{_UUID}{_END}"),
    ("POSTHOG_KEY", "phc_ phx_ phs_ phr_ pha_", f"{_WORD}{{40,}}"),
    # Secrets, networks, data
    ("VAULT_TOKEN", "hvs. hvb. hvr.", f"{_URLSAFE}{{20,}}"),
    ("VAULT_TOKEN", "s. b.", f"{_MIXED}{_WORD}{{24}}{_END}"),
    (
        "DOPPLER_TOKEN",
        "dp.pt. dp.st. dp.ct. dp.sa. dp.scim. dp.audit. dp.said.",
        "(?:[a-z0-9_-]{2,35}\\.)?[A-Za-z0-9]{32,}",
    ),
    ("NATS_KEY", "SU SA SO SN SC", f"A[A-Z2-7]{{55}}{_END}"),
    ("NEBULA_KEY", "dnkey-", "[A-Z0-9]{26}-[A-Z0-9]{52}"),
    ("ONEPASSWORD_TOKEN", "ops_eyJ", "[A-Za-z0-9+/=_-]{50,}"),
    ("ONEPASSWORD_KEY", "A3-", "[A-Z0-9]{6}-(?:[A-Z0-9]{6}|[A-Z0-9]{11})-(?:[A-Z0-9]{5}-){2,3}[A-Z0-9]{5}"),
    ("TAILSCALE_KEY", "tskey-", f"(?:[a-z]{{3,8}}-)?{_WORD}{{8,}}(?:-{_WORD}{{10,}})?"),
    ("AGE_KEY", "AGE-SECRET-KEY-1", "[A-Z0-9]{50,}"),
    ("DATABRICKS_TOKEN", "dapi", f"{_HEX}{{32}}(?:-\\d)?{_END}"),
    ("DATABRICKS_TOKEN", "dose", f"{_HEX}{{32}}{_END}"),
    ("MAPBOX_TOKEN", "sk.eyJ pk.eyJ tk.eyJ", f"{_URLSAFE}{{30,}}\\.{_URLSAFE}{{16,}}"),
    ("YANDEX_KEY", "AQVN", f"{_URLSAFE}{{35,}}"),
    ("YANDEX_KEY", "y0_", f"{_URLSAFE}{{50,}}"),
    ("ADAFRUIT_KEY", "aio_", f"{_WORD}{{28}}"),
    ("INFRACOST_KEY", "ico-", f"{_WORD}{{32}}{_END}"),
    ("CONFLUENT_KEY", "cflt", "[A-Za-z0-9+/]{56,}"),
    ("ELASTIC_KEY", "essu_", "[A-Za-z0-9+/=_-]{40,}"),
    ("OPENSHIFT_TOKEN", "sha256~", f"{_URLSAFE}{{43}}"),
    ("CLICKHOUSE_KEY", "4b1d", f"{_WORD}{{38}}{_END}"),
    ("AUTHRESS_KEY", "sc_ ext_ scauth_ authress_", "[a-z0-9]{5,30}\\.[a-z0-9]{4,6}\\.acc[_-][a-z0-9-]{10,32}\\.[A-Za-z0-9+/_=-]{30,}"),
    ("SETTLEMINT_TOKEN", "sm_aat_ sm_pat_ sm_sat_", f"{_WORD}{{16}}{_END}"),
    ("SCALINGO_TOKEN", "tk-us-", f"{_URLSAFE}{{48}}"),
    ("ADOBE_SECRET", "p8e-", f"{_URLSAFE}{{32}}{_END}"),
    ("INTRA_SECRET", "s-s4t2ud- s-s4t2af-", f"{_HEX}{{64}}"),
    ("SCARWISE_TOKEN", "scw_", f"{_URLSAFE}{{43}}"),
    # A webhook's address is its password: what follows the well-known part is hidden.
    ("SLACK_WEBHOOK", "hooks.slack.com/services/ hooks.slack.com/triggers/", "[A-Za-z0-9+/]{20,}"),
    ("SLACK_WEBHOOK", "hooks.slack.com/workflows/ hooks.slack-gov.com/services/", "[A-Za-z0-9+/]{20,}"),
    ("DISCORD_WEBHOOK", "discord.com/api/webhooks/ discordapp.com/api/webhooks/", "\\d{15,}/[\\w-]{40,}"),
    ("TEAMS_WEBHOOK", ".webhook.office.com/ outlook.office.com/webhook/", "[\\w@/-]{40,}"),
    ("ZAPIER_WEBHOOK", "hooks.zapier.com/hooks/catch/", "\\d+/\\w+"),
    ("PAGERDUTY_KEY", "events.pagerduty.com/integration/", f"{_WORD}{{16,}}"),
    ("HEALTHCHECK_KEY", "hc-ping.com/", _UUID),
    # Standard tokens and hashes
    ("JWT", "eyJ eyA ewo", f"{_URLSAFE}{{10,}}(?:\\.{_URLSAFE}*){{1,4}}"),
    ("JWT", "ZXlK", "[A-Za-z0-9+/_-]{80,}={0,2}"),
    ("PASSWORD_HASH", "$2a$ $2b$ $2x$ $2y$", "\\d\\d\\$[./A-Za-z0-9]{40,}"),
    (
        "PASSWORD_HASH",
        "$apr1$ $1$ $5$ $6$ $md5$ $sha1$",
        "(?:rounds=\\d{1,9}\\$)?[./A-Za-z0-9]{1,16}\\$[./A-Za-z0-9]{20,}",
    ),
    ("PASSWORD_HASH", "$y$ $gy$ $7$", "[./A-Za-z0-9]{1,16}\\$[./A-Za-z0-9]{0,86}\\$[./A-Za-z0-9]{40,}"),
    ("PASSWORD_HASH", "$argon2id$ $argon2i$ $argon2d$ $scrypt$", "[A-Za-z0-9$=,+/.-]{30,}"),
    ("PASSWORD_HASH", "{SSHA} {SHA} {SSHA256} {SSHA512} {SHA256} {SHA512}", "[A-Za-z0-9+/=]{24,}"),
    ("PASSWORD_HASH", "pbkdf2_sha256$ pbkdf2_sha512$", "\\d{1,8}\\$[^$\\s]{1,64}\\$[A-Za-z0-9+/=]{20,}"),
    ("PASSWORD_HASH", "SCRAM-SHA-256$ SCRAM-SHA-1$", "\\d{1,8}:[A-Za-z0-9+/=$:]{40,}"),
]


class Format(NamedTuple):
    """Text of this kind begins with `prefix`, and `tail` matches what follows it."""

    kind: str
    prefix: str
    tail: re.Pattern[str]
    is_address: bool


FORMATS = [
    Format(kind, prefix, re.compile(tail), is_address=".com/" in prefix)
    for kind, prefixes, tail in _TABLE
    for prefix in prefixes.split()
]

# Most prefixes hold an underscore or a dollar sign, and most texts hold none.
_BY_SIGN = {
    "_": [f for f in FORMATS if "_" in f.prefix],
    "$": [f for f in FORMATS if "$" in f.prefix],
    "": [f for f in FORMATS if not {"_", "$"} & set(f.prefix)],
}

# Known by something in their middle or end: kind, what must be there, the whole (or its first group).
_ODD_SHAPES = [
    ("TELEGRAM_TOKEN", ":AA", r"(?<!\d)\d{8,10}:AA[A-Za-z0-9_-]{32,}"),
    ("TERRAFORM_TOKEN", ".atlasv1.", r"(?<![A-Za-z0-9])[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{50,}"),
    ("AZURE_SECRET", "Q~", r"(?<![\w~.-])[\w~.-]{3}\dQ~[\w~.-]{31,34}"),
    ("AZURE_KEY", "+ASt", r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{76}\+ASt[A-Za-z0-9]{6}=="),
    ("AZURE_KEY", "JQQJ99", r"(?<![A-Za-z0-9])[A-Za-z0-9]{52}JQQJ99[A-Za-z0-9]{20,30}"),
    ("NEWRELIC_KEY", "NRAL", r"(?<![0-9A-Za-z])(?:[a-z]{2}\d\d[a-z]|[0-9a-f]{4})[0-9a-f]{28,32}NRAL"),
    ("MAILGUN_KEY", "-", r"(?<![0-9A-Za-z-])[0-9a-f]{32}-[0-9a-f]{8}-[0-9a-f]{8}(?![0-9A-Za-z-])"),
    ("MAXMIND_KEY", "_mmk", r"(?<![A-Za-z0-9_])[A-Za-z0-9]{6}_[A-Za-z0-9]{29}_mmk"),
    ("FACEBOOK_TOKEN", "|", r"(?<![\w.])\d{15,16}(?:\||%7C)[A-Za-z0-9_-]{27}(?![\w-])"),
    ("OKTA_TOKEN", "kta", r"(?<![\w-])00[A-Za-z0-9_-]{40}(?![\w-])"),
    ("MAILCHIMP_KEY", "-us", r"(?<![0-9A-Za-z])[0-9a-f]{32}-us\d{1,2}(?![0-9A-Za-z])"),
    ("DISCORD_TOKEN", "iscord", r"(?<![\w-])[MNO][\w-]{22,28}\.[\w-]{6}\.[\w-]{27,}"),
    ("KUBEADM_TOKEN", "kubeadm", r"(?<![\w.-])[a-z0-9]{6}\.[a-z0-9]{16}(?![\w.-])"),
    ("AWS_SECRET", "AKIA", r"(?<=AKIA[A-Z0-9]{16})[\s\"',;:|/]{1,5}([A-Za-z0-9+/]{40})(?![A-Za-z0-9+/])"),
]
ODD_SHAPES = [(kind, sign, re.compile(pattern)) for kind, sign, pattern in _ODD_SHAPES]

_NEWLINE = r"(?:\\{1,4}[rn]|\s)"
_BODY = re.compile(
    rf"(?:{_NEWLINE}*+(?:Proc-Type|DEK-Info|Version|Comment|Hash): [^\n\\]{{0,200}})*"
    rf"(?:(?:{_NEWLINE}|[>|#*\"',])*+[A-Za-z0-9+/=]{{16,}})*+"
    rf"(?:{_NEWLINE}*+[A-Za-z0-9+/]{{1,15}}={{0,2}}(?=\s*(?:\Z|[\"'\\…]|\.\.)))?"
)
_HEX_DIGITS = "0123456789abcdefABCDEF"
_KEY_OPENS = re.compile(r"-{4,5} ?BEGIN [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)? ?-{0,5}")
_KEY_CLOSES = re.compile(r"-{4,5} ?END [A-Z0-9 ]{0,60}-{0,5}")
_KEY_MATERIAL = re.compile(r"[A-Za-z0-9+/=]{12}")
_LONGEST_KEY = 30_000
# A key whose first line was cut off: how PKCS#1, PKCS#8, SEC 1, OpenSSH and base64 of PEM begin.
_HEADLESS = re.compile(
    r"MII[A-J][A-Za-z0-9+/]{2}IBA(?:A[JK][BC]|DANBgkqhkiG9w0)|MHcCAQEE|MIGHAgEAMBMGByqGSM49|MC4CAQAwBQYDK2Vw"
    r"|b3BlbnNzaC1rZXktdjE|LS0tLS1CRUdJTiB(?:SU0EgUFJJVkFUR|QUklWQVRF|FQyBQUklWQVRF|PUEVOU1NIIFBSSVZBVE)"
)
_HEADLESS_SIGNS = ("MII", "MHcCAQEE", "MIGHAgEA", "MC4CAQAw", "b3BlbnNzaC1r", "LS0tLS1CRUdJ")
_PUTTY = re.compile(r"Private-Lines: \d{1,4}\s+((?:[A-Za-z0-9+/=]{1,64}\s*)+)(?:Private-MAC: [0-9a-f]+)?")


def find(page: Page) -> list[Span]:
    """Every secret that its own shape gives away."""
    spans: list[Span] = []
    for sign, forms in _BY_SIGN.items():
        if sign in page.text:
            for form in forms:
                if form.prefix in page.text:
                    spans.extend(_issued(page.text, form))
    for kind, sign, pattern in ODD_SHAPES:
        if sign in page.text:
            spans.extend(Span(*m.span(m.lastindex or 0), kind) for m in pattern.finditer(page.text))
    spans.extend(_private_keys(page.text))
    return spans


def _issued(text: str, form: Format) -> Iterator[Span]:
    at = text.find(form.prefix)
    while at >= 0:
        behind = at + len(form.prefix)
        begins = form.is_address or _begins_a_word(text, at)
        found = form.tail.match(text, behind) if begins else None
        if found:
            yield Span(behind if form.is_address else at, found.end(), form.kind)
            behind = found.end()
        at = text.find(form.prefix, behind)


def _begins_a_word(text: str, at: int) -> bool:
    """Nothing before it, or a separator, be it written ``\\n``, ``%3D`` or ``\\u003d``."""
    before = text[at - 1] if at else " "
    if not before.isalnum() or not before.isascii():
        return True
    if before in "nrt" and text[at - 2 : at - 1] == "\\":
        return True
    return before in _HEX_DIGITS and (text[at - 3 : at - 2] == "%" or text[at - 6 : at - 4] == "\\u")


def _private_keys(text: str) -> Iterator[Span]:
    if "PRIVATE KEY" in text:
        yield from _armoured_keys(text)
    if "Private-Lines:" in text:
        for found in _PUTTY.finditer(text):
            yield Span(found.start(1), found.end(), "PRIVATE_KEY")
    if any(sign in text for sign in _HEADLESS_SIGNS):
        at = 0
        while found := _HEADLESS.search(text, at):
            at = _body_end(text, found.end())
            yield Span(found.start(), at, "PRIVATE_KEY")


def _armoured_keys(text: str) -> Iterator[Span]:
    """From BEGIN to END; to the last line of key material where the END was cut off."""
    for opening in _KEY_OPENS.finditer(text):
        following = text.find("BEGIN ", opening.end(), opening.end() + _LONGEST_KEY)
        limit = following if following >= 0 else min(opening.end() + _LONGEST_KEY, len(text))
        closing = _KEY_CLOSES.search(text, opening.end(), limit)
        end = closing.end() if closing else _body_end(text, opening.end())
        if _KEY_MATERIAL.search(text, opening.end(), end):
            yield Span(opening.start(), end, "PRIVATE_KEY")


def _body_end(text: str, at: int) -> int:
    """Where key material that starts here ends."""
    body = _BODY.match(text, at)
    return body.end() if body else at
