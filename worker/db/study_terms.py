"""What a study is found by: the words of its identity, each a row of an index that is read from the word's beginning.

Input: a study as it is first received; what somebody searches for. Output: rows of `study_terms`; the ids of the
studies that a search means, or the condition that a row's study is one. SQLite and PostgreSQL answer both from an
index, however many studies there are, and also where nothing is found.

Words are the accession number, the patient ID, and the parts of the patient's name and of the study description, in
small letters and without accents. A word is kept whole and from each place on where something new begins in it, zeros
before a number left out: of ``RAD-0012345`` are kept ``rad-0012345``, ``0012345`` and ``12345``. So whoever has only a
request's number finds it by that. A search means the studies whose accession number, patient ID or UID it is; where
there are none, those that have, for each of its words, one that begins with it. Nothing fails here but the database.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    ForeignKey,
    Index,
    String,
    and_,
    event,
    false,
    func,
    insert,
    literal,
    or_,
    select,
)
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapped, Mapper, Session, aliased, mapped_column

from worker.db.columns import Record
from worker.db.records import Study

LONGEST_TERM: Final = 64
#: Places in one word that it is found from: a pseudonym of many digits and letters in turns has no more.
PLACES: Final = 6
#: Words of a search that are looked for.
WORDS: Final = 8
#: A word with so many rows is a common one. Who has it is looked for among the newest studies first, so many of them.
COMMON: Final = 500
NEWEST: Final = 1000
#: Between two words: white space, the parts of a person name (PS3.5 6.2.1), and what people write between those.
_BETWEEN: Final = re.compile(r"[\s^=,;]+")
#: Where something new begins in a word: digits, or letters.
_RUN: Final = re.compile(r"\d+|[^\W\d_]+")
#: Sorts behind whatever follows a beginning.
_LAST: Final = "\U0010ffff"


class StudyTerm(Record):
    """One word that a study is found by."""

    __tablename__ = "study_terms"
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), primary_key=True)
    #: Compared by code points: in the order of a language, what begins with a word is no range of an index.
    term: Mapped[str] = mapped_column(
        String(LONGEST_TERM).with_variant(String(LONGEST_TERM, collation="C"), "postgresql"), primary_key=True
    )
    __table_args__ = (Index("ix_study_terms_term", "term", "study_id"), {"sqlite_with_rowid": False})


def terms_of(*texts: str) -> list[str]:
    """Return what a study with these texts is found by, in order."""
    return sorted({term for text in texts for word in _words(text) for term in _from_each_place(word)})


def found_by(session: Session, search: str, *, limit: int | None = None, offset: int = 0) -> Sequence[int]:
    """Return the ids of the studies that a search means, those first received last before the others."""
    page = select(Study.id).order_by(Study.id.desc()).limit(limit).offset(offset)
    whole = or_(*(column == search for column in (Study.accession_number, Study.patient_id, Study.study_instance_uid)))
    if search and session.scalar(select(Study.id).where(whole).limit(1)) is not None:
        return session.scalars(page.where(whole)).all()
    words = _words(search)[:WORDS]
    if not words:
        return []
    rare = _rare(session, words)
    if rare is None and limit is not None:
        newest = Study.id > select(func.max(Study.id) - NEWEST).scalar_subquery()
        found = session.scalars(page.where(newest, *(_has(Study.id, word) for word in words))).all()
        if len(found) == limit:
            return found
    first = rare or max(words, key=len)
    others = (_has(StudyTerm.study_id, word) for word in words if word != first)
    having = select(StudyTerm.study_id).where(_begins(StudyTerm, first), *others).distinct()
    return session.scalars(having.order_by(StudyTerm.study_id.desc()).limit(limit).offset(offset)).all()


def is_found(study_id: Any, search: str, session: Session | None = None) -> ColumnElement[bool]:
    """Return the condition that the study of a row has the words of a search; none has where there are no words.

    Args:
        study_id: Column of the rows that are asked about, of which there are few beside all studies.
        search: What somebody searches for.
        session: With one, a word that few studies have is looked up at once, and not for each row.
    """
    words = _words(search)[:WORDS]
    rare = None if session is None or not words else _rare(session, words)
    conditions = [_has(study_id, word) for word in words if word != rare]
    if rare is not None:
        conditions.append(study_id.in_(select(StudyTerm.study_id).where(_begins(StudyTerm, rare))))
    return and_(*conditions) if conditions else false()


def _rare(session: Session, words: Sequence[str]) -> str | None:
    """Return the word that the fewest studies have, or None where each of them is a common one."""
    # In order: else PostgreSQL may look for a common word in the table itself, from its beginning.
    begun = (select(StudyTerm.term).where(_begins(StudyTerm, word)).order_by(StudyTerm.term) for word in words)
    bounded = (rows.limit(COMMON).subquery() for rows in begun)
    counts = session.execute(select(*(select(func.count()).select_from(rows).scalar_subquery() for rows in bounded)))
    count, rarest = min(zip(counts.one(), words, strict=True))
    return rarest if count < COMMON else None


def _has(study_id: Any, word: str) -> ColumnElement[bool]:
    """Return the condition that a study has a word: a subquery that no planner joins with all words there are."""
    other = aliased(StudyTerm)
    one = select(literal(1)).where(other.study_id == study_id, _begins(other, word)).limit(1)
    return one.scalar_subquery().is_not(None)


def _begins(table: Any, word: str) -> ColumnElement[bool]:
    condition: ColumnElement[bool] = table.term.between(word, word + _LAST)
    return condition


def _words(text: str) -> list[str]:
    """Return the words of a text as they are compared; an asterisk at an end, as in DICOM queries, says nothing."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    words = (word.strip("*")[:LONGEST_TERM] for word in _BETWEEN.split(plain))
    return list(dict.fromkeys(word for word in words if word))


def _from_each_place(word: str) -> Sequence[str]:
    return list(dict.fromkeys(_places(word)))[:PLACES]


def _places(word: str) -> Iterator[str]:
    yield word
    for run in _RUN.finditer(word):
        yield word[run.start() :]
        number = run[0].lstrip("0")
        if number and run[0].isdecimal():
            yield word[run.end() - len(number) :]


@event.listens_for(Study, "after_insert")
def _keep(_mapper: Mapper[Study], connection: Connection, study: Study) -> None:
    """Write the words of a new study in its own transaction; what it was first received with is never changed."""
    texts = (study.accession_number, study.patient_id, study.patient_name, study.study_description)
    rows = [{"study_id": study.id, "term": term} for term in terms_of(*texts)]
    if rows:
        connection.execute(insert(StudyTerm), rows)
