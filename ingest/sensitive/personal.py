"""Personal data: e-mail and IP addresses, phone, card and account numbers, people's names.

A pattern proposes, a checksum or a numbering plan decides. Names are never guessed: only those of
the people who wrote in the ticket are known.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_address, ip_network

from ingest.sensitive.spans import Page, Span

_EMAIL = re.compile(
    r"(?<![\w.+-])(?P<local>[\w.+-]++)(?:@|%40)"
    r"(?P<domain>(?:[^\W_](?:[\w-]{0,62})\.){1,8}(?P<top>[^\W\d_]{2,24}|xn--[a-z0-9-]{2,40}))(?![\w-])"
)
# `git@github.com:owner/name`, `root@db-1.example.com`: an account on a machine, not a mailbox.
_MACHINE_ACCOUNTS = frozenset(
    "root git hg svn ubuntu ec2-user centos core postgres vagrant oracle nobody".split()
)
_FILES_AND_UNITS = frozenset(
    "png jpg jpeg gif svg webp ico css js ts mjs map json md html service slice socket timer mount"
    " target scope local internal localdomain lan svc cluster".split()
)

_PHONE = re.compile(r"(?<![\w+(/.-])(?:\+\d|\+?\(\+?\d|tel:\+?\d)[\d ().\-/\xa0]{6,22}\d(?![\w])")
_US_SHAPE = re.compile(r"\(\d{3}\) ?\d{3}[-. ]\d{4}\Z")

_LONG_NUMBER = re.compile(r"(?:\d[ -]?){10}")
_IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,4})?(?![A-Za-z0-9])"
)
_CARD = re.compile(
    r"(?<![\w.-])[2-6]\d{3}([ -]?)(?:\d{4}\1\d{4}\1\d{4}|\d{6}\1\d{4,5})(?![\w]|[.-]\d)"
)
_CARD_BRANDS = re.compile(
    r"4\d{15}|5[1-5]\d{14}|2(?:2[2-9]|[3-6]\d|7[01])\d{13}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|6(?:011|5\d\d|4[4-9]\d)\d{12}"
    r"|62\d{14}|35(?:2[89]|[3-8]\d)\d{12}"
)
_COUNTER_BEFORE = re.compile(
    r"(?:id|offset|seq|sequence|trace|span|ts|time|timestamp|count|bytes|epoch|nanos|lsn|txid|xid|order|number|no|ref)"
    r"[\"']?[\s:=#]{1,3}[\"']?\Z"
)

_IPV4 = re.compile(r"(?<![\w.-])(?<!ersion )(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IPV6 = re.compile(
    r"(?<![\w:.])(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{2,39}(?:(?<=:)(?:\d{1,3}\.){3}\d{1,3})?(?![\w:]|\.\d)"
)


def find(page: Page, *, ips: bool = False) -> list[Span]:
    """E-mail addresses, phone numbers, card and account numbers; IP addresses where asked for."""
    spans: list[Span] = []
    if "@" in page.text or "%40" in page.text:
        spans.extend(_emails(page.text))
    if "+" in page.text or "(" in page.text or "tel:" in page.text:
        spans.extend(_phones(page.text))
    if _LONG_NUMBER.search(page.text):
        spans.extend(_accounts(page.text))
        spans.extend(_cards(page))
    if ips:
        spans.extend(_addresses(page.text))
    return spans


def _emails(text: str) -> Iterator[Span]:
    for found in _EMAIL.finditer(text):
        if not _is_machine_account(text, found):
            yield Span(found.start(), found.end(), "EMAIL")


def _is_machine_account(text: str, found: re.Match[str]) -> bool:
    local = found["local"].lower()
    return (
        local in _MACHINE_ACCOUNTS
        or found["top"].lower() in _FILES_AND_UNITS
        or text[max(found.start() - 3, 0) : found.start()] == "://"
        or (local.isdigit() and text[found.end() : found.end() + 1] == ":")
    )


def _phones(text: str) -> Iterator[Span]:
    for found in _PHONE.finditer(text):
        said = found[0]
        while said:
            if _is_phone(said):
                yield Span(found.start(), found.start() + len(said), "PHONE")
                break
            said = said.rpartition(" ")[0].rstrip(" (-/.")


@lru_cache(maxsize=1024)
def _is_phone(said: str) -> bool:
    """The numbering plans know it; a US number in its usual shape needs only the right length."""
    import phonenumbers

    said = said.removeprefix("tel:")
    if sum(c.isdigit() for c in said) < 8 or re.fullmatch(r"\+\d+\.\d+", said):
        return False
    try:
        number = phonenumbers.parse(said, None if "+" in said else "US")
    except phonenumbers.NumberParseException:
        return False
    if "+" not in said:
        return bool(_US_SHAPE.match(said)) and phonenumbers.is_possible_number(number)
    written_as_one = len(re.findall(r"[ ().\-/]+", said)) >= 2 or number.country_code == 1
    possible = phonenumbers.is_possible_number(number) and written_as_one
    return possible or phonenumbers.is_valid_number(number)


def _accounts(text: str) -> Iterator[Span]:
    for found in _IBAN.finditer(text):
        said = found[0]
        while said:
            if _is_iban(said):
                yield Span(found.start(), found.start() + len(said), "IBAN")
                break
            said = said.rpartition(" ")[0]


@lru_cache(maxsize=1024)
def _is_iban(said: str) -> bool:
    from stdnum import iban

    return bool(iban.is_valid(said, check_country=False)) and len(said.replace(" ", "")) >= 15


def _cards(page: Page) -> Iterator[Span]:
    for found in _CARD.finditer(page.text):
        bare = found[1] == "" and _COUNTER_BEFORE.search(
            page.folded[max(found.start() - 16, 0) : found.start()]
        )
        if not bare and _is_card(re.sub(r"[ -]", "", found[0])):
            yield Span(found.start(), found.end(), "CARD")


def _is_card(digits: str) -> bool:
    from stdnum import luhn

    return bool(_CARD_BRANDS.fullmatch(digits) and luhn.is_valid(digits))


_STAND_INS = [
    ip_network(n) for n in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
]


def _addresses(text: str) -> Iterator[Span]:
    """Addresses of the public internet, documentation's stand-ins for them included.

    Private, loopback, link-local and multicast addresses stay: they tell one node from another and
    mean nothing outside.
    """
    for pattern in (_IPV4, _IPV6) if ":" in text else (_IPV4,):
        for found in pattern.finditer(text):
            if _is_public(found[0]):
                yield Span(found.start(), found.end(), "IP")


@lru_cache(maxsize=4096)
def _is_public(said: str) -> bool:

    try:
        address = ip_address(said)
    except ValueError:
        return False
    if any(address in stand_ins for stand_ins in _STAND_INS):
        return True
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_global and not address.is_multicast


_ROLES = frozenset(
    """
    team teams support engineering engineer engineers bot bots ops operations operator
    operators oncall on-call call sre sres devops secops noc soc incident incidents commander
    manager management lead service services platform status admin admins administrator root
    system systems alert alerts alerting monitor monitoring monitors customer customers
    security network networking infra infrastructure database dba data cloud production prod
    release desk helpdesk help group staff user users agent agents automation automated auto
    webhook hook api app application responder responders scribe communications comms liaison
    anonymous unknown none nobody everyone pagerduty opsgenie slack jira github gitlab grafana
    prometheus alertmanager datadog jenkins statuspage servicenow sentry zabbix nagios
    newrelic splunk elastic terraform argo argocd kubernetes cron scheduler daemon runbook
    rootly firehydrant incidentio blameless victorops xmatters teams zendesk confluence email
    mail sms phone web frontend backend mobile payments billing checkout core search storage
    compute edge cdn dns quality qa test tester testing developer developers development dev
    product project office department vendor partner provider duty shift night day follow up
    first second third line tier level reporter assignee owner author
    """.split()
)
_PERSON_LABELS = frozenset(
    """
    reporter reported_by assignee assigned_to assigned commander incident_commander lead
    incident_lead author opened_by closed_by resolved_by acknowledged_by created_by updated_by
    caller caller_id requester responder responders scribe contact on_call oncall
    """.split()
)
_WORDS = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def is_person_label(name: str) -> bool:
    """Whether a label of this name holds a person."""
    return re.sub(r"[\s.-]+", "_", name.strip().lower()) in _PERSON_LABELS


def names_in(author: str) -> list[str]:
    """The people an author line names, as written there; empty for teams, tools and roles.

    ``Ana Silva (SRE) <ana@…>`` names Ana Silva; ``Platform Team`` and ``oncall-bot`` name nobody.
    """
    line = re.sub(r"[<(\[].*", "", author)
    parts = [p.strip() for p in re.split(r"[;&/|]|\band\b|,(?=\s*\w+\s+\w)", line)]
    return [p for p in parts if _is_person(p)]


def _is_person(part: str) -> bool:
    words = _WORDS.findall(part)
    if not words or len(words) > 5 or len(part) > 80 or "\x00" in part:
        return False
    folded = [w.lower() for w in words]
    return len("".join(words)) >= 2 and not any(w in _ROLES or w.endswith("bot") for w in folded)


def mentions(name: str) -> list[str]:
    """Patterns of how texts mention this person: the full name, or the handle with its ``@``.

    A single word alone is never enough (``will``, ``mark``, ``grace`` are words too).
    """
    words = [re.escape(w) for w in _WORDS.findall(name)]
    spaced = not name.startswith("@") and len(name.split()) > 1
    if spaced:
        first, last = words[0], words[-1]
        return [r"\s+".join(words), rf"{last},\s*{first}", rf"(?i:@?{first}[._-]{last})(?![\w@])"]
    return [rf"@{re.escape(name.lstrip('@'))}(?![\w.-]*@)"]


def find_people(page: Page, people: re.Pattern[str] | None) -> list[Span]:
    """Every mention of the ticket's own people."""
    if people is None:
        return []
    return [Span(m.start(), m.end(), "PERSON") for m in people.finditer(page.text)]


def people_pattern(names: list[str]) -> re.Pattern[str] | None:
    """One pattern for all mentions of these people, None where there are none."""
    alternatives = [m for name in names for m in mentions(name)]
    if not alternatives:
        return None
    longest_first = sorted(set(alternatives), key=len, reverse=True)
    return re.compile(rf"(?<![\w@])(?:{'|'.join(longest_first)})(?!\w)")
