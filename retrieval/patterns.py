"""Write regular expressions as lists of words, so that a table of rules can be read."""

import re

# Word boundaries, with the hyphen taken as a letter: "db-3" does not hold "db".
B = r"(?<![\w-])"
E = r"(?![\w-])"


def any_of(words: str) -> str:
    """A pattern for any of these words, the longest first; "_" stands for a blank."""
    ordered = sorted(set(words.split()), key=lambda w: (-len(w), w))
    return "(?:" + "|".join(re.escape(w.replace("_", " ")) for w in ordered) + ")"


def things(words: str) -> str:
    """A pattern for these nouns, one or several of each."""
    return any_of(words) + "(?:s|es)?"


def verbs(stems: str) -> str:
    """A pattern for these verbs in any form: "stop" also reads stops, stopped and stopping.

    Given without a last "e" or "y": "delet", "appl". What follows a "_" is not inflected:
    "roll_back" reads "rolled back".
    """
    form = r"(?:[a-z]?(?:ed|ing)|es|e|s|d|y|ies|ied)?"
    ordered = sorted(set(stems.split()), key=lambda w: (-len(w), w))
    split = (stem.replace("_", " ").partition(" ") for stem in ordered)
    return "(?:" + "|".join(first + form + blank + rest for first, blank, rest in split) + ")"
