"""Which adapter takes a series, and the reason an administrator reads."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.headers import InstanceHeader
from models.adapter import adapters
from worker.engine_settings import EngineSettings
from worker.near_misses import decisive_part
from worker.routing import RouteDecision, SeriesSummary, route
from worker.settings import RouteRule, Settings, SettingsError
from worker.site import check_rules, enabled_adapters
from worker.states import Priority

XA_IMAGE = "1.2.840.10008.5.1.4.1.1.12.1"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

XA_RUN = InstanceHeader(
    sop_class_uid=XA_IMAGE,
    sop_instance_uid="1.2.3.1",
    study_instance_uid="1.2.1",
    series_instance_uid="1.2.2",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    modality="XA",
    patient_age_years=61,
    number_of_frames=20,
    has_pixel_data=True,
)
CT_SLICE = replace(
    XA_RUN,
    sop_class_uid=CT_IMAGE,
    modality="CT",
    number_of_frames=None,
    body_part_examined="ABDOMEN",
    image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
)


def ct_series(**changes: object) -> tuple[InstanceHeader, ...]:
    return tuple(
        replace(CT_SLICE, sop_instance_uid=f"1.2.3.{n}", instance_number=n, **changes)  # type: ignore[arg-type]
        for n in range(1, 31)
    )


def decide(headers: tuple[InstanceHeader, ...], rules: list[RouteRule] | None = None, **who: str) -> RouteDecision:
    return route(SeriesSummary(headers, **who), rules or [], adapters())  # type: ignore[arg-type]


def rule(adapter: str | None, priority: str = "routine", **when: str) -> RouteRule:
    return RouteRule.model_validate({"name": "site", "when": when, "adapter": adapter, "priority": priority})


def test_an_xa_run_goes_to_the_dsa_adapter() -> None:
    decision = decide((XA_RUN,))
    assert (decision.adapters, decision.doubts) == (("dsa_patency",), ())
    assert "modality XA" in decision.reason


def test_an_abdominal_ct_goes_to_the_trauma_adapter_without_its_localizer() -> None:
    localizer = replace(CT_SLICE, sop_instance_uid="1.2.3.99", image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    decision = decide((localizer, *ct_series()))
    assert decision.adapters == ("abdominal_trauma",)
    (assignment,) = decision.assignments
    assert localizer.sop_instance_uid not in assignment.accepted_uids
    assert len(assignment.accepted_uids) == 30
    assert "1 left out: image type LOCALIZER is not accepted" in decision.reason


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ((replace(XA_RUN, modality="RTDOSE", sop_class_uid="1.2.840.10008.5.1.4.1.1.481.2"),), "SOP class"),
        ((replace(CT_SLICE, sop_class_uid=SECONDARY_CAPTURE),), "SOP class"),
        (ct_series(body_part_examined="HEAD"), "body region head"),
        (ct_series(body_part_examined=""), "body region unknown"),
        (ct_series(image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")), "LOCALIZER"),
        (ct_series()[:3], "the adapter needs"),
        ((replace(XA_RUN, patient_age_years=9.0),), "patient aged 9"),
        ((replace(XA_RUN, is_own_result=True),), "own results are never processed again"),
    ],
)
def test_what_no_adapter_takes_is_left_alone_with_the_reason(headers: tuple[InstanceHeader, ...], why: str) -> None:
    decision = decide(headers)
    assert decision.adapters == ()
    assert why in decision.reason


@pytest.mark.parametrize(
    ("headers", "decisive"),
    [
        (
            (replace(XA_RUN, patient_age_years=9.0),),
            "no adapter takes it: dsa_patency: patient aged 9, the adapter is for ages from 18",
        ),
        (
            ct_series(image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")),
            "no adapter takes it: abdominal_trauma: image type LOCALIZER is not accepted",
        ),
        (
            (replace(XA_RUN, sop_class_uid="1.2.840.10008.5.1.4.1.1.481.2", modality="RTDOSE"),),
            "no adapter takes this kind of image: SOP class RT Dose Storage is not accepted",
        ),
    ],
)
def test_the_reason_begins_with_what_decided(headers: tuple[InstanceHeader, ...], decisive: str) -> None:
    reason = decide(headers, [rule(None, modality="US")]).reason
    assert decisive_part(reason) == decisive
    assert "site rule: site: modality" in reason, "the ledger keeps what every rule said"
    assert decisive_part(decisive) == decisive


def test_what_no_specialised_adapter_takes_goes_to_every_general_one() -> None:
    decision = decide(
        (replace(XA_RUN, modality="MR", sop_class_uid="1.2.840.10008.5.1.4.1.1.4", number_of_frames=None),)
    )
    assert decision.adapters == ("clinical_caption", "flare")
    assert [assignment.question.task for assignment in decision.assignments if assignment.question] == [
        "caption",
        "report",
    ]


def test_a_general_adapter_leaves_to_the_specialised_one_what_that_takes_and_waits_to_be_asked_for_the_rest() -> None:
    why = {step.rule: step.reasons[0] for step in decide(ct_series()).trace}
    assert why["adapter: flare"] == "modality CT is taken where a site rule asks for it"
    asked = decide(ct_series(), [rule("flare", modality="CT")])
    assert (asked.adapters, asked.doubts) == (("flare",), ())


def test_an_unknown_age_is_routed_but_doubted() -> None:
    decision = decide((replace(XA_RUN, patient_age_years=None),))
    assert decision.adapters == ("dsa_patency",)
    assert any("age is unknown" in doubt for doubt in decision.doubts)


def test_the_site_rule_comes_first_and_its_conditions_are_explained() -> None:
    decision = decide((XA_RUN,), [rule(None, calling_ae_title="CATHLAB*")], calling_ae_title="CATHLAB2")
    assert decision.adapters == ()
    assert decision.rule == "site rule: site"
    assert "'CATHLAB2' matches 'CATHLAB*'" in decision.reason


def test_a_site_rule_that_does_not_match_is_in_the_trace() -> None:
    decision = decide((XA_RUN,), [rule(None, modality="CT")])
    assert decision.adapters == ("dsa_patency",)
    assert not decision.trace[0].matched
    assert "modality 'XA' does not match 'CT'" in decision.trace[0].reasons


def test_a_site_rule_beyond_the_adapters_acceptance_is_followed_but_held() -> None:
    head = ct_series(body_part_examined="HEAD")
    decision = decide(head, [rule("abdominal_trauma", body_part_examined="HEAD")])
    assert decision.adapters == ("abdominal_trauma",)
    assert any("outside intended use: body region head" in doubt for doubt in decision.doubts)


def test_a_rule_for_an_adapter_that_is_not_there_routes_nothing() -> None:
    decision = decide((XA_RUN,), [rule("nonesuch")])
    assert decision.adapters == ()
    assert "'nonesuch'" in decision.reason


def test_such_a_rule_is_refused_at_start() -> None:
    with pytest.raises(SettingsError, match="rule 'site' names adapter 'nonesuch'"):
        check_rules([rule("nonesuch")], adapters())
    check_rules([rule("dsa_patency"), rule(None)], adapters())


def test_stat_by_request_or_by_rule() -> None:
    assert decide((replace(XA_RUN, requested_procedure_priority="STAT"),)).priority is Priority.STAT
    assert decide((XA_RUN,), [rule("dsa_patency", priority="stat")]).priority is Priority.STAT
    assert decide((XA_RUN,)).priority is Priority.ROUTINE


def test_a_conflicting_instance_raises_a_doubt() -> None:
    summary = SeriesSummary((XA_RUN,), conflicting_uids=(XA_RUN.sop_instance_uid,))
    assert any("other content" in doubt for doubt in route(summary, [], adapters()).doubts)


def enabling(*names: str) -> Settings:
    return Settings(engine=EngineSettings(enabled=list(names)))


def test_enabling_an_unknown_adapter_names_it() -> None:
    with pytest.raises(SettingsError, match="no adapter nonesuch"):
        enabled_adapters(enabling("nonesuch"))
    assert list(enabled_adapters(enabling("dsa_patency"))) == ["dsa_patency"]


text = st.text(max_size=12)


@given(
    st.builds(
        replace,
        st.just(CT_SLICE),
        sop_class_uid=st.sampled_from([XA_IMAGE, CT_IMAGE, SECONDARY_CAPTURE, ""]),
        modality=st.sampled_from(["XA", "CT", "MR", "", "SR"]),
        body_part_examined=text,
        study_description=text,
        series_description=text,
        protocol_name=text,
        image_type=st.tuples(text, text, text),
        patient_age_years=st.none() | st.floats(0, 120),
        is_own_result=st.booleans(),
    )
)
def test_any_header_gets_a_decision_with_a_reason_and_own_results_never_an_adapter(header: InstanceHeader) -> None:
    decision = decide((header,))
    assert decision.reason
    assert decision.trace
    if header.is_own_result:
        assert decision.adapters == ()
    if header.patient_age_years is not None and header.patient_age_years < 18:
        assert decision.adapters == ()
