"""Reports that are due on an association after a request (N-EVENT-REPORT on the requester's association, PS3.4 J.3.3).

Input: notices of responses. Output: N-EVENT-REPORT requests, once the requester is seen to wait; its answers go to the
notices. A notice that is not sent, or not answered, before the association ends is nobody's here: who made it keeps it.
"""

from __future__ import annotations

from collections import deque

from dicom_node import dimse
from dicom_node.dimse import CommandError, CommandField, CommandSet, Notice
from dicom_node.upper_layer import AbortReason, Connection, ProtocolError, p_data


class Notices:
    """The notices of one association."""

    def __init__(self) -> None:
        self._due: deque[tuple[int, Notice]] = deque()
        self._sent: dict[int, Notice] = {}
        self._message_id = 0

    def add(self, context_id: int, notice: Notice) -> None:
        """Take a notice, to be sent in this presentation context."""
        self._due.append((context_id, notice))

    def send_after(self, connection: Connection, quiet_s: float, max_pdu_bytes: int) -> None:
        """Send what is due if the peer stays silent for `quiet_s`: one that is about to release wants no report here.

        Raises `PeerGoneError` and `PeerSilentError`.
        """
        if not self._due or connection.has_more_within(quiet_s):
            return
        while self._due:
            context_id, notice = self._due.popleft()
            self._message_id = self._message_id % 0xFFFF + 1
            self._sent[self._message_id] = notice
            command = dimse.request_command(
                CommandField.N_EVENT_REPORT_RQ, self._message_id, notice.elements, has_data_set=True
            )
            for part, is_command in ((command, True), (notice.data_set, False)):
                connection.send(p_data(context_id, part, is_command=is_command, max_pdu_bytes=max_pdu_bytes))

    def take_answer(self, command: CommandSet) -> None:
        """Take a response of the peer; what asks something, and what answers no notice, is passed over.

        Raises:
            ProtocolError: The response does not say what it answers, or how.
        """
        if command.is_request or command.command_field == CommandField.C_CANCEL_RQ:
            return
        try:
            notice = self._sent.pop(command.number(dimse.MESSAGE_ID_BEING_RESPONDED_TO), None)
            if notice is not None:
                notice.answered(command.number(dimse.STATUS))
        except CommandError as error:
            raise ProtocolError(str(error), AbortReason.INVALID_PARAMETER_VALUE) from error
