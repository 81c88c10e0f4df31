"""Secrets known by where they stand: in a URL, a header, a command, SQL, a Kubernetes Secret.

Each pattern begins at a fixed sign and looks a bounded way ahead; group `v` is the secret.
"""

import re
from collections.abc import Iterator

from ingest.sensitive.spans import HIDDEN, Page, Span
from ingest.sensitive.values import holds_a_pair, is_random, is_reference

_V = rf"(?:\"(?P<v>[^\"\n{HIDDEN}]{{1,300}})\"|'(?P<w>[^'\n{HIDDEN}]{{1,300}})'|(?P<x>[^\s\"'{HIDDEN}]{{1,300}}))"
_REST = r"[^\n|;]{0,200}?[ \t]"

# A command's own spelling of "here comes the password": sign, pattern; their flags know upper from lower case.
_COMMANDS = [
    ("-p", rf"\b(?:mysql\w*|mariadb\w*|xtrabackup|innobackupex)\b{_REST}-p(?![ \t-]|ort\b|rotocol)(?!\d+\b)" + _V),
    ("sshpass", r"\bsshpass[ \t]+-p[ \t]*" + _V),
    ("login", rf"\b(?:docker|podman|nerdctl|registry|az|oc|crane|acr|buildah)[ \t]+login\b{_REST}-p[ \t]+" + _V),
    (" -p ", rf"\b(?:mongo\w*|cqlsh|influx|kinit|twine|cf|svn|pscp|plink|winexe)\b{_REST}-p[ \t]+" + _V),
    ("creds", r"--(?:src-|dest-)?creds[= ][\"']?[^\s:\"']{1,100}:" + _V),
    ("curl", rf"\bcurl\b[^\n]{{0,300}}?[ \t](?:-u|--user|-U|--proxy-user)[ \t=]*[\"']?[^\s:\"']{{1,100}}:" + _V),
    ("http", rf"\b(?:https?|xh)\b{_REST}(?:-a|--auth)[ \t=]+[\"']?[^\s:\"']{{1,100}}:" + _V),
    ("redis-cli", rf"\bredis-cli\b{_REST}(?:-a|--pass)[ \t]+" + _V),
    ("ldap", rf"\bldap\w{{3,10}}\b{_REST}-w[ \t]*" + _V),
    ("%", r"\b(?:smbclient|rpcclient|mount\.cifs|net)\b[^\n]{0,200}?-U[ \t]*[\"']?[^\s%\"']{1,80}%" + _V),
    ("pass:", r"-(?:pass(?:in|out)?|k)[ \t]+[\"']?pass:" + _V),
    (" -p", rf"\b(?:sqlcmd|bcp|osql|zip|unzip)\b{_REST}-[pP][ \t]*" + _V),
    ("7z", rf"\b7z[ar]?\b{_REST}-p" + _V),
    ("pass ", r"-(?:src|dest|new)?(?:store|key)pass[ \t]+" + _V),
    ("rabbitmqctl", r"\brabbitmqctl[ \t]+(?:add_user|change_password|authenticate_user)[ \t]+\S{1,80}[ \t]+" + _V),
    ("htpasswd", r"\bhtpasswd[ \t]+-[a-zA-Z]*b[a-zA-Z]*[ \t]+\S{1,120}[ \t]+\S{1,80}[ \t]+" + _V),
    ("--from-literal", r"--from-literal[= \t]+[\"']?[\w.-]{1,80}=" + _V),
    ("vault", r"\bvault[ \t]+login[ \t]+(?!-|token=)" + _V),
    ("chpasswd", r"[\"']?[\w.-]{1,40}:(?P<v>[^\s\"']{1,200})[\"']?[ \t]*\|[ \t]*(?:sudo[ \t]+)?chpasswd"),
    ("configure", r"\baws[ \t]+configure[ \t]+set[ \t]+\S{0,80}secret\S{0,40}[ \t]+" + _V),
    ("/add", r"\bnet[ \t]+user[ \t]+\S{1,80}[ \t]+(?P<v>[^\s/*]\S{1,100})[ \t]+/add"),
    ("community", r"\bsnmp(?:walk|get|bulkwalk|set)\b[^\n]{0,80}?-c[ \t]*" + _V),
]  # fmt: skip
COMMANDS = [(sign, re.compile(pattern)) for sign, pattern in _COMMANDS]

# What is written in any case: netrc, network gear, SQL, mail and ftp dialogues, data source names.
_CLAUSES = [
    ("requirepass", r"\b(?:requirepass|masterauth)[ \t]+" + _V),
    ("pw ", r"\b(?:rootpw|bindpw|rootbindpw|authpw)[ \t]+" + _V),
    ("securestring", r"\bsecurestring[ \t]+(?:-(?:string|force|asplaintext)[ \t]+)*\\?[\"'](?P<v>[^\"'\\\n]{1,200})\\?[\"']"),
    ("community", r"\bsnmp-server[ \t]+community[ \t]+" + _V),
    ("enable", r"\benable[ \t]+(?:secret|password)[ \t]+(?:\d[ \t]+)?" + _V),
    ("username", r"\busername[ \t]+\S{1,80}[ \t]+(?:privilege[ \t]+\d+[ \t]+)?(?:password|secret)[ \t]+(?:\d[ \t]+)?" + _V),
    ("login", r"\blogin\s{1,20}\S{1,100}\s{1,20}password\s{1,20}" + _V),
    ("identified", r"\b(?:create|alter|grant|set)\b[^;\n]{0,200}?\bidentified\s{1,10}(?:with\s{1,10}\S{1,60}\s{1,10})?(?:by|as|using)\s{1,10}(?:password\s{1,10}|values\s{1,10})?" + _V),
    ("password", r"\b(?:user|role|login|with|encrypted|set|superuser)\b[^;'\"\n]{0,80}?\bpassword(?:\s{0,4}=\s{0,4}|\s{0,4}\(\s{0,4}|\s{1,4}for\s{1,4}\S{1,80}\s{0,4}=\s{0,4}(?:password\s?\()?|\s{1,4})n?['\"](?P<v>[^'\"\n]{1,300})['\"]"),
    ("auth plain", r"\bauth plain[ \t]+(?P<v>[A-Za-z0-9+/]{8,}={0,2})"),
    ("user ", r"\buser[ \t]+\S{1,100}[\s>\d:-]{1,40}\bpass[ \t]+(?P<v>\S{1,200})"),
    # Data source names without a scheme
    ("@", r"(?<![\w/])[\w.-]{1,60}:(?P<v>[^\s@/\"']{1,200})@(?:tcp|unix)\("),
    ("sqlplus", r"\bsqlplus[ \t]+(?:-\w+[ \t]+)*[\w$#]{1,60}/(?P<v>[^\s@\"']{1,100})@"),
    ("thin:", r"\bthin:[\w$#]{1,60}/(?P<v>[^\s@\"']{1,100})@"),
    ("\"kty\"", r"\"(?:d|p|q|dp|dq|qi|k)\"\s{0,20}:\s{0,20}\"(?P<v>[\w-]{20,})\""),
    # Windows unattended, XML attributes
    ("<", r"<(?:add|property|entry|param|setting)\b[^>\n]{0,120}?(?:password|passwd|pwd|secret|apikey|api_key|token)[\"'][^>\n]{0,20}?value=[\"'](?P<v>[^\"'\n]{1,300})[\"']"),
]  # fmt: skip
CLAUSES = [(sign, re.compile(pattern)) for sign, pattern in _CLAUSES]

_USERINFO = re.compile(
    rf"://(?P<user>[^\s/:@\"'<>?#{HIDDEN}]{{0,200}}+):(?P<v>[^\s/\"'<>{HIDDEN}]{{1,300}})@(?=[\w\[.{HIDDEN}-])"
)
_TOKEN_AS_USER = re.compile(rf"://(?P<v>[^\s/:@\"'<>?#{HIDDEN}]{{16,300}}+)@(?=[\w\[])")
_PORT = re.compile(r"\d{1,5}(?:[?#]|\Z)")
_QUERY = re.compile(
    r"[?&;](?:x-(?:amz|goog|ms)-)?(?:sig|signature|code|security-token|hmac|access|auth|apikey|key|pass|pwd|pw|sas|jwt"
    r"|assertion|samlresponse|samlrequest|state|ticket|otp)=(?P<v>[^\s&\"'<>#;]{8,})"
)
_SIGNED_HEADER = re.compile(r"signature=(?P<v>[0-9a-f]{40,}|[a-z0-9+/]{27,}={0,2})")

_AUTHORIZATION = re.compile(
    r"\b(?:proxy-)?authorization[\"'\\\]]{0,4}[ \t]{0,4}[:=,>]{1,2}[ \t]{0,4}[\[\\\"']{0,4}"
    r"(?P<scheme>bearer|basic|token|api-?key|ssws|geniekey|splunk|oauth|bot|jwt|key|digest|hawk|ntlm|negotiate|apitoken)"
    r"[ \t]{1,4}(?:token=)?[\"']?(?P<v>[^\s\"'\\,;<>]{3,})"
)
_DIGEST = re.compile(r"\b(?:response|mac)=\\?\"(?P<v>[^\"\\\n]{16,128})")
_SCHEME_ALONE = re.compile(r"\b(?P<scheme>bearer|basic|ssws|geniekey|splunk)(?:[ \t]{1,4}|[ \t]?[:=][ \t]?|%20|\+)[\"'\\]{0,2}(?P<v>[^\s\"'\\,;<>]{8,})")
_COOKIE_HEADER = re.compile(r"\b(?:set-)?cookies?[\"'\\\]]{0,4}[ \t]{0,4}[:=>]{1,2}[ \t]{0,4}[\[\\\"']{0,4}(?=[\w.!#$%&'*+^`|~-]{1,80}=)")
_COOKIE = re.compile(rf"([\w.!#$%&'*+^`|~-]{{1,80}})=([^;\s\"'\\,{HIDDEN}]*)(?:;[ \t]*|(?=\W)|\Z)")
_COOKIE_ATTRIBUTES = frozenset("path domain expires max-age samesite priority version comment secure httponly".split())
_SESSION_COOKIE = re.compile(
    r"\b(?:phpsessid|jsessionid|asp\.net_sessionid|aspsessionid\w{0,12}|connect\.sid|laravel_session|_gitlab_session|sessionid"
    r"|csrftoken|xsrf-token|remember_token|auth_token|aspxauth|_session_id|grafana_session)=(?P<v>[^;\s\"'\\,&<>]{8,})"
)  # fmt: skip

_SECRET_MANIFEST = re.compile(r"\"?kind\"?[ \t]{0,4}:[ \t]{0,4}\"?Secret\b")
_MANIFEST_BLOCK = re.compile(r"(?m)^([ \t]*)(?:data|stringData):[ \t]*\n((?:\1[ \t]+\S.*(?:\n|\Z)|[ \t]*\n)+)")
_MANIFEST_LINE = re.compile(r"(?m)^[ \t]*[\w.\"'-]{1,120}:[ \t]+(?:[|>][+-]?[ \t]*\n)?[ \t]*[\"']?([^\s\"'#|>][^\n\"']{0,8000})")
_MANIFEST_JSON = re.compile(r"\"(?:data|stringData)\"[ \t\n]{0,40}:[ \t\n]{0,40}\{([^{}]{0,60000})\}")
_JSON_STRING = re.compile(r":[ \t\n]{0,40}\"([^\"\\\n]{1,20000})\"")


def find(page: Page) -> list[Span]:
    """Every secret that its surroundings give away."""
    spans: list[Span] = []
    if "://" in page.text or "?" in page.text or "&" in page.text:
        spans.extend(_in_urls(page))
    spans.extend(_in_headers(page))
    for sign, pattern in COMMANDS:
        if sign in page.text:
            spans.extend(_spoken(page, pattern.finditer(page.text)))
    for sign, pattern in CLAUSES:
        if sign in page.folded:
            spans.extend(_spoken(page, pattern.finditer(page.folded)))
    if "Secret" in page.text:
        spans.extend(_in_manifests(page))
    return spans


def _in_urls(page: Page) -> Iterator[Span]:
    for found in _USERINFO.finditer(page.text):
        if not _PORT.match(found["v"]) and (not is_reference(found["v"]) or _is_weak_password(found["v"])):
            yield Span(*found.span("v"), "PASSWORD")
    for found in _TOKEN_AS_USER.finditer(page.text):
        if is_random(found["v"], 16):
            yield Span(*found.span("v"), "TOKEN")
    for found in _QUERY.finditer(page.folded):
        said = page.text[slice(*found.span("v"))]
        if is_random(said, 16) and not is_reference(said):
            yield Span(*found.span("v"), "SIGNATURE" if "sig" in found[0] else "TOKEN")


def _is_weak_password(said: str) -> bool:
    """Words that stand for nothing elsewhere (``secret``, ``password``) are real between ``:`` and ``@``."""
    return said in ("secret", "password", "passwd", "empty", "vault", "pw", "pg")


def _in_headers(page: Page) -> Iterator[Span]:
    folded, text = page.folded, page.text
    if "authorization" in folded:
        for found in _AUTHORIZATION.finditer(folded):
            said = text[slice(*found.span("v"))]
            if found["scheme"] in ("digest", "hawk"):
                yield from _digests(page, found.end())
            elif not is_reference(said) and not (said.isalpha() and len(said) < 12):
                yield Span(*found.span("v"), "BASIC_AUTH" if found["scheme"] == "basic" else "TOKEN")
    if any(scheme in folded for scheme in ("bearer", "basic", "ssws", "geniekey", "splunk")):
        for found in _SCHEME_ALONE.finditer(folded):
            said = text[slice(*found.span("v"))]
            basic = found["scheme"] == "basic"
            if holds_a_pair(said) if basic else (is_random(said, 12) and not is_reference(said)):
                yield Span(*found.span("v"), "BASIC_AUTH" if basic else "TOKEN")
    if "signature=" in folded:
        for found in _SIGNED_HEADER.finditer(folded):
            yield Span(*found.span("v"), "SIGNATURE")
    if "cookie" in folded:
        yield from _cookies(page)
    if "ses" in folded or "token" in folded or "sid" in folded or "aspxauth" in folded:
        for found in _SESSION_COOKIE.finditer(folded):
            if is_random(text[slice(*found.span("v"))], 8):
                yield Span(*found.span("v"), "COOKIE")


def _digests(page: Page, at: int) -> Iterator[Span]:
    found = _DIGEST.search(page.folded, at, at + 1_000)
    if found:
        yield Span(*found.span("v"), "SIGNATURE")


def _cookies(page: Page) -> Iterator[Span]:
    """Every pair of a Cookie header; of a Set-Cookie header, the pair but not its attributes."""
    at = 0
    while header := _COOKIE_HEADER.search(page.folded, at):
        at = header.end()
        while pair := _COOKIE.match(page.text, at):
            if pair[1].lower() not in _COOKIE_ATTRIBUTES and not is_reference(pair[2]):
                yield Span(*pair.span(2), "COOKIE")
            at = max(pair.end(), at + 1)


def _spoken(page: Page, matches: Iterator[re.Match[str]]) -> Iterator[Span]:
    for found in matches:
        start, end = found.span(found.lastgroup or "v")
        said = page.text[start:end].lstrip("\"'")
        if (said and not is_reference(said)) or _is_weak_password(said):
            yield Span(end - len(said), end, "PASSWORD")


def _in_manifests(page: Page) -> Iterator[Span]:
    """Every value below `data` and `stringData` of a Kubernetes Secret."""
    for manifest in _documents(page.text):
        start, end = manifest
        if not _SECRET_MANIFEST.search(page.text, start, end):
            continue
        for block in _MANIFEST_BLOCK.finditer(page.text, start, end):
            for line in _MANIFEST_LINE.finditer(page.text, block.start(2), block.end(2)):
                yield Span(line.start(1), line.start(1) + len(line[1].rstrip()), "SECRET")
        for block in _MANIFEST_JSON.finditer(page.text, start, end):
            for string in _JSON_STRING.finditer(page.text, block.start(1), block.end(1)):
                yield Span(*string.span(1), "SECRET")


def _documents(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    while (end := text.find("\n---", start)) >= 0:
        yield start, end
        start = end + 4
    yield start, len(text)
