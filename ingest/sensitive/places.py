"""Secrets known by where they stand: in a URL, a header, a command, SQL, a Kubernetes Secret.

Each pattern begins at a fixed sign and looks a bounded way ahead; its last group is the secret.
"""

import re
from collections.abc import Iterator
from functools import cache

from ingest.sensitive.spans import HIDDEN, Page, Span
from ingest.sensitive.values import holds_a_pair, is_random, is_reference

# A word, quoted or not; the way to it along a command line; a user's name before a colon.
_NO = HIDDEN
_WORD = rf"(?:\"([^\"\n{_NO}]{{1,300}})\"|'([^'\n{_NO}]{{1,300}})'|([^\s\"'{_NO}]{{1,300}}))"
_ON = r"\b[^\n|;]{0,200}?[ \t]"
_USER = r"[\"']?[^\s:\"']{1,100}:"

# A command's own spelling of "here comes the password"; flags know upper from lower case.
_FLAGS = [
    ("-p", rf"\b(?:mysql\w*|mariadb\w*|xtrabackup){_ON}-p(?![ \t-]|ort\b|rotocol|\d+\b)" + _WORD),
    ("sshpass", r"\bsshpass[ \t]+-p[ \t]*" + _WORD),
    ("login", rf"\b(?:docker|podman|nerdctl|registry|az|oc|crane)[ \t]+login{_ON}-p[ \t]+" + _WORD),
    (" -p ", rf"\b(?:mongo\w*|cqlsh|influx|twine|cf|svn|pscp|plink){_ON}-p[ \t]+" + _WORD),
    ("creds", rf"--(?:src-|dest-)?creds[= ]{_USER}" + _WORD),
    ("curl", rf"\bcurl{_ON}(?:-u|--user|-U|--proxy-user)[ \t=]*{_USER}" + _WORD),
    ("http", rf"\b(?:https?|xh){_ON}(?:-a|--auth)[ \t=]+{_USER}" + _WORD),
    ("redis-cli", rf"\bredis-cli{_ON}(?:-a|--pass)[ \t]+" + _WORD),
    ("ldap", rf"\bldap\w{{3,10}}{_ON}-w[ \t]*" + _WORD),
    ("%", rf"\b(?:smbclient|rpcclient|net){_ON}-U[ \t]*[\"']?[^\s%\"']{{1,80}}%" + _WORD),
    ("pass:", r"-(?:pass(?:in|out)?|k)[ \t]+[\"']?pass:" + _WORD),
    (" -", rf"\b(?:sqlcmd|bcp|osql|zip|unzip){_ON}-[pP][ \t]*" + _WORD),
    ("7z", rf"\b7z[ar]?{_ON}-p" + _WORD),
    ("pass ", r"-(?:src|dest|new)?(?:store|key)pass[ \t]+" + _WORD),
    ("htpasswd", r"\bhtpasswd[ \t]+-\w*b\w*[ \t]+\S{1,120}[ \t]+\S{1,80}[ \t]+" + _WORD),
    ("--from-literal", r"--from-literal[= \t]+[\"']?[\w.-]{1,80}=" + _WORD),
]
_VERBS = [
    ("sudo", r"\becho[ \t]+" + _WORD + r"[ \t]*\|[ \t]*sudo[ \t]+-\w*S"),
    ("<<<", r"\bsudo[ \t]+-\w*S\b[^\n]{0,80}?<<<[ \t]*" + _WORD),
    (
        "@",
        rf"\b(?:s?ftp|lftp|scp|rsync|ssh){_ON}[\w.-]{{1,40}}:([^\s@/:]{{3,80}})@(?=[\w.])",
    ),
    ("rabbitmqctl", r"\brabbitmqctl[ \t]+(?:add_user|change_password)[ \t]+\S{1,80}[ \t]+" + _WORD),
    ("vault", r"\bvault[ \t]+login[ \t]+(?!-|token=)" + _WORD),
    ("chpasswd", r"[\w.-]{1,40}:([^\s\"']{1,200})[\"']?[ \t]*\|[ \t]*(?:sudo[ \t]+)?chpasswd"),
    ("configure", r"\baws[ \t]+configure[ \t]+set[ \t]+\S{0,80}secret\S{0,40}[ \t]+" + _WORD),
    ("/add", r"\bnet[ \t]+user[ \t]+\S{1,80}[ \t]+([^\s/*]\S{1,100})[ \t]+/add"),
]

# What is written in any case: configuration, netrc, SQL, mail and ftp dialogues, data sources.
_CLAUSES = [
    ("requirepass", r"\b(?:requirepass|masterauth)[ \t]+" + _WORD),
    ("pw ", r"\b(?:rootpw|bindpw|rootbindpw|authpw)[ \t]+" + _WORD),
    (
        "securestring",
        r"\bsecurestring[ \t]+(?:-(?:string|force|asplaintext)[ \t]+)*\\?[\"']([^\"'\\\n]{1,200})",
    ),
    ("community", r"\bsnmp-server[ \t]+community[ \t]+" + _WORD),
    ("community", r"\bsnmp(?:walk|get|bulkwalk|set)\b[^\n]{0,80}?-c[ \t]*" + _WORD),
    ("enable", r"\benable[ \t]+(?:secret|password)[ \t]+(?:\d[ \t]+)?" + _WORD),
    (
        "username",
        r"\busername[ \t]+\S{1,80}[ \t]+(?:privilege[ \t]+\d+[ \t]+)?(?:password|secret)[ \t]+"
        r"(?:\d[ \t]+)?" + _WORD,
    ),
    ("login", r"\blogin\s{1,20}\S{1,100}\s{1,20}password\s{1,20}" + _WORD),
    (
        "identified",
        r"\b(?:create|alter|grant|set)\b[^;\n]{0,200}?\bidentified\s{1,10}"
        r"(?:with\s{1,10}\S{1,60}\s{1,10})?(?:by|as|using)\s{1,10}(?:(?:password|values)\s{1,10})?"
        + _WORD,
    ),
    (
        "password",
        r"\b(?:user|role|login|with|encrypted|set|superuser)\b[^;'\"\n]{0,80}?\bpassword"
        r"(?:\s{0,4}=\s{0,4}|\s{0,4}\(\s{0,4}"
        r"|\s{1,4}for\s{1,4}\S{1,80}\s{0,4}=\s{0,4}(?:password\s?\()?|\s{1,4})"
        r"n?['\"]([^'\"\n]{1,300})['\"]",
    ),
    ("auth", r"\bauth\s{0,4}=\s{0,4}\(\s{0,4}[\"'][^\"'\n]{1,80}[\"']\s{0,4},\s{0,4}" + _WORD),
    ("dockerconfig", r"\.dockerconfigjson[\"']?[ \t]*:[ \t]*[\"']?([a-z0-9+/=]{20,})"),
    (
        "code",
        r"\b(?:otp|verification|security|2fa|mfa|one-time|login|recovery|backup)[ -]codes?"
        r"[ \t]{0,2}(?:is|are|:|=)?[ \t]{0,2}(\d{4,8}\b|[a-z0-9]{4,6}(?:-[a-z0-9]{4,6})+\b)",
    ),
    ("app", r"\bapp(?:lication)?[ -]password[ \t]*[:=][ \t]*((?:[a-z]{4} ){3}[a-z]{4})\b"),
    (
        "cred",
        r"\b(?:creds?|credentials|logins?)[ \t]*(?:are|is|:|=)[ \t]*[\w.@-]{1,60}[ \t]*[/:,][ \t]*"
        r"(?=[^\s/]*\d)([^\s,;/]{6,80})",
    ),
    ("login", r"\blogins?[ \t]*[:=][ \t]*[\w.@-]{1,60}[ \t]*/[ \t]*(?=[^\s/]*\d)([^\s,;/]{6,80})"),
    ("auth plain", r"\bauth plain[ \t]+([A-Za-z0-9+/]{8,}={0,2})"),
    ("user ", r"\buser[ \t]+\S{1,100}[\s>\d:-]{1,40}\bpass[ \t]+(\S{1,200})"),
    ("@", r"(?<![\w/.-])[\w.-]{1,60}:([^\s@/\"']{1,200})@(?:tcp|unix)\("),
    ("sqlplus", r"\bsqlplus[ \t]+(?:-\w+[ \t]+)*[\w$#]{1,60}/([^\s@\"']{1,100})@"),
    ("thin:", r"\bthin:[\w$#]{1,60}/([^\s@\"']{1,100})@"),
    ('"kty"', r"\"(?:d|p|q|dp|dq|qi|k)\"\s{0,20}:\s{0,20}\"([\w-]{20,})\""),
    (
        "<",
        r"<(?:add|property|entry|param|setting)\b[^>\n]{0,120}?(?:password|passwd|pwd|secret|api_?key"
        r"|token)[\"'][^>\n]{0,20}?value=[\"']([^\"'\n]{1,300})[\"']",
    ),
]

_USERINFO = re.compile(
    rf"://[^\s/:@\"'<>?#{HIDDEN}]{{0,200}}+:([^\s/\"'<>{HIDDEN}]{{1,300}})@(?=[\w\[.{HIDDEN}-])"
)
_TOKEN_AS_USER = re.compile(rf"://([^\s/:@\"'<>?#{HIDDEN}]{{16,300}}+)@(?=[\w\[])")
_PORT = re.compile(r"\d{1,5}(?:[?#]|\Z)")
_QUERY = re.compile(
    r"(?i)[?&;](?:x-(?:amz|goog|ms)-)?(?P<name>sig|signature|code|security-token|hmac|access|auth|apikey"
    r"|key|pass|pwd|pw|sas|jwt|assertion|samlresponse|samlrequest|state|ticket|otp)"
    r"=(?P<v>[^\s&\"'<>#;]{8,})"
)
_SIGNED_HEADER = re.compile(r"signature=([0-9a-f]{40,}|[a-z0-9+/]{27,}={0,2})")

_OPENS = r"[\"'\\\]]{0,4}[ \t]{0,4}[:=,>]{1,2}[ \t]{0,4}[\[\\\"']{0,4}"
_AUTHORIZATION = re.compile(
    rf"\b(?:proxy-)?authorization{_OPENS}"
    r"(?P<scheme>bearer|basic|token|api-?key|ssws|geniekey|splunk|oauth|bot|jwt|key|digest|hawk|ntlm"
    r"|negotiate|apitoken)[ \t]{1,4}(?:token=)?[\"']?(?P<v>[^\s\"'\\,;<>]{3,})"
)
_DIGEST = re.compile(r"\b(?:response|mac)=\\?\"([^\"\\\n]{16,128})")
_SCHEMES = ("bearer", "basic", "ssws", "geniekey", "splunk")
_SCHEME_ALONE = re.compile(
    rf"\b(?P<scheme>{'|'.join(_SCHEMES)})(?:[ \t]{{1,4}}|[ \t]?[:=][ \t]?|\+)[\"'\\]{{0,2}}"
    r"(?P<v>[^\s\"'\\,;<>]{8,})"
)
_COOKIE_NAME = r"[\w.!#$%&'*+^`|~-]{1,80}"
_COOKIE_HEADER = re.compile(rf"\b(?:set-)?cookies?{_OPENS}(?={_COOKIE_NAME}=)")
_COOKIE = re.compile(rf"({_COOKIE_NAME})=([^;\s\"'\\,{HIDDEN}]*)(?:;[ \t]*|(?=\W)|\Z)")
_COOKIE_ATTRIBUTES = frozenset(
    "path domain expires max-age samesite priority version comment secure httponly".split()
)
_SESSION_COOKIE = re.compile(
    r"(?i)\b(?:phpsessid|jsessionid|asp\.net_sessionid|aspsessionid\w{0,12}|connect\.sid|laravel_session"
    r"|_gitlab_session|sessionid|csrftoken|xsrf-token|remember_token|auth_token|aspxauth|_session_id"
    r"|grafana_session)=([^;\s\"'\\,&<>]{8,})"
)

_SECRET_MANIFEST = re.compile(r"\"?kind\"?[ \t]{0,4}:[ \t]{0,4}\"?Secret\b")
_MANIFEST_BLOCK = re.compile(
    r"(?m)^([ \t]*)(?:data|stringData):[ \t]*\n((?:\1[ \t]+\S.*(?:\n|\Z)|[ \t]*\n)+)"
)
_MANIFEST_LINE = re.compile(
    r"(?m)^[ \t]*[\w.\"'-]{1,120}:[ \t]+(?:[|>][+-]?[ \t]*\n)?[ \t]*[\"']?"
    r"([^\s\"'#|>][^\n\"']{0,8000})"
)
_MANIFEST_JSON = re.compile(r"\"(?:data|stringData)\"\s{0,40}:\s{0,40}\{([^{}]{0,60000})\}")
_JSON_STRING = re.compile(r":\s{0,40}\"([^\"\\\n]{1,20000})\"")


def find(page: Page) -> list[Span]:
    """Every secret that its surroundings give away."""
    return [*_in_urls(page), *_in_headers(page), *_in_lines(page), *_in_manifests(page)]


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _in_urls(page: Page) -> Iterator[Span]:
    if "://" in page.text:
        for found in _USERINFO.finditer(page.raw):
            if not _PORT.match(found[1]) and _may_be_password(found[1]):
                yield Span(*found.span(1), "PASSWORD")
        for found in _TOKEN_AS_USER.finditer(page.raw):
            if is_random(found[1], 16):
                yield Span(*found.span(1), "TOKEN")
    if "=" in page.raw and ("?" in page.raw or "&" in page.raw):
        for found in _QUERY.finditer(page.raw):
            said = found["v"]
            if is_random(said, 16) and not is_reference(said):
                kind = "SIGNATURE" if found["name"].lower().startswith("sig") else "TOKEN"
                yield Span(*found.span("v"), kind)


def _may_be_password(said: str) -> bool:
    """No reference; words that stand for nothing elsewhere are real in a password's place."""
    return not is_reference(said) or said in ("secret", "password", "passwd", "vault", "pw", "pg")


def _in_headers(page: Page) -> Iterator[Span]:
    if "authorization" in page.folded:
        yield from _authorizations(page)
    if any(scheme in page.folded for scheme in _SCHEMES):
        yield from _schemes(page)
    if "signature=" in page.folded:
        for found in _SIGNED_HEADER.finditer(page.folded):
            yield Span(*found.span(1), "SIGNATURE")
    if "cookie" in page.folded:
        yield from _cookies(page)
    if any(sign in page.folded for sign in ("ses", "sid=", "token", "aspxauth")):
        for found in _SESSION_COOKIE.finditer(page.raw):
            if is_random(found[1], 8):
                yield Span(*found.span(1), "COOKIE")


def _authorizations(page: Page) -> Iterator[Span]:
    for found in _AUTHORIZATION.finditer(page.folded):
        said = page.text[slice(*found.span("v"))]
        if found["scheme"] in ("digest", "hawk"):
            digest = _DIGEST.search(page.folded, found.end(), found.end() + 1_000)
            if digest:
                yield Span(*digest.span(1), "SIGNATURE")
        elif not is_reference(said) and not (said.isalpha() and len(said) < 12):
            yield Span(*found.span("v"), "BASIC_AUTH" if found["scheme"] == "basic" else "TOKEN")


def _schemes(page: Page) -> Iterator[Span]:
    """``Bearer`` and its like without their header: only what looks like one of their values."""
    for found in _SCHEME_ALONE.finditer(page.folded):
        said = page.text[slice(*found.span("v"))]
        if found["scheme"] == "basic":
            if holds_a_pair(said):
                yield Span(*found.span("v"), "BASIC_AUTH")
        elif is_random(said, 12) and not is_reference(said):
            yield Span(*found.span("v"), "TOKEN")


def _cookies(page: Page) -> Iterator[Span]:
    """Every pair of a Cookie header; of a Set-Cookie header, the pair but not its attributes."""
    at = 0
    while header := _COOKIE_HEADER.search(page.folded, at):
        at = header.end()
        while pair := _COOKIE.match(page.raw, at):
            if pair[1].lower() not in _COOKIE_ATTRIBUTES and not is_reference(pair[2]):
                yield Span(*pair.span(2), "COOKIE")
            at = max(pair.end(), at + 1)


def _in_lines(page: Page) -> Iterator[Span]:
    for sign, pattern in [*_FLAGS, *_VERBS] if " -" in page.text else _VERBS:
        if sign in page.raw:
            yield from _spoken(page, _compiled(pattern).finditer(page.raw))
    for sign, pattern in _CLAUSES:
        if sign in page.folded:
            yield from _spoken(page, _compiled(pattern).finditer(page.folded))


def _spoken(page: Page, matches: Iterator[re.Match[str]]) -> Iterator[Span]:
    for found in matches:
        start, end = found.span(found.lastindex or 0)
        if _may_be_password(page.text[start:end]):
            yield Span(start, end, "PASSWORD")


def _in_manifests(page: Page) -> Iterator[Span]:
    """Every value below `data` and `stringData` of a Kubernetes Secret."""
    if "Secret" not in page.text:
        return
    for start, end in _documents(page.text):
        if _SECRET_MANIFEST.search(page.text, start, end):
            for block in _MANIFEST_BLOCK.finditer(page.text, start, end):
                for line in _MANIFEST_LINE.finditer(page.text, *block.span(2)):
                    yield Span(line.start(1), line.start(1) + len(line[1].rstrip()), "SECRET")
            for block in _MANIFEST_JSON.finditer(page.text, start, end):
                for string in _JSON_STRING.finditer(page.text, *block.span(1)):
                    yield Span(*string.span(1), "SECRET")


def _documents(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    while (end := text.find("\n---", start)) >= 0:
        yield start, end
        start = end + 4
    yield start, len(text)
