"""Secrets known by their own shape: what vendors issue, signed tokens, keys, password hashes.

A format is a prefix that `str.find` can look for and a tail that must follow it, so that a text
without any prefix costs a few microseconds and an adversarial one stays linear.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from ingest.sensitive.spans import Page, Span

# Kind, prefixes, tail (ASCII). With `!` the prefix is a word or a few letters, so that the rest
# must hold a digit and both cases.
_TABLE = r"""
# Clouds
AWS_KEY             AKIA ASIA ABIA ACCA A3T  [A-Z0-9]{16,17}\b
AWS_KEY             ABSK  [A-Za-z0-9+/]{80,}={0,2}
AWS_KEY             bedrock-api-key-  [A-Za-z0-9+/=_-]{20,}
GOOGLE_KEY          AIza  [\w-]{35,}
GOOGLE_KEY          GOCSPX-  [\w-]{20,}
GOOGLE_KEY          ya29.  [\w.-]{20,}
GOOGLE_KEY          1//0  [\w-]{30,}
GOOGLE_KEY          AAAA  [\w-]{7}:[\w-]{100,}
ALIBABA_KEY         LTAI  [^\W_]{12,}\b
TENCENT_KEY         AKID  [^\W_]{32}\b
DIGITALOCEAN_TOKEN  dop_v1_ doo_v1_ dor_v1_  [0-9a-f]{40,}
HEROKU_KEY          HRKU-  [\w-]{30,}
CLOUDFLARE_KEY      v1.0-  [0-9a-f]{24}-[0-9a-f]{100,}
CLOUDFLARE_TOKEN    cfat_ cfut_ cfk_  [^\W_]{40,}
VERCEL_TOKEN        vcp_ vci_ vca_ vcr_ vck_  [^\W_]{50,}
AWS_KEY             amzn.mws.  UUID
SCALEWAY_KEY        SCW  [A-Z0-9]{17}\b
FLY_TOKEN           fo1_  [\w-]{40,}
FLY_TOKEN           fm1_ fm1a_ fm1r_ fm2_  [A-Za-z0-9+/_=,-]{60,}
AIVEN_KEY           AVNS_  [\w-]{15,}
SUPABASE_KEY        sbp_ sbp_v0_  [0-9a-f]{40}
SUPABASE_KEY        sb_secret_  [\w-]{20,}
PLANETSCALE_KEY     pscale_tkn_ pscale_pw_ pscale_oauth_  [\w.=-]{30,}
NETLIFY_TOKEN       nfp_ nfc_ nfo_ nfu_  [^\W_]{30,}
RENDER_KEY          rnd_  [^\W_]{28,}
# Code, packages, builds
GITHUB_TOKEN        ghp_ gho_ ghu_ ghs_ ghr_  [\w]{30,}
GITHUB_TOKEN        github_pat_  [\w]{30,}
GITLAB_TOKEN        glpat- gldt- glrt- glrtr- glcbt- glptt- glft- glsoat- glimt-  [\w.=-]{18,}
GITLAB_TOKEN        glagent- gloas- glffct- glwt- GR1348941  [\w.=-]{18,}
BITBUCKET_TOKEN     ATBB ATCTT3 BBDC-  [\w=-]{24,}
ATLASSIAN_TOKEN     ATATT3 ATSTT3  [\w=-]{40,}
NPM_TOKEN           npm_  [^\W_]{30,}
PYPI_TOKEN          pypi-AgE  [\w-]{50,}
RUBYGEMS_KEY        rubygems_  [0-9a-f]{40,}
CRATES_TOKEN!       cio  [^\W_]{32}\b
NUGET_KEY           oy2  [a-z0-9]{43}\b
CLOJARS_TOKEN       CLOJARS_  [^\W_]{50,}
DOCKER_TOKEN        dckr_pat_ dckr_oat_  [\w-]{20,}
DOCKER_TOKEN        SWMKEY-1- SWMTKN-1-  [\w-]{40,}
JFROG_KEY           AKCp  [^\W_]{60,}
JFROG_KEY           cmVmd  [^\W_]{50,}
CIRCLECI_TOKEN      CCIPAT_ CCIPRJ_  [\w-]{30,}
BUILDKITE_TOKEN     bkua_ bkaj_ bkar_ bkpt_ bkct_  [0-9a-f]{36,}
SONAR_TOKEN         sqp_ squ_ sqa_  [0-9a-f]{40}
TERRAFORM_TOKEN     ATLAS-  [^\W_]{40,}
PULUMI_TOKEN        pul-  [0-9a-f]{40}\b
PREFECT_KEY         pnu_ pnb_  [^\W_]{36}
HARNESS_KEY         pat. sat.  [\w-]{22}\.[^\W_]{24}\.[^\W_]{20}
OCTOPUS_KEY         API-  [A-Z0-9]{25,32}\b
SOURCEGRAPH_TOKEN   sgp_  (?:local_|[0-9a-fA-F]{16}_)?[0-9a-fA-F]{40}
SOURCEGRAPH_TOKEN   slk_  [0-9a-f]{64}
POSTMAN_KEY         PMAK- PMAT-  [^\W_]{20,}(?:-[^\W_]{30,})?
LINEAR_KEY          lin_api_ lin_oauth_  [^\W_]{32,}
NOTION_KEY!         secret_  [^\W_]{43}\b
NOTION_KEY          ntn_  [^\W_]{40,}
AIRTABLE_KEY        pat  [^\W_]{14}\.[0-9a-f]{64}
FIGMA_TOKEN         figd_ figo_ figu_  [\w-]{30,}
ASANA_TOKEN         1/ 0/  \d{10,16}:[0-9a-f]{32}\b
CONTENTFUL_TOKEN    CFPAT-  [\w-]{40,}
README_KEY          rdme_  [^\W_]{60,}
TYPEFORM_TOKEN      tfp_  [\w.=-]{50,}
DROPBOX_TOKEN       sl.  (?:u\.)?[\w-]{80,}
FRAMEIO_TOKEN       fio-u-  [\w=-]{50,}
HUBSPOT_TOKEN       pat-na1- pat-na2- pat-eu1- pat-ap1-  UUID
# Talk, mail, pages
SLACK_TOKEN         xoxa- xoxb- xoxc- xoxd- xoxe- xoxo- xoxp- xoxr- xoxs-  [A-Za-z0-9%-]{10,}
SLACK_TOKEN         xapp- xoxe.xoxp- xoxe.xoxb-  [A-Za-z0-9-]{10,}
TWILIO_KEY          SK  [0-9a-fA-F]{32}\b
SENDGRID_KEY        SG.  [\w=.-]{50,}
MAILGUN_KEY         key- pubkey-  [0-9a-f]{32}\b
BREVO_KEY           xkeysib- xsmtpsib-  [0-9a-f]{64}-[^\W_]{16}
RESEND_KEY!         re_  [^\W_]{8}_[^\W_]{20,}
POSTMARK_KEY        PMT-  [\w-]{30,}
# Money
STRIPE_KEY          sk_live_ sk_test_ sk_prod_ rk_live_ rk_test_ rk_prod_ pk_live_  [^\W_]{10,}
STRIPE_KEY          pk_test_  [^\W_]{10,}
STRIPE_KEY          whsec_  [A-Za-z0-9+/=]{24,}
SQUARE_KEY          sq0atp- sq0csp- sq0idp-  [\w-]{22,}
SQUARE_KEY!         EAAA  [\w-]{60}\b
PAYPAL_TOKEN        access_token$production$ access_token$sandbox$  [a-z0-9]{16}\$[0-9a-f]{32}
SHIPPO_TOKEN        shippo_live_ shippo_test_  [0-9a-fA-F]{40}
EASYPOST_KEY        EZAK EZTK  [^\W_]{54}
DUFFEL_TOKEN        duffel_live_ duffel_test_  [\w=-]{40,}
PLAID_TOKEN         access-production- access-sandbox- access-development-  UUID
FLUTTERWAVE_KEY     FLWSECK- FLWSECK_TEST- FLWPUBK- FLWPUBK_TEST-  [^\W_]{12,}(?:-X)?
SHOPIFY_TOKEN       shpat_ shpca_ shppa_ shpss_ shpua_  [0-9a-fA-F]{32}
INSTAGRAM_TOKEN     IGQV  [\w-]{80,}
TWITTER_TOKEN       AAAAAAAAAAAAAAAAAA  [A-Za-z0-9%]{60,}
FACEBOOK_TOKEN!     EAA  [^\W_]{80,}
# Models
ANTHROPIC_KEY       sk-ant-  [\w-]{20,}
OPENAI_KEY          sk-proj- sk-svcacct- sk-admin- sk-None-  [\w-]{20,}
OPENROUTER_KEY      sk-or-v1-  [0-9a-f]{60,}
OPENAI_KEY!         sk-  [\w-]{20,}
API_KEY             sk-  [0-9a-f]{32,}\b
HUGGINGFACE_TOKEN   hf_ api_org_  [^\W_]{30,}
REPLICATE_TOKEN     r8_  [^\W_]{35,}
GROQ_KEY            gsk_  [^\W_]{40,}
XAI_KEY             xai-  [^\W_]{60,}
PERPLEXITY_KEY      pplx-  [^\W_]{40,}
NVIDIA_KEY          nvapi-  [\w-]{50,}
LLAMA_KEY           llx-  [\w-]{40,}
TAVILY_KEY          tvly-  [\w-]{28,}
TOGETHER_KEY        tgp_v1_  [\w-]{40,}
LANGSMITH_KEY       lsv2_pt_ lsv2_sk_  [0-9a-f]{32}_[0-9a-f]{10}
PINECONE_KEY        pcsk_  [^\W_]{5,20}_[^\W_]{40,}
# Watching
NEWRELIC_KEY        NRAK- NRJS- NRII- NRIQ- NRAA- NRRA- NRSP- NRBR-  [\w-]{19,}
GRAFANA_TOKEN       glsa_ glc_  [\w+/=-]{30,}
GRAFANA_TOKEN       eyJrIjoi  [A-Za-z0-9+/=]{60,}
SENTRY_TOKEN        sntrys_ sntryu_ sntryi_  [\w+/=-]{40,}
DYNATRACE_TOKEN     dt0c01. dt0s01. dt0s02. dt0s08. dt0s16.  [^\W_]{8,24}\.[^\W_]{60,}
HONEYCOMB_KEY       hcaik_ hcbik_ hccik_ hcxik_ hcamk_ hcxmk_  [a-z0-9]{40,}
PAGERDUTY_KEY       pdus+_ pdeu+_  [\w-]{16,}
LAUNCHDARKLY_KEY    sdk- mob-  UUID\b
POSTHOG_KEY         phc_ phx_ phs_ phr_ pha_  [^\W_]{40,}
# Secrets, networks, data
VAULT_TOKEN         hvs. hvb. hvr.  [\w-]{20,}
VAULT_TOKEN!        s. b.  [^\W_]{24}\b
DOPPLER_TOKEN       dp.pt. dp.st. dp.ct. dp.sa. dp.scim.  (?:[a-z0-9_-]{2,35}\.)?[^\W_]{32,}
DOPPLER_TOKEN       dp.audit. dp.said.  (?:[a-z0-9_-]{2,35}\.)?[^\W_]{32,}
NATS_KEY            SU SA SO SN SC  A[A-Z2-7]{55}\b
NEBULA_KEY          dnkey-  [A-Z0-9]{26}-[A-Z0-9]{52}
ONEPASSWORD_TOKEN   ops_eyJ  [A-Za-z0-9+/=_-]{50,}
ONEPASSWORD_KEY     A3-  [A-Z0-9]{6}-(?:[A-Z0-9]{6}|[A-Z0-9]{11})-(?:[A-Z0-9]{5}-){2,3}[A-Z0-9]{5}
TAILSCALE_KEY       tskey-  (?:[a-z]{3,8}-)?[^\W_]{8,}(?:-[^\W_]{10,})?
AGE_KEY             AGE-SECRET-KEY-1  [A-Z0-9]{50,}
DATABRICKS_TOKEN    dapi  [0-9a-f]{32}(?:-\d)?\b
DATABRICKS_TOKEN    dose  [0-9a-f]{32}\b
MAPBOX_TOKEN        sk.eyJ pk.eyJ tk.eyJ  [\w-]{30,}\.[\w-]{16,}
YANDEX_KEY          AQVN  [\w-]{35,}
YANDEX_KEY          y0_  [\w-]{50,}
ADAFRUIT_KEY        aio_  [^\W_]{28}
INFRACOST_KEY       ico-  [^\W_]{32}\b
CONFLUENT_KEY       cflt  [A-Za-z0-9+/]{56,}
ELASTIC_KEY         essu_  [A-Za-z0-9+/=_-]{40,}
OPENSHIFT_TOKEN     sha256~  [\w-]{43}
CLICKHOUSE_KEY      4b1d  [^\W_]{38}\b
AUTHRESS_KEY        sc_ ext_ scauth_ authress_  [a-z0-9]{5,30}\.[a-z0-9]{4,6}\.acc[\w+/=.-]{40,}
SETTLEMINT_TOKEN    sm_aat_ sm_pat_ sm_sat_  [^\W_]{16}\b
SCALINGO_TOKEN      tk-us-  [\w-]{48}
ADOBE_SECRET        p8e-  [\w-]{32}\b
INTRA_SECRET        s-s4t2ud- s-s4t2af-  [0-9a-f]{64}
SCARWISE_TOKEN      scw_  [\w-]{43}
# A webhook's address is its password: what follows the well-known part is hidden.
SLACK_WEBHOOK       hooks.slack.com/services/ hooks.slack.com/triggers/  [A-Za-z0-9+/]{20,}
SLACK_WEBHOOK       hooks.slack.com/workflows/ hooks.slack-gov.com/services/  [A-Za-z0-9+/]{20,}
DISCORD_WEBHOOK     discord.com/api/webhooks/ discordapp.com/api/webhooks/  \d{15,}/[\w-]{40,}
TEAMS_WEBHOOK       .webhook.office.com/ outlook.office.com/webhook/  [\w@/-]{40,}
ZAPIER_WEBHOOK      hooks.zapier.com/hooks/catch/  \d+/\w+
PAGERDUTY_KEY       events.pagerduty.com/integration/  [^\W_]{16,}
HEALTHCHECK_KEY     hc-ping.com/  UUID
# Standard tokens and hashes
JWT                 eyJ eyA ewo  [\w-]{10,}\.[\w-]{10,}(?:\.[\w-]*){0,3}
JWT                 ZXlK  [A-Za-z0-9+/_-]{80,}={0,2}
PASSWORD_HASH       $2a$ $2b$ $2x$ $2y$  \d\d\$[./A-Za-z0-9]{40,}
PASSWORD_HASH       $apr1$ $1$ $5$  (?:rounds=\d{1,9}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{20,}
PASSWORD_HASH       $6$ $md5$  (?:rounds=\d{1,9}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{20,}
PASSWORD_HASH       $sha1$  (?:rounds=\d{1,9}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{20,}
PASSWORD_HASH       $y$ $gy$ $7$  [./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{0,86}\$[./A-Za-z0-9]{40,}
PASSWORD_HASH       $argon2id$ $argon2i$ $argon2d$ $scrypt$  [A-Za-z0-9$=,+/.-]{30,}
PASSWORD_HASH       {SSHA} {SHA} {SSHA256} {SSHA512} {SHA256} {SHA512}  [A-Za-z0-9+/=]{24,}
PASSWORD_HASH       pbkdf2_sha256$ pbkdf2_sha512$  \d{1,8}\$[^$\s]{1,64}\$[A-Za-z0-9+/=]{20,}
PASSWORD_HASH       SCRAM-SHA-256$ SCRAM-SHA-1$  \d{1,8}:[A-Za-z0-9+/=$:]{40,}
"""
_UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"


class Format(NamedTuple):
    """Text of this kind begins with `prefix`, and `tail` matches what follows it."""

    kind: str
    prefix: str
    tail: str
    is_mixed: bool
    is_address: bool
    is_dotted: bool  # a run of letters up to a dot: where the dot lacks, the run is not read again


@cache
def table() -> list[Format]:
    """Every format, in the order of the table."""
    rows = (line.split(maxsplit=1) for line in _TABLE.splitlines() if line and line[0] != "#")
    return [
        Format(
            kind.rstrip("!"),
            prefix,
            tail,
            is_mixed=kind.endswith("!"),
            is_address=".com/" in prefix,
            is_dotted="0,}\\." in tail,
        )
        for kind, rest in rows
        for prefixes, _, tail in [rest.partition("  ")]
        for prefix in prefixes.split()
    ]


@cache
def _by_sign() -> list[tuple[str, list[tuple[str, Format]]]]:
    """Most prefixes hold one of these signs, and most texts hold few of them."""
    groups: dict[str, list[tuple[str, Format]]] = {"_": [], "$": [], "-": [], ".": [], "": []}
    for form in table():
        sign = next(s for s in groups if s in form.prefix)
        groups[sign].append((form.prefix, form))
    return list(groups.items())


_SHORTEST = 14  # characters: no token of the table is shorter


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.replace("UUID", _UUID).replace("START", r"(?<![^\W_])"), re.ASCII)


# Known by something in their middle or end: what must be there, and the whole or its first group.
_ODD_SHAPES = r"""
TELEGRAM_TOKEN   :AA        START\d{8,10}:AA[\w-]{32,}
TERRAFORM_TOKEN  .atlasv1.  START[^\W_]{14}\.atlasv1\.[\w=-]{50,}
AZURE_SECRET     Q~         START[\w~.-]{3}\dQ~[\w~.-]{31,34}(?![\w~-])
AZURE_KEY        +ASt       START[A-Za-z0-9+/]{76}\+ASt[^\W_]{6}==
AZURE_KEY        JQQJ99     START[^\W_]{52}JQQJ99[^\W_]{20,30}
NEWRELIC_KEY     NRAL       START(?:[a-z]{2}\d\d[a-z]|[0-9a-f]{4})[0-9a-f]{28,32}NRAL
MAILGUN_KEY      -          (?<!-)START[0-9a-f]{32}-[0-9a-f]{8}-[0-9a-f]{8}(?![\w-])
MAILCHIMP_KEY    -us        START[0-9a-f]{32}-us\d{1,2}\b
MAXMIND_KEY      _mmk       START[^\W_]{6}_[^\W_]{29}_mmk
FACEBOOK_TOKEN   |          START\d{15,16}\|[\w-]{27}(?![\w-])
FACEBOOK_TOKEN   %7C        START\d{15,16}%7C[\w-]{27}(?![\w-])
OKTA_TOKEN       kta        START00[\w-]{40}(?![\w-])
DISCORD_TOKEN    iscord     START[MNO][\w-]{22,28}\.[\w-]{6}\.[\w-]{27,}
KUBEADM_TOKEN    kubeadm    START[a-z0-9]{6}\.[a-z0-9]{16}(?![\w.-])
AWS_SECRET       AKIA       (?<=AKIA[A-Z0-9]{16})[\s"',;:|/]{1,5}([A-Za-z0-9+/]{40})(?![\w+/])
"""


@cache
def _odd_shapes() -> list[list[str]]:
    return [line.split(maxsplit=2) for line in _ODD_SHAPES.splitlines() if line]


_BODY = re.compile(
    r"(?:\s*+(?:Proc-Type|DEK-Info|Version|Comment|Hash): [^\n]{0,200})*"
    r"(?:[\s>|#*\"',]*+[A-Za-z0-9+/=]{16,})*+"
    r"(?:\s*+(?=[a-z]*[A-Z0-9+/])[A-Za-z0-9+/]{1,15}={0,2}(?=\s*(?:\Z|[\"'\\…]|\.\.)))?"
)
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
_PUTTY = re.compile(
    r"Private-Lines: \d{1,4}\s+((?:[A-Za-z0-9+/=]{1,64}\s*)+)(?:Private-MAC: [0-9a-f]+)?"
)


def find(page: Page) -> list[Span]:
    """Every secret that its own shape gives away."""
    long_words = "\n".join(word for word in page.raw.split() if len(word) >= _SHORTEST)
    if not long_words:
        return []
    return [
        *_issued_tokens(page, long_words),
        *_odd_tokens(page.text, long_words),
        *_private_keys(page.text),
    ]


def _issued_tokens(page: Page, long_words: str) -> Iterator[Span]:
    for sign, forms in _by_sign():
        if sign in long_words:
            for prefix, form in forms:
                if prefix in long_words:
                    yield from _issued(page, form)


def _odd_tokens(text: str, long_words: str) -> Iterator[Span]:
    for kind, sign, pattern in _odd_shapes():
        if sign in (text if sign.isalpha() else long_words):  # a vendor's name may stand apart
            for found in _compiled(pattern).finditer(text):
                yield Span(*found.span(found.lastindex or 0), kind)


def _issued(page: Page, form: Format) -> Iterator[Span]:
    text, tail = page.raw, _compiled(form.tail)
    at = text.find(form.prefix)
    while at >= 0:
        behind = at + len(form.prefix)
        begins = form.is_address or _begins_a_word(page.text, at)
        likely = begins and (not form.is_mixed or _is_mixed(tail.match(text, behind, behind + 100)))
        found = tail.match(text, behind) if likely else None
        run = _compiled(r"[\w-]*").match(text, behind) if likely and form.is_dotted else None
        if found:
            yield Span(behind if form.is_address else at, found.end(), form.kind)
            behind = found.end()
        elif run:
            behind = run.end()
        at = text.find(form.prefix, behind)


def _is_mixed(tail: re.Match[str] | None) -> bool:
    """Matched, with a digit and both cases in its first hundred characters."""
    said = tail[0] if tail else ""
    return said.lower() != said != said.upper() and any(c.isdigit() for c in said)


def _begins_a_word(text: str, at: int) -> bool:
    before = text[at - 1] if at else " "
    return not (before.isalnum() and before.isascii())


def _private_keys(text: str) -> Iterator[Span]:
    if "PRIVATE KEY" in text:
        yield from _armoured_keys(text)
    if "Private-Lines:" in text:
        for found in _PUTTY.finditer(text):
            yield Span(found.start(1), found.end(), "PRIVATE_KEY")
    if any(sign in text for sign in _HEADLESS_SIGNS):
        yield from _headless_keys(text)


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


def _headless_keys(text: str) -> Iterator[Span]:
    """From the first bytes that every such key has to the last line of key material."""
    at = 0
    while opening := _HEADLESS.search(text, at):
        at = _body_end(text, opening.end())
        yield Span(opening.start(), at, "PRIVATE_KEY")
