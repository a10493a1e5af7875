"""What the node makes of senders that are odd, broken or hostile: a status or an abort, and it goes on serving."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.receiving_node import (
    CT_CONTEXT,
    CT_IMAGE_STORAGE,
    ECHO_CONTEXT,
    EXPLICIT_LITTLE,
    RawSender,
    ReceivingNode,
    a_associate_rq,
    c_echo_rq,
    c_store_rq,
    command,
    ct_slice,
    data_set_of,
    encoded,
    p_data,
    pdu,
    pdv,
    receiving_node,
    ui,
    us,
)

A_ABORT = 0x07


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceivingNode]:
    with receiving_node(tmp_path_factory.mktemp("spool"), idle_timeout_s=10) as running:
        yield running


def test_instance_is_stored_as_sent_and_handed_on_with_its_origin(node: ReceivingNode) -> None:
    ds = ct_slice("plain")
    with RawSender(node.port) as sender:
        sender.associate()
        assert sender.store(ds) == (0, "")
        sender.release()
    node.wait_until_idle()
    received = node.instances[-1]
    assert data_set_of(received.stored.path) == encoded(ds)
    assert received.header.sop_instance_uid == ds.SOPInstanceUID
    assert (received.calling_ae_title, received.called_ae_title) == ("RAW", "DICOMWORKER")
    assert received.peer_address == "127.0.0.1"
    ended = node.ended[-1]
    assert ended.association_id == received.association_id == node.started[-1].association_id
    assert (ended.released, ended.instances) == (True, 1)
    assert ended.opened_at <= received.received_at <= (ended.closed_at or ended.opened_at)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_fragments_may_end_anywhere_and_pdus_arrive_in_any_pieces(node: ReceivingNode, data: st.DataObject) -> None:
    ds = ct_slice("fragments")
    stream = b""
    for message, is_command in ((c_store_rq(str(ds.SOPInstanceUID)), True), (encoded(ds), False)):
        inner = data.draw(st.lists(st.integers(0, len(message)), max_size=6))
        cuts = [0, *sorted(inner), len(message)]
        pdvs = [
            pdv(1, message[start:end], is_command=is_command, is_last=end_number == len(cuts) - 1)
            for end_number, (start, end) in enumerate(pairwise(cuts), 1)
        ]
        in_one_pdu = data.draw(st.integers(1, len(pdvs)))
        for at in range(0, len(pdvs), in_one_pdu):
            stream += pdu(0x04, b"".join(pdvs[at : at + in_one_pdu]))
    pieces = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    with RawSender(node.port) as sender:
        sender.associate()
        for start, end in zip([0, *pieces], [*pieces, len(stream)], strict=True):
            sender.send(stream[start:end])
        assert sender.status() == (0, "")
    assert data_set_of(node.instances[-1].stored.path) == encoded(ds)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.binary(min_size=1, max_size=200), inside=st.booleans())
def test_garbage_ends_only_its_own_connection(node: ReceivingNode, garbage: bytes, inside: bool) -> None:
    with RawSender(node.port) as other, RawSender(node.port) as sender:
        other.associate()
        if inside:
            sender.associate()
        sender.send(garbage)
        sender.sock.shutdown(1)
        while sender.read_pdu()[0]:
            pass
        other.send(p_data(3, c_echo_rq(), is_command=True))
        assert other.status()[0] == 0
        other.release()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_association_request_ends_only_its_own_connection(node: ReceivingNode, data: st.DataObject) -> None:
    request = bytearray(a_associate_rq([CT_CONTEXT, ECHO_CONTEXT]))
    for _ in range(data.draw(st.integers(1, 8))):
        request[data.draw(st.integers(6, len(request) - 1))] = data.draw(st.integers(0, 255))
    with RawSender(node.port) as sender:
        sender.send(bytes(request))
        sender.sock.shutdown(1)
        assert sender.read_pdu()[0] in (0x02, 0x03, A_ABORT)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (struct.pack(">BxL", 0x01, 0xFFFFFFFF), 6),
        (struct.pack(">BxL", 0x04, 0xFFFFFFFF), 6),
        (struct.pack(">BxL", 0x07, 0xFFFFFFFF), 6),
        (pdu(0x42, b"what is this"), 1),
        (pdu(0x06, bytes(4)), 2),
        (pdu(0x04, struct.pack(">LBB", 0x7FFFFFFF, 1, 3) + b"x"), 6),
        (pdu(0x04, b"\0\0"), 6),
        (p_data(99, c_echo_rq(), is_command=True), 6),
        (p_data(1, b"a data set without a command", is_command=False), 5),
        (p_data(1, c_store_rq("1.2.3"), is_command=True) + p_data(3, b"for another context", is_command=False), 5),
        (p_data(1, c_store_rq("1.2.3"), is_command=True) + p_data(1, c_echo_rq(), is_command=True), 5),
        (p_data(1, b"no command set at all....", is_command=True), 6),
        (p_data(1, command({0x0100: us(1)}), is_command=True), 6),
        (p_data(1, b"\0" * 100_000, is_command=True), 6),
    ],
)
def test_broken_protocol_is_aborted_with_its_reason(node: ReceivingNode, sent: bytes, reason: int) -> None:
    with RawSender(node.port) as sender:
        sender.associate()
        sender.send(sent)
        pdu_type, body = sender.read_pdu()
        assert (pdu_type, body[2:4]) == (A_ABORT, bytes((2, reason)))
        assert sender.read_pdu() == (0, b"")
    node.wait_until_idle()
    assert not node.ended[-1].released


def test_data_before_an_association_is_aborted(node: ReceivingNode) -> None:
    with RawSender(node.port) as sender:
        sender.send(p_data(1, c_echo_rq(), is_command=True))
        assert sender.read_pdu()[0] == A_ABORT


@pytest.mark.parametrize("command_field", [0x0010, 0x0020, 0x0021, 0x0100, 0x0130, 0x0777])
def test_operation_that_is_not_served_is_answered_and_the_association_lives_on(
    node: ReceivingNode, command_field: int
) -> None:
    asked = command({0x0002: ui("1.2.3"), 0x0100: us(command_field), 0x0110: us(7), 0x0800: us(1)})
    with RawSender(node.port) as sender:
        sender.associate()
        sender.send(p_data(1, asked, is_command=True) + p_data(1, b"identifier", is_command=False))
        response = sender.response()
        assert response[0x0900] == us(0x0211)
        assert response[0x0100] == us(command_field | 0x8000)
        assert response[0x0120] == us(7)
        assert sender.store(ct_slice("after an unknown operation"))[0] == 0


@pytest.mark.parametrize(
    ("changes", "stated", "status", "comment"),
    [
        ({"StudyInstanceUID": None}, None, 0xC001, "StudyInstanceUID is missing"),
        ({"SeriesInstanceUID": ""}, None, 0xC001, "SeriesInstanceUID is missing"),
        ({"SOPInstanceUID": None}, "1.2.3", 0xC001, "SOPInstanceUID is missing"),
        ({"StudyInstanceUID": "../../etc/passwd"}, None, 0xC002, "StudyInstanceUID '../../etc/passwd' is not a UID"),
        ({"StudyInstanceUID": "1." * 40 + "1"}, None, 0xC002, "StudyInstanceUID"),
        ({}, "1.2.3", 0xA900, "SOPInstanceUID differs between command and data set"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, None, 0xA900, "SOPClassUID differs"),
        ({}, "../../../tmp/x", 0x0117, "Affected SOP Instance UID is not a UID"),
        ({}, "1.2." + "3" * 80, 0x0117, "Affected SOP Instance UID is not a UID"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI", "ignore:The value length")
def test_bad_instance_is_refused_with_the_reason_and_the_others_are_stored(
    node: ReceivingNode, changes: dict[str, Any], stated: str | None, status: int, comment: str
) -> None:
    before = len(node.instances)
    bad = ct_slice("bad", **changes)
    with RawSender(node.port) as sender:
        sender.associate()
        assert sender.store(ct_slice("good before"))[0] == 0
        sender.send(p_data(1, c_store_rq(stated or str(bad.SOPInstanceUID)), is_command=True))
        sender.send(p_data(1, encoded(bad), is_command=False))
        code, said = sender.status()
        assert (code, said[: len(comment)]) == (status, comment)
        assert sender.store(ct_slice("good after"))[0] == 0
        sender.release()
    assert len(node.instances) == before + 2
    assert not node.leftovers()


@pytest.mark.parametrize(
    ("data", "comment"),
    [
        (b"", "the data set is empty"),
        (b"this is no data set, whatever the command may say", ""),
        (encoded(ct_slice("cut"))[:60], "the data set ends inside"),
    ],
)
def test_data_set_that_is_none_is_not_understood(node: ReceivingNode, data: bytes, comment: str) -> None:
    before = len(node.objects())
    with RawSender(node.port) as sender:
        sender.associate()
        sender.send(p_data(1, c_store_rq("1.2.3"), is_command=True) + p_data(1, data, is_command=False))
        code, said = sender.status()
        assert 0xC000 <= code <= 0xCFFF
        assert said.startswith(comment)
        assert sender.store(ct_slice("after nonsense"))[0] == 0
    assert len(node.objects()) <= before + 1


def test_store_request_without_a_data_set_is_not_understood(node: ReceivingNode) -> None:
    asked = command(
        {0x0002: ui(CT_IMAGE_STORAGE), 0x0100: us(1), 0x0110: us(1), 0x0800: us(0x0101), 0x1000: ui("1.2.3")}
    )
    with RawSender(node.port) as sender:
        sender.associate()
        sender.send(p_data(1, asked, is_command=True))
        assert sender.status() == (0xC000, "the request has no data set")


def test_truncated_pixel_data_is_kept_for_the_job_to_complain_about(node: ReceivingNode) -> None:
    ds = ct_slice("truncated pixels")
    whole = encoded(ds)
    with RawSender(node.port) as sender:
        sender.associate()
        sender.send(p_data(1, c_store_rq(str(ds.SOPInstanceUID)), is_command=True))
        sender.send(p_data(1, whole[:-100], is_command=False))
        assert sender.status()[0] == 0
    assert data_set_of(node.instances[-1].stored.path) == whole[:-100]


@pytest.mark.parametrize("last", [b"", pdu(A_ABORT, bytes(4)), pdu(0x05, bytes(4))])
def test_connection_dropped_within_a_data_set_leaves_nothing(node: ReceivingNode, last: bytes) -> None:
    before = node.objects()
    ds = ct_slice("dropped", rows=64)
    with RawSender(node.port) as sender:
        sender.associate()
        sender.send(p_data(1, c_store_rq(str(ds.SOPInstanceUID)), is_command=True))
        sender.send(pdu(0x04, pdv(1, encoded(ds)[:5000], is_command=False, is_last=False)) + last)
    node.wait_until_idle()
    assert node.objects() == before
    assert not node.leftovers()


def test_duplicates_are_one_object(node: ReceivingNode) -> None:
    ds = ct_slice("duplicate")
    with RawSender(node.port) as first, RawSender(node.port) as second:
        first.associate()
        second.associate([(1, CT_IMAGE_STORAGE, [EXPLICIT_LITTLE])])
        assert first.store(ds)[0] == second.store(ds)[0] == first.store(ds, message_id=2)[0] == 0
    assert len({received.stored.path for received in node.instances[-3:]}) == 1


def test_sender_s_first_transfer_syntax_is_taken_and_other_services_are_not(node: ReceivingNode) -> None:
    jpeg_ls, private = "1.2.840.10008.1.2.4.80", "1.3.6.1.4.1.99999.1"
    study_root_find, commitment = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.20.1"
    hanging_protocol, retired_ultrasound = "1.2.840.10008.5.1.4.38.1", "1.2.840.10008.5.1.4.1.1.6"
    proposed = [CT_IMAGE_STORAGE, private, study_root_find, commitment, hanging_protocol, retired_ultrasound]
    contexts = [(number * 2 + 1, uid, [jpeg_ls, EXPLICIT_LITTLE]) for number, uid in enumerate(proposed)]
    with RawSender(node.port) as sender:
        sender.send(a_associate_rq(contexts))
        pdu_type, body = sender.read_pdu()
    assert pdu_type == 0x02
    results, at = {}, 68
    while at < len(body):
        item_type, length = struct.unpack_from(">BxH", body, at)
        if item_type == 0x21:
            results[body[at + 4]] = (body[at + 6], body[at + 12 : at + 4 + length].decode())
        at += 4 + length
    assert {number: result for number, (result, _) in results.items()} == {1: 0, 3: 0, 5: 3, 7: 3, 9: 3, 11: 0}
    assert results[1][1] == jpeg_ls


@pytest.mark.parametrize(
    ("request_pdu", "rejection"),
    [
        (a_associate_rq([CT_CONTEXT], called=b"SOMEONE"), (1, 1, 7)),
        (a_associate_rq([CT_CONTEXT], calling=b"STRANGER"), (1, 1, 3)),
        (a_associate_rq([CT_CONTEXT]).replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.2"), (1, 1, 2)),
        (a_associate_rq([CT_CONTEXT]).replace(b"\0\1\0\0DICOM", b"\0\2\0\0DICOM"), (1, 2, 2)),
    ],
)
def test_association_is_rejected_with_the_standard_s_reason(
    tmp_path: Path, request_pdu: bytes, rejection: tuple[int, int, int]
) -> None:
    with (
        receiving_node(tmp_path, calling_ae_titles=frozenset({"RAW"})) as node,
        RawSender(node.port) as sender,
    ):
        sender.send(request_pdu)
        pdu_type, body = sender.read_pdu()
        assert (pdu_type, tuple(body[1:4])) == (0x03, rejection)


def test_ae_titles_padded_with_zero_bytes_are_understood(node: ReceivingNode) -> None:
    with RawSender(node.port) as sender:
        sender.send(a_associate_rq([CT_CONTEXT], called=b"DICOMWORKER\0\0\0\0\0", calling=b"OLD\0"))
        assert sender.read_pdu()[0] == 0x02


def test_one_association_too_many_is_turned_away_for_the_moment(tmp_path: Path) -> None:
    with receiving_node(tmp_path, max_associations=2) as node:
        with RawSender(node.port) as first, RawSender(node.port) as second, RawSender(node.port) as third:
            first.associate()
            second.associate()
            third.send(a_associate_rq([CT_CONTEXT]))
            pdu_type, body = third.read_pdu()
            assert (pdu_type, tuple(body[1:4])) == (0x03, (2, 3, 2))
            first.release()
            second.release()
        node.wait_until_idle()
        with RawSender(node.port) as again:
            again.associate()


def test_silent_connections_are_ended(tmp_path: Path) -> None:
    with (
        receiving_node(tmp_path, artim_timeout_s=1, idle_timeout_s=1) as node,
        RawSender(node.port) as mute,
        RawSender(node.port) as dripping,
        RawSender(node.port) as idle,
    ):
        idle.associate()
        dripping.send(a_associate_rq([CT_CONTEXT])[:20])
        for sender in (mute, dripping, idle):
            pdu_type, _ = sender.read_pdu()
            assert pdu_type == A_ABORT


def test_stop_lets_an_association_finish_and_aborts_one_that_does_not(tmp_path: Path) -> None:
    with receiving_node(tmp_path) as node, RawSender(node.port) as sender:
        sender.associate()
        started = time.monotonic()
        assert node.scp.stop(grace_s=0.3) is False
        assert time.monotonic() - started < 20, "its own time-out is a minute"
        assert sender.read_pdu()[0] == A_ABORT
    assert [record.released for record in node.ended] == [False]

    with receiving_node(tmp_path) as node:
        with RawSender(node.port) as sender:
            sender.associate()
            assert sender.store(ct_slice("before the stop"))[0] == 0
            sender.release()
        assert node.scp.stop(grace_s=5) is True
        with pytest.raises(ConnectionError):
            RawSender(node.port)
