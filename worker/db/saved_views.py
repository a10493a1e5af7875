"""A person's filters of the work list: kept by an id, so that no address holds what was searched for.

Input: an account and `Filters`. Output: ids, filters, names. Filters without a name are those of a page that is open
somewhere: the ones not used for longest are forgotten. Another account's views do not exist.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from worker.db.columns import utc_now
from worker.db.review_records import WorkListView
from worker.db.work_list import Filters

#: Filters without a name that an account keeps, and views with one.
UNNAMED_KEPT = 20
NAMED_KEPT = 30
LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class SavedView:
    """Filters that a person gave a name."""

    id: str
    name: str


def keep(session: Session, account: str, filters: Filters, name: str = "") -> str:
    """Keep filters and return their id; the same ones again, or a new meaning of a name, keep theirs."""
    own = select(WorkListView).where(WorkListView.account == account, WorkListView.name == name)
    views = list(session.scalars(own.order_by(WorkListView.used_at.desc())))
    stored = filters.to_json()
    same = next((view for view in views if name or view.filters == stored), None)
    if same is None:
        same = WorkListView(account=account, name=name, filters=stored)
        session.add(same)
        session.flush()
        for old in views[(NAMED_KEPT if name else UNNAMED_KEPT) - 1 :]:
            session.delete(old)
    same.filters, same.used_at = stored, utc_now()
    return same.id


def filters_of(session: Session, account: str, view_id: str) -> tuple[Filters, str]:
    """Return the filters of a view and its name; those of everything where it is not there (any more)."""
    view = session.get(WorkListView, view_id) if view_id else None
    if view is None or view.account != account:
        return Filters(), ""
    return Filters.from_json(view.filters), view.name


def saved_views(session: Session, account: str) -> list[SavedView]:
    """Return the views with a name, in its order."""
    named = select(WorkListView.id, WorkListView.name).where(WorkListView.account == account, WorkListView.name != "")
    return [SavedView(*row) for row in session.execute(named.order_by(WorkListView.name))]


def forget(session: Session, account: str, view_id: str) -> None:
    """Forget a view of this account."""
    session.execute(delete(WorkListView).where(WorkListView.id == view_id, WorkListView.account == account))
