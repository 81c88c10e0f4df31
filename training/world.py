"""An invented world of incidents: services that fail in ways of its own, told as incidents are.

It exists so that the loop can be proved without a download and without anybody's data: everything
is generated from a seed, and nothing of it reaches a model but through the store and the export. A
fault family has four signs, an incident shows two of them beside noise of the platform; the words
of the signs are shared by all families, only their pairs are telling. So similar incidents often
had another cause, as in life, and knowing the family takes having learned it. A tenth of the
incidents are of faults that happen once.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ingest.incident import Evidence, Incident, Update

SIGNS = 4  # of a family
SHOWN = 2  # in one incident
ONE_OFFS = 0.1  # of an era's incidents
SOURCE = "invented-world"
_BEGIN = datetime(2021, 1, 1, tzinfo=UTC)
_ERA = timedelta(days=365)

_THINGS = (
    "lease quota shard replica socket cursor snapshot token ledger broker gossip quorum index cache"
    " thread heap journal mount volume route probe beacon queue batch cookie digest tunnel gateway"
    " packet timer fence handle schema tablet segment bucket channel ticket session prefix"
    " checksum resolver listener scheduler compactor election manifest watermark backlog handshake"
    " partition allocator semaphore registry pipeline throttle envelope"
).split()
_STATES = (
    "stalls flaps drifts leaks saturates expires rewinds diverges starves overflows retries"
    " oscillates lags collides truncates rejects duplicates freezes backs-up resets vanishes"
    " doubles shrinks misfires trails unwinds detaches reorders spins bounces idles lingers"
    " mismatches skews floods blocks"
).split()
_PARTS = (
    "connection pool|certificate chain|disk array|name server|feature flag|rate limiter|config map"
    "|kernel driver|load balancer|message broker|node pool|secret store|search cluster|time source"
    "|job scheduler|image registry|session cache|storage class|service mesh|read replica"
    "|write-ahead log|access policy|build agent|billing hook|health check|network policy"
    "|garbage collector|thread pool|retry loop|cron entry|schema change|price feed|mail relay"
    "|object bucket|proxy buffer|license server|audit sink|backup job|token issuer|edge router"
).split("|")
_FAULTS = (
    "was sized for half the load|kept a stale entry|lost its quorum|had been rolled out twice"
    "|ran out of handles|pointed at the old region|was never restarted|dropped its lock"
    "|used an expired key|ignored its timeout|had a missing index|was throttled by its neighbour"
    "|filled its scratch space|answered before it was ready|followed a wrong default"
    "|lost half of its members|held a lock too long|was left in debug mode"
    "|rejected the new format|leaked one handle a call"
).split("|")
_REMEDIES = (
    "raise the limit of the {0}|roll back the {0}|restart the {0} one node at a time"
    "|pin the {0} to the last good version|renew the credentials of the {0}"
    "|move the {0} to the other zone|turn the {0} off and drain it|add two members to the {0}"
    "|shorten the timeout of the {0}|warm up the {0} before traffic|clean the scratch of the {0}"
    "|give the {0} its own queue"
).split("|")
_SERVICES = (
    "atlas birch cedar delta ember fjord grove haven inlet jetty kiosk larch mason nexus orbit"
    " piper quill ridge sable thorn umbra vigil wharf xenon yield zephyr amber basil coral dover"
    " elgin flint gable heron irons joist kestrel lumen maple north"
).split()
_ALERTS = "HighLatency ErrorRate QueueAge Saturation ProbeFailed SlowStart".split()
_NOISE = (
    "cpu at 71 percent|deploy finished an hour ago|pager of a neighbour rang too"
    "|one node was rescheduled|traffic is as usual|memory at 64 percent|a batch ran late"
    "|disk at 58 percent"
).split("|")
_LEVELS = ("WARN", "ERROR")


@dataclass(frozen=True, slots=True)
class Family:
    """One way to fail: its name, what it looks like, what it is and what ends it."""

    name: str
    signs: tuple[str, ...]
    cause: str
    fix: str


@dataclass(frozen=True, slots=True)
class Size:
    """How much happens: families and incidents of each, in the first era and in every later one."""

    first_families: int = 40
    first_each: int = 33
    later_families: int = 12
    later_each: int = 36


def families(seed: int, era: int, size: Size = Size()) -> list[Family]:
    """The faults that first happen in this era; no sign and no cause belongs to two of any era."""
    made = _families(random.Random(f"{seed}:families"), era, size)
    return [f for f in made if f.name.startswith(f"e{era}-")]


def incidents(seed: int, era: int, size: Size = Size()) -> Iterator[Incident]:
    """The resolved incidents of this era, the oldest first; the same for the same arguments."""
    rng = random.Random(f"{seed}:{era}:incidents")
    known = families(seed, era, size)
    each = size.later_each if era else size.first_each
    told = [f for f in known for _ in range(each)]
    told += _one_offs(rng, seed, era, round(len(told) * ONE_OFFS))
    rng.shuffle(told)
    step = _ERA / (len(told) + 1)
    for n, family in enumerate(told, 1):
        yield _incident(rng, family, f"{seed}-{era}-{n}", _BEGIN + _ERA * era + step * n)


def _families(rng: random.Random, era: int, size: Size) -> Iterator[Family]:
    pairs = [f"{thing} {state}" for thing in _THINGS for state in _STATES]
    causes = [(part, fault) for part in _PARTS for fault in _FAULTS]
    rng.shuffle(pairs)
    rng.shuffle(causes)
    for e in range(era + 1):
        for n in range(size.later_families if e else size.first_families):
            part, fault = causes.pop()
            signs = tuple(pairs.pop() for _ in range(SIGNS))
            remedy = rng.choice(_REMEDIES).format(part)
            yield Family(f"e{e}-{n:02}", signs, f"The {part} {fault}.", f"{remedy.capitalize()}.")


def _one_offs(rng: random.Random, seed: int, era: int, count: int) -> Iterator[Family]:
    """Faults with words of their own, each seen once."""
    for n in range(count):
        odd = ["".join(rng.choice("bcdfgklmnprstvz") + rng.choice("aeiou") for _ in range(3))
               for _ in range(2)]  # fmt: skip
        signs = tuple(f"{word} {rng.choice(_STATES)}" for word in odd)
        part, fault = rng.choice(_PARTS), rng.choice(_FAULTS)
        name = f"once-{seed}-{era}-{n:03}"
        fix = f"{rng.choice(_REMEDIES).format(part).capitalize()}."
        yield Family(name, signs, f"The {odd[0]} {part} {fault}.", fix)


def _incident(rng: random.Random, family: Family, number: str, at: datetime) -> Incident:
    service = rng.choice(_SERVICES)
    first, second = rng.sample(family.signs, SHOWN)
    detected = at + timedelta(minutes=2)
    resolved = at + timedelta(minutes=rng.randrange(20, 240))
    return Incident(
        source=SOURCE,
        source_id=f"IW-{number}",
        title=f"{rng.choice(_ALERTS)} {service}",
        services=[service],
        severity=rng.choice(("sev1", "sev2", "sev3")),
        started_at=at,
        detected_at=detected,
        resolved_at=resolved,
        symptoms=f"{first}; {rng.choice(_NOISE)}",
        evidence=[Evidence(text=f"{rng.choice(_LEVELS)} {second}", source=service, at=detected)],
        updates=[Update(at=resolved, author="on call", text="Service is back to normal.")],
        root_cause=family.cause,
        cause_family=family.name,
        resolution=family.fix,
    )
