"""Where a study stands is derived from its parts; the rules, one by one."""

from __future__ import annotations

import pytest

from worker.db.queries import study_state
from worker.states import DeliveryState as D
from worker.states import JobState as J
from worker.states import SeriesState as S
from worker.states import StudyState


@pytest.mark.parametrize(
    ("series", "jobs", "deliveries", "state"),
    [
        ([], [], [], StudyState.RECEIVING),
        ([S.RECEIVING], [], [], StudyState.RECEIVING),
        ([S.STABLE], [], [], StudyState.RECEIVING),
        ([S.ROUTED, S.RECEIVING], [J.RELEASED], [D.DELIVERED], StudyState.RECEIVING),
        ([S.UNROUTED], [], [], StudyState.UNROUTED),
        ([S.ROUTED, S.UNROUTED], [J.QUEUED], [], StudyState.PROCESSING),
        ([S.ROUTED], [J.HELD, J.RUNNING], [], StudyState.PROCESSING),
        ([S.ROUTED], [J.ACCEPTED], [], StudyState.PROCESSING),
        ([S.ROUTED], [J.HELD, J.RELEASED], [D.DELIVERED], StudyState.HELD),
        ([S.ROUTED], [J.HELD, J.RELEASED], [D.DEAD], StudyState.DELIVERY_FAILED),
        ([S.ROUTED], [J.RELEASED], [D.PENDING, D.DELIVERED], StudyState.DELIVERING),
        ([S.ROUTED], [J.RELEASED], [D.SENDING], StudyState.DELIVERING),
        ([S.ROUTED], [J.VERIFIED], [D.DELIVERED, D.CONFIRMED, D.CANCELLED], StudyState.DONE),
        ([S.ROUTED], [J.RELEASED], [D.CONFIRMED, D.UNCONFIRMED], StudyState.UNCONFIRMED),
        ([S.ROUTED], [J.RELEASED], [D.PENDING, D.UNCONFIRMED], StudyState.DELIVERING),
        ([S.ROUTED], [J.REJECTED], [], StudyState.DONE),
        ([S.ROUTED], [J.SUPERSEDED, J.RELEASED], [D.CANCELLED, D.DELIVERED], StudyState.DONE),
    ],
)
def test_study_state(series: list[S], jobs: list[J], deliveries: list[D], state: StudyState) -> None:
    assert study_state(series, jobs, deliveries) is state


@pytest.mark.parametrize("job", list(J))
@pytest.mark.parametrize("delivery", list(D))
def test_every_combination_has_a_state(job: J, delivery: D) -> None:
    assert study_state([S.ROUTED], [job], [delivery]) in StudyState
