"""The value beside a secret's name: where it ends, and whether it looks like a secret at all.

Reading is bounded and a refused value is never read twice, so that a megabyte of names without
values stays linear.
"""

import base64
import binascii
import re
from itertools import pairwise
from typing import NamedTuple

from ingest.sensitive.spans import HIDDEN

_FIRST_LOOK = 48  # characters read before deciding; an accepted value is then followed to its end
_LONGEST_QUOTED = 4_096

_OPENING = re.compile(
    r"[ \t]{0,20}(?:![a-z]{1,10}[ \t]{1,4})?(?:[|>]?[+-]?[ \t]{0,4}\n[ \t]{1,20})?\[?[*_]{0,2}"
    r"(?:[bBrRuUfF@$]{1,2}(?=\\{0,3}[\"']))?(?P<quote>\"{3,7}|'{3,7}|\\{0,3}[\"'`])?"
)
# A comma, an ampersand, a bracket may be part of a password, unless the next pair follows it.
_PLAIN = rf"\s{HIDDEN}\"'`<>,;&|()\[\]{{}}\\"
_BARE = re.compile(
    rf"(?:(?!&(?:amp|quot|apos|lt|gt|nbsp|#\d\d);)(?:[^{_PLAIN}]"
    rf"|[,;&|()\[\]{{}}](?=[^{_PLAIN}])(?![\w.-]{{1,40}}[\"']?[=:])"
    rf"|<(?=[^\s{HIDDEN}/A-Za-z!])|>(?=[^\s{HIDDEN}\"'<>])"
    r"|\\(?![\"'`\\]|u00)))+"
)

_NOT_SECRETS = frozenset(
    """
    null none nil nul undefined true false yes no on off empty blank unset absent redacted
    masked hidden filtered removed omitted secret password passwd token key required optional
    invalid incorrect expired missing unknown wrong mismatch mismatched failed failure fail
    error errors ok okay success successful changed rotated reset revoked disabled enabled
    prompt stdin env environment file vault keychain keyring string str text varchar char
    bytes byte int integer number bool boolean object array any type field accepted rejected
    denied refused locked unlocked blocked valid verified unverified created deleted updated
    generated plaintext encrypted hashed not-set not_set notset n/a na tbd todo auto automatic
    basic bearer digest oauth oauth2 saml ldap kerberos ntlm negotiate aws4-hmac-sha256 jwt
    sha1 sha256 sha384 sha512 md5 base64 base32 bcrypt argon2 scrypt utf8 utf-8 aes256 hs256
    rs256 es256 include same-origin omit
    """.split()
)
_TEMPLATE = re.compile(
    r"\$\{|\$\(|%[A-Za-z_]\w*%?\Z|%\(|\{|<|\[|#\{|@@|\*+\Z|[xX*•.\-_#?]{3,}\Z"
    r"|(?:arn|vault|ref\+\w+|ssm|file|env|secretsmanager|sha256|sha512|SHA256|MD5|projects|op):[/:\w]"
)
_VARIABLE = re.compile(r"\$[A-Za-z_]\w*")
_MASKED = re.compile(r"\*{3}|[xX]{5}|•{2}|\.{3}|…")
# A call, an object's identity in a Java log, a member of the usual holders of settings.
_CODE = re.compile(
    r"[A-Za-z_]\w*(?:(?:\.|::|->)[A-Za-z_]\w*)*[(\[{].*|[\w$]+(?:\.[\w$]+)+@[0-9a-f]{1,8}"
    r"|(?:os|process|env|self|this|var|local|args|opts|config|cfg|settings|secrets|module|data"
    r"|request|req|ctx|params|props)(?:\.[A-Za-z_]+)+"
)
_PATH = re.compile(r"(?:~|\.{1,2}|[A-Za-z]:)?[\\/][\w.@-]{1,60}(?:[\\/][\w.@-]{1,60})*[\\/]?")
_NUMBER = re.compile(r"[vV]?\d+(?:[.,:_/-]\d+)*(?:[a-zA-Z]{1,3}|%)?")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?:[T_ ].*)?|\d{4}/\d\d/\d\d.*")
_NAME = re.compile(r"[A-Za-z]+\d{0,3}(?:[-_.:/@+=]+(?:[A-Za-z]+\d{0,3}|\d{1,4}))*+[-_.:/@+=]*")
_CLUSTER_NAME = re.compile(
    r"(?=.{0,60}(?:\A|[-./])[a-z]{3,}(?:[-./]|\Z))[a-z0-9]{1,12}(?:[-./][a-z0-9]{1,12})+"
)
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_HEX = re.compile(r"(?:0x)?[0-9a-fA-F]+")
_DIGIT = re.compile(r"[0-9]")
_RUN = re.compile(r"[A-Za-z0-9+]{12,}")
_SPEECH = re.compile(
    r"(?i)\b(?:is|are|was|were|be|must|should|cannot|can't|not|the|this|that|your|required|least"
    r"|for|has|have|had|does|did|invalid|match|too|please|enter|of|with|or|and|to|in|by)\b"
)


class Value(NamedTuple):
    """`text[start:end]`, and whether quotation marks said where it ends."""

    start: int
    end: int
    quoted: bool


def read_value(text: str, at: int) -> Value | None:
    """The value that begins here, after blanks and an opening quote; None where there is none."""
    opening = _OPENING.match(text, at)
    start, quote = (opening.end(), opening["quote"]) if opening else (at, None)
    if quote:
        end = _closing(text, start, quote)
        if end is not None:
            return Value(start, end, quoted=True) if end > start else None
    bare = _BARE.match(text, start, min(start + _FIRST_LOOK, len(text)))
    return Value(start, _unpunctuated(text, start, bare.end()), quoted=False) if bare else None


def followed(text: str, value: Value) -> int:
    """Where an accepted value really ends: past the first look."""
    if value.quoted or value.end - value.start < _FIRST_LOOK - 10:
        return value.end
    whole = _BARE.match(text, value.start)
    return _unpunctuated(text, value.start, whole.end()) if whole else value.end


def _closing(text: str, start: int, quote: str) -> int | None:
    line_end = text.find("\n", start, start + _LONGEST_QUOTED)
    limit = line_end if line_end >= 0 else start + _LONGEST_QUOTED
    end = text.find(quote, start, limit)
    while end > 0 and text[end - 1] == "\\" and len(quote) == 1:
        end = text.find(quote, end + 1, limit)
    return end if end >= 0 and HIDDEN not in text[start:end] else None


def _unpunctuated(text: str, start: int, end: int) -> int:
    """Without the comma or full stop of the sentence around it."""
    while end > start and text[end - 1] in ".,;:)]}":
        end -= 1
    return end


def is_reference(value: str) -> bool:
    """It stands for a value, or for none: a variable, a template, a mask, a path, ``null``."""
    return bool(
        len(value) < 3
        or value.lower().strip("-_.!?*()") in _NOT_SECRETS
        or _TEMPLATE.match(value)
        or _MASKED.search(value)
        or _CODE.fullmatch(value)
        or ((_PATH.fullmatch(value) or _VARIABLE.fullmatch(value)) and not _has_key_material(value))
        or "://" in value
    )


def is_sentence(value: str) -> bool:
    """Words for a reader, such as a validation message."""
    return " " in value and bool(_SPEECH.search(value) or value.endswith((".", "!", "?", ":")))


def is_name(value: str) -> bool:
    """What people call things: ``db-creds``, ``user_id``, ``api.example.com:8443``, a time."""
    if _NAME.fullmatch(value):
        return not _has_key_material(value)
    return bool(
        _NUMBER.fullmatch(value) or _MOMENT.fullmatch(value) or _CLUSTER_NAME.fullmatch(value)
    )


def is_random(value: str, least: int) -> bool:
    """At least so long, and no words: letters with digits, signs or restless case among them."""
    if len(value) < least or " " in value or len(set(value)) < 5 or is_name(value):
        return False
    if value.isalpha():
        return _is_restless(value)
    return any(c.isalpha() for c in value)


def is_mixed(value: str, least: int) -> bool:
    """Random, with a digit and both cases: what no id, hash or name looks like."""
    return (
        len(value) >= least
        and value.lower() != value != value.upper()
        and has_digit(value)
        and is_random(value, least)
        and not _UUID.fullmatch(value)
        and not _HEX.fullmatch(value)
    )


def has_digit(value: str) -> bool:
    """What most words lack and most secrets have."""
    return bool(_DIGIT.search(value))


def is_uuid(value: str) -> bool:
    """The usual spelling of an id."""
    return bool(_UUID.fullmatch(value))


def holds_a_pair(value: str) -> bool:
    """Base64 of ``user:password``, as in a Basic header or a registry's configuration."""
    try:
        pair = base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(pair) >= 3 and b":" in pair and pair.decode("latin-1").isprintable()


def _has_key_material(value: str) -> bool:
    """A long run that no word is: restless case, or digits strewn in."""
    return any(_is_restless(run) or _has_strewn_digits(run) for run in _RUN.findall(value))


def _is_restless(run: str) -> bool:
    """Capitals inside words, more often than camel case has them."""
    humps = sum(a.islower() and b.isupper() for a, b in pairwise(run))
    return len(run) >= 12 and humps * 6 >= len(run)


def _has_strewn_digits(run: str) -> bool:
    return sum(a.isdigit() != b.isdigit() for a, b in pairwise(run)) > 3
