"""Secrets known by the name beside them: ``password=``, ``"api_key":``, ``--token``, a YAML key.

A name is not enough (``token expired``, ``key=user_id``): what the name must be followed by depends
on how sure the name is and on how the two are joined.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from ingest.sensitive.spans import Page, Span
from ingest.sensitive.values import (
    Value,
    followed,
    has_digit,
    holds_a_pair,
    is_mixed,
    is_name,
    is_random,
    is_reference,
    is_sentence,
    is_uuid,
    read_value,
)

_PASSWORD_WORDS = (
    r"pa?ss?wo?r?d|passwort|passphrase|passcode|pass|pwd|pw|psk"
    r"|kennwort|contraseña|mot de passe|senha|пароль|密码|密碼|パスワード"
)
_OTHER_WORDS = r"secret|token|credentials?|key|authorization|auth|session|sid|otp|pin"
_SIGNS = tuple(
    """
    pas psw pss pwd pw psk kennwort contrase senha mot пароль 密 パス
    secret token credential key auth session sid otp pin
    """.split()
)

# A word, the rest of its identifier, what closes it, and how a value is joined to it:
# typed, assigned, said, paired with `value`, listed, in a tag, in a table, after a blank.
_JOINED_NAME = re.compile(
    rf"(?P<word>{_PASSWORD_WORDS}|{_OTHER_WORDS})"
    r"(?P<suffix>(?:[\w.]|-(?!>)){0,40}+)"
    r"(?P<close>(?:\\{0,3}[\"'`]|[\"']{3,7})?[\])*]{0,3}(?: \d{1,2}(?=:))?)"
    r"(?P<joint>[ \t]{0,2}:[ \t]{0,2}(?:const )?(?:&?str|string|text|char ?\*)\??[ \t]{0,2}=(?!=)"
    r"|[ \t]{0,12}(?:=>|:=|!?={1,3}|:(?![:/]/?)|：|->|→)"
    r"|[ \t]{1,4}(?:(?:is|was|to)|(?:set|changed|reset|rotated|updated) (?:to|from))"
    r"(?:[ \t]{0,2}[:=])?(?=[ \t])"
    r"|[ \t]{1,3}[–—-][ \t]{1,3}(?=[^\s-])"
    r"|[ \t]{1,2}(?:for|of)(?:[ \t]{1,2}[\w.@'-]{1,40}){1,4}[ \t]{0,2}(?:[:=]|(?:is|was)(?=[ \t]))"
    r"|[\s,;-]{0,20}\\{0,3}[\"']?value\\{0,3}[\"']?[ \t]{0,3}[:=]"
    r"|[ \t]{0,4},[ \t]{0,4}(?=\\{0,3}[\"'])"
    r"|>(?=[^<>\n]{1,500}</)"
    r"|[ \t]{0,12}\|(?=[ \t]{0,20}[^\s|]{6})"
    r"|[ \t]{1,4})"
)
_SAID = re.compile(r"[ \t]*(?:is|was|to|set|changed|reset|rotated|updated|for|of)\b")
_IDENTIFIER = "abcdefghijklmnopqrstuvwxyz0123456789_.$-"
_PASSWORD = re.compile(
    rf"{_PASSWORD_WORDS.replace('|pass|pwd|pw|', '|pass(?![a-z])|pwd|')}|(?<![a-z])pw(?![a-z])"
)
_LINE_OPENING = re.compile(r"[\s>*#\"'`{$+-]*(?:(?:export|set|setx|env|ENV|ARG)[ \t]+)?[\w.-]*\Z")
_APART = ("|", "-", "–", "—")
_SIGN = re.compile(r"[!@#$%^&*]")
_SEED = re.compile(r"[A-Z2-7]{16,}")  # of one-time passwords, in base 32
_LINE_ENDING = re.compile(r"[\"'`,;)}\]]{0,3}[ \t]*(?:$|\r?\n|#|//|\\n)")
_ARGUMENT = re.compile(r"\([\"'][\w.-]{0,40}\Z")

# The identifier goes on to say that this is something about the secret, not the secret.
_ABOUT = tuple(
    """
    id ids name names ref refs type types count counts uri uris url urls path paths file files
    filename dir policy policies expiry expires expired expiration expiresat expiresin
    expireson issuedat changedat updatedat createdat _at .at -at _on _in _by _age ttl len
    length size arn version versions status state error errors reset limit limits usage used
    endpoint provider store manager mgr mode enabled disabled required changed updated hint
    field lifetime rotation days hours class namespace scope scopes bucket pool rate alg
    algorithm format issuer audience location prefix header param regex pattern strength
    attempt attempts retry retries failures prompt validation validator check complexity
    change space board word words ring vault valid invalid method backend service server
    plugin module flow realm engine group index range map schema column stdin kind label
    fingerprint thumbprint digest serial host port user username through fail result timeout
    interval
    """.split()
)
_NO_SECRET_BEFORE = tuple(
    """
    next page continuation continue sync resume fencing cursor delta idempotency cancel
    cancellation lexer parser max min num total completion prompt input output bad unexpected
    syntax stop eos pad bos clientrequest client_request client-request public publishable
    partition cache primary foreign object dedup deduplication unique natural sort hash group
    shard row composite surrogate registry message record map lookup host known trusted
    """.split()
)
_SURE_BEFORE = tuple(
    """
    api access secret private authentication activation product sign signing signature encrypt
    encryption decryption auth authorization account master license licence storage shared
    service integration routing write ingest ingestion admin root deploy app application
    client hmac jwt jwk ssh gpg pgp aes rsa dsa ecdsa ssl tls wireguard preshared function
    functions system subscription instrumentation webhook bot rest consumer merchant session
    security token secure wallet priv kms dek kek vapid unseal
    """.split()
)
_NEVER_WORDS = frozenset({"secret", "token", "credential", "credentials", "key", "session"})
_GLUED_SUFFIX = re.compile(r"(?:(?:access)?key|token|value|hash|text|string|s(?![a-z]))")
_OTHER_PASSES = ("by", "com", "sur", "tres", "over", "under", "encom", "im")


class _Name(NamedTuple):
    kind: str
    sureness: int  # 3: whatever follows is secret; 2: unless it is a word; 1: only unlike any id


def find(page: Page) -> list[Span]:
    """Every value that stands beside the name of a secret and looks like one."""
    if not any(sign in page.folded for sign in _SIGNS):
        return []
    return list(_named(page))


def kind_of(name: str, value: str) -> str | None:
    """The kind of secret that `value` is under this name (of a label), None if it is none."""
    line = as_pair(name, value)
    return next((s.kind for s in find(Page.of(line)) if s.end == len(line) - 1), None)


def as_pair(name: str, value: str) -> str:
    """How a label reads to a finder."""
    quote = "'" if '"' in value else '"'
    return f"{name}={quote}{value}{quote}"


def _named(page: Page) -> Iterator[Span]:
    at = 0
    while found := _JOINED_NAME.search(page.folded, at):
        at = found.end()
        value = _value_after(page, found)
        if value is None:
            continue
        said = page.raw[value.start : value.end]
        name = _named_by(page, found) if _is_worth_naming(page, found, said) else None
        if name and _is_secret(page, found, name, value):
            at = followed(_as_written(page, found), value)
            yield Span(value.start, at, name.kind)


def _value_after(page: Page, found: re.Match[str]) -> Value | None:
    if found["joint"] == ">":
        return Value(found.end(), page.text.index("</", found.end()), quoted=True)
    return read_value(_as_written(page, found), found.end())


def _as_written(page: Page, found: re.Match[str]) -> str:
    """The reading in which the value ends: ``%26`` ends it after ``%3D``, is in it after ``=``."""
    ahead = page.raw[found.end() : found.end() + 20]
    opening = found.end() + len(ahead) - len(ahead.lstrip())
    joined = slice(found.start("close"), opening + 1)
    return page.raw if page.raw[joined] == page.text[joined] else page.text


def _is_worth_naming(page: Page, found: re.Match[str], said: str) -> bool:
    """Most values can be told from their look alone, cheaply: words after a blank or a colon."""
    if found["joint"].isspace():  # the sentence goes on: `token expired`
        return _stem(page, found).startswith("-") or has_digit(said)
    return found["word"] not in _NEVER_WORDS or not is_name(said)


def _stem(page: Page, found: re.Match[str]) -> str:
    """The part of the identifier before the word: ``--db-`` of ``--db-password``."""
    before = page.folded[max(found.start() - 40, 0) : found.start()]
    return before[len(before.rstrip(_IDENTIFIER)) :]


def _named_by(page: Page, found: re.Match[str]) -> _Name | None:
    """What the whole identifier around this word names, None where it is not a secret's name."""
    word, suffix = found["word"], found["suffix"]
    if not _is_whole_word(page, found) or suffix.endswith(_ABOUT):
        return None
    before = page.folded[max(found.start() - 20, 0) : found.start()].rstrip(" _.-")
    if word in ("token", "key") and before.endswith(_NO_SECRET_BEFORE):
        return None
    if word in ("otp", "pin"):
        return _Name(word.upper(), 1)
    identifier = _stem(page, found) + word + suffix
    if _PASSWORD.search(identifier):
        return _Name("PASSWORD", 2 if suffix == "s" else 3)
    for kind in ("secret", "token", "credential"):
        if kind in identifier:
            return _Name(kind.upper(), 2)
    if "key" in word + suffix:
        sure = word != "key" or before.endswith(_SURE_BEFORE)
        return _Name("PRIVATE_KEY" if "priv" in identifier else "API_KEY", 2 if sure else 1)
    return _Name("SESSION" if word in ("session", "sid") else "AUTH", 1)


def _is_whole_word(page: Page, found: re.Match[str]) -> bool:
    """`pass` in ``DB_PASS`` and ``dbPass``, not in ``compass``; no `key` in ``monkey``."""
    word, suffix, start = found["word"], found["suffix"], found.start()
    goes_on = suffix[:1].isalpha() and not page.text[found.end("word")].isupper()
    if goes_on and not _GLUED_SUFFIX.match(suffix):
        return False
    before = page.folded[max(start - 12, 0) : start]
    if len(word) > 4 or not before[-1:].isalpha():
        return True
    if page.text[start].isupper() and not page.text[start - 1].isupper():
        return True
    if word in ("pass", "pwd"):
        return not before.endswith(_OTHER_PASSES)
    return word == "key" and before.endswith(_SURE_BEFORE)


def _is_secret(page: Page, found: re.Match[str], name: _Name, value: Value) -> bool:
    said = page.raw[value.start : value.end]
    joint = found["joint"].strip()
    if name.sureness == 1 and not has_digit(said) and found["word"] != "auth":
        return False
    if is_reference(said) or (value.quoted and is_sentence(said)):
        return False
    if name.kind in ("OTP", "PIN"):
        return joint in ("=", ":", "is") and said.isdigit() and 4 <= len(said) <= 8
    if name.sureness == 1:
        return bool(joint) and (is_mixed(said, 20) or _is_pair(found, said))
    if not joint:
        return _is_secret_after_blank(page, found, name, value)
    if joint in _APART or (joint == "," and not _is_argument(page, found)):
        return is_random(said, 8)
    if name.sureness == 2:
        if joint.startswith("to"):
            return False
        return is_random(said, 6 if value.quoted or name.kind == "SECRET" else 8)
    return _is_password(page, found, value, said)


def _is_pair(found: re.Match[str], said: str) -> bool:
    """``"auth": "dXNlcjpwYXNz"``, as registries are configured."""
    return found["word"] == "auth" and holds_a_pair(said)


def _is_argument(page: Page, found: re.Match[str]) -> bool:
    """``define('DB_PASSWORD', 'letmein')``, not one word of a list of words."""
    return bool(_ARGUMENT.search(page.text[max(found.start() - 44, 0) : found.start()]))


def _is_secret_after_blank(page: Page, found: re.Match[str], name: _Name, value: Value) -> bool:
    """``--password hunter2`` is said by the flag; ``token Zk3…`` only by the value's own look."""
    said = page.raw[value.start : value.end]
    if _stem(page, found).startswith("-") and not said.startswith("-"):
        return name.sureness == 3 or is_random(said, 8)
    if not said[0].isalnum():
        return False
    if name.sureness == 3 and _is_told_apart(said, value):
        return True
    if name.kind == "SECRET" and _SEED.fullmatch(said) and has_digit(said):
        return True
    is_path = "/" in said or "." in said
    return is_mixed(said, 16) or (is_random(said, 24) and not is_uuid(said) and not is_path)


def _is_told_apart(said: str, value: Value) -> bool:
    """After a mere blank: mixed, or quoted with a digit, or with a digit and a sign."""
    if is_mixed(said, 8) or (value.quoted and has_digit(said) and len(said) >= 6):
        return True
    return is_random(said, 6) and has_digit(said) and bool(_SIGN.search(said))


def _is_password(page: Page, found: re.Match[str], value: Value, said: str) -> bool:
    """Any word after ``password=``; after ``password:`` in a sentence, only what is no word."""
    if _SAID.match(found["joint"]):
        word_with_digits = len(said) >= 6 and said[0].isalpha() and has_digit(said)
        return is_random(said, 6) or word_with_digits or (value.quoted and len(said) >= 4)
    if found["word"] == "pass" and said.isdigit():
        return False
    spaced = page.text[found.end() : found.end() + 1].isspace()
    if value.quoted or "value" in found["joint"] or not spaced:
        return not (said.isdigit() and len(said) < 4)
    if is_random(said, 6) and not is_name(said):
        return True
    return _stands_alone(page, found, value)


def _stands_alone(page: Page, found: re.Match[str], value: Value) -> bool:
    """At the end of a line, and at its beginning where it is a plain word: ``name: value``."""
    opening = page.text[page.text.rfind("\n", 0, found.start()) + 1 : found.start()][-80:]
    opens = _LINE_OPENING.match(opening) or has_digit(page.raw[value.start : value.end])
    return bool(opens and _LINE_ENDING.match(page.text, value.end))
