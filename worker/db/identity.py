"""Who is who: whether an entry of the ledger is a person's own, and whether they may be the second reader of a case.

One rule each, in Python for a decision and in SQL for the lists that offer it. An entry has an account (`User.id`,
empty from the command line), a name (PN, PS3.5 6.2.1), and the name's key, which is what names are compared by. Pure;
nothing fails here.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, false, or_

#: Characters of a key: compatibility forms can be many times as long as what they stand for.
LONGEST_KEY = 256


def name_key(name: str) -> str:
    """Return a name as it is compared: whatever its case, its spaces, its forms of letters and empty components."""
    parts = unicodedata.normalize("NFKC", name).casefold().split("^")
    return "^".join(" ".join(part.split()) for part in parts).strip("^")[:LONGEST_KEY]


@dataclass(frozen=True, slots=True)
class Identity:
    """A person, as entries of the ledger name them."""

    #: `User.id` as text; empty from the command line, and where log-in is off.
    account: str
    name: str

    def is_same(self, account: str, name: str) -> bool:
        """Tell whether an entry is this person's: by account, or by name where one of them has none.

        Two people of one name with an account each are two; without accounts nobody could tell, and they count as one.
        """
        if self.account and account:
            return self.account == account
        return name_key(self.name) == name_key(name)

    def where_same(self, entry: Any) -> ColumnElement[bool]:
        """Return `is_same` as a condition on a table of entries."""
        by_name: ColumnElement[bool] = entry.name_key == name_key(self.name)
        if not self.account:
            return by_name
        return or_(entry.account == self.account, and_(entry.account == "", by_name))

    def is_taken_for(self, account: str, name: str) -> bool:
        """Tell whether this person may not be the second reader where the entry is the first one's.

        Stricter than `is_same`: one person may have two accounts, such as a password's and an OpenID provider's, so
        that a name alone makes one.
        """
        return self.is_same(account, name) or name_key(self.name) == name_key(name)

    def where_taken_for(self, entry: Any) -> ColumnElement[bool]:
        """Return `is_taken_for` as a condition on a table of entries."""
        by_account = entry.account == self.account if self.account else false()
        return or_(by_account, entry.name_key == name_key(self.name))
