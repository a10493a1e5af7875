"""Languages a caption can be asked for in: what the prompt says, and whether an answer is in the language asked for.

Input: a language (BCP 47) and a caption. Output: the sentence that goes behind the prompt; the language an answer is
plainly in. It cannot fail: a text that is too short or mixed is in no language plainly, and that is no objection.
"""

from __future__ import annotations

import re
from typing import Final

#: Language (BCP 47) -> its English name.
LANGUAGES: Final[dict[str, str]] = {"en": "English", "de": "German", "fr": "French", "es": "Spanish"}

#: Frequent words that only one of the four languages has; "no" (English, Spanish) and "des" (German, French) tell
#: nothing.
_TYPICAL: Final[dict[str, frozenset[str]]] = {
    "en": frozenset({"the", "of", "and", "is", "are", "with", "without", "shows", "there", "this", "or", "within"}),
    "de": frozenset({"der", "die", "das", "und", "ist", "mit", "ohne", "kein", "keine", "zeigt", "im", "ein", "eine"}),
    "fr": frozenset({"le", "les", "et", "est", "avec", "sans", "pas", "une", "du", "dans", "aucun", "aucune", "ou"}),
    "es": frozenset({"el", "los", "las", "y", "con", "sin", "del", "una", "muestra", "ni", "se", "hay", "radiografía"}),
}
_FEWEST_WORDS: Final = 3


def language_sentence(language: str) -> str:
    """Return what the prompt says about the language; nothing for English, the prompt's own."""
    return "" if language == "en" else f"Write it in {LANGUAGES[language]}."


def plain_language(text: str) -> str | None:
    """Return the language a text is plainly in: 3 or more of its frequent words, and more than twice any other's."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    counts = {language: sum(word in typical for word in words) for language, typical in _TYPICAL.items()}
    language, runner_up = sorted(counts, key=lambda name: -counts[name])[:2]
    most, next_most = counts[language], counts[runner_up]
    return language if most >= _FEWEST_WORDS and most > 2 * next_most else None
