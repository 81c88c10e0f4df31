"""The arm that needs no model: what copying the nearest precedent would have answered.

What has to be beaten. An adapter that answers no better with retrieval than its nearest precedent
says is not worth its place. Nothing is asked: the answers stand in the suite's own prompts.
"""

import re

from eval.cases import Case
from eval.replay import Asking, families_of, header_of, predictions
from eval.suite import Suite
from eval.transcript import Transcript
from retrieval.prompt import UNSTATED, Choice, Reply, written

NEAREST = "nearest precedent"
NOVEL = written(Reply(status="novel"))

_PRECEDENT = re.compile(r"^(\d)\. .* \| cause: (.+?)(?: \| fix: (.+))?$")


def copied(suite: Suite) -> Transcript:
    """Each case of the arm with retrieval, answered by copying; the same for the same suite.

    A choice is the first precedent. Neither a fact nor a canary can be copied. A suite of meaning 1
    does not say what the search found novel; there, copying claims whatever is shown.
    """
    cases = [case for case in suite.of("retrieval") if case.form != "general"]
    asking = Asking(suite, lambda _: [copy_of(case) for case in cases], None, families_of(suite))
    header = header_of(
        suite, model=NEAREST, base_hash="none", adapter_sha256=None, decode={"copied": True}
    )
    return Transcript(header, tuple(predictions(asking, "retrieval", cases)))


def copy_of(case: Case) -> str:
    """Cause and fix of the first precedent that states a cause; novel where none does, or where
    the search itself said that nothing was near enough."""
    asked = case.asked["retrieval"]
    if case.form == "choice":
        return written(Choice(cites=[1]))
    if asked.novel:
        return NOVEL
    for line in asked.user.split("\n")[1:]:
        told = _PRECEDENT.match(line)
        if told and told[2] != UNSTATED:
            return written(Reply(status="known", cause=told[2], fix=told[3], cites=[int(told[1])]))
    return NOVEL
