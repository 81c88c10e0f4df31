"""How a turn of the learning loop may end, and the exit code that says so to whoever started it."""

from typing import Literal

Outcome = Literal[
    "promoted",
    "passed",
    "held",
    "inconclusive",
    "too little",
    "not due",
    "busy",
    "diverged",
    "overtaken",
]
EXIT: dict[Outcome, int] = {
    "promoted": 0,
    "passed": 10,  # and waits for a person
    "held": 11,
    "inconclusive": 12,
    "too little": 13,  # to learn from
    "not due": 14,
    "busy": 15,  # another one is on
    "diverged": 16,
    "overtaken": 17,  # it passed, and what a person did with the pointer meanwhile stands
}
WORDS: dict[str, str] = {
    "promoted": "the model it made was promoted",
    "passed": "the model it made passed and waits for a person",
    "held": "something is shown to be wrong with the model it made, so nothing changed",
    "inconclusive": "too little is proved of the model it made, so nothing changed",
    "too little": "there was too little to learn from; more resolved incidents are more",
    "diverged": "its training diverged; nothing changed",
    "overtaken": "the model it made passed, and what a person did with the pointer stands",
    "abandoned": "it could not be finished; the next `scarwise retrain` begins anew",
}
TERMINATED = 143  # by SIGTERM, as a shell says it; the next turn goes on with it
