"""Fragments -> a message: first its command set, then the data that belongs to it (PS3.7 6.3, PS3.8 E).

Input: the fragments of one association, in the order they came. Output: the command set when it is whole. On failure
`ProtocolError`: a fragment that does not belong where it came.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from dicom_node import dimse
from dicom_node.dimse import CommandError, CommandSet
from dicom_node.upper_layer import AbortReason, Fragment, ProtocolError


@dataclass(slots=True)
class IncomingMessage:
    """The message being received: its command set in pieces, then its operation."""

    context_id: int
    request: CommandSet | None = None
    operation: dimse.Operation | None = None
    _command: bytearray = field(default_factory=bytearray)

    def check(self, fragment: Fragment, contexts: Collection[int]) -> None:
        """Raise `ProtocolError` unless the fragment can be this message's next.

        Args:
            fragment: What came.
            contexts: Identifiers of the presentation contexts that were accepted.
        """
        if fragment.context_id not in contexts:
            what = f"a fragment for presentation context {fragment.context_id}, which was not accepted"
            raise ProtocolError(what, AbortReason.INVALID_PARAMETER_VALUE)
        if self.context_id != fragment.context_id:
            what = f"a fragment for presentation context {fragment.context_id} within a message of {self.context_id}"
            raise ProtocolError(what, AbortReason.UNEXPECTED_PARAMETER)
        if fragment.is_command != (self.request is None):
            what = "a command fragment within a data set" if fragment.is_command else "a data set without a command"
            raise ProtocolError(what, AbortReason.UNEXPECTED_PARAMETER)

    def take_command(self, fragment: Fragment) -> CommandSet | None:
        """Add a fragment of the command set; return the command set with its last one. Raises `ProtocolError`."""
        if len(self._command) + len(fragment.data) > dimse.COMMAND_LIMIT_BYTES:
            what = f"a command set of more than {dimse.COMMAND_LIMIT_BYTES} bytes"
            raise ProtocolError(what, AbortReason.INVALID_PARAMETER_VALUE)
        self._command += fragment.data
        if not fragment.is_last:
            return None
        try:
            self.request = CommandSet.decode(self._command)
            if self.request.is_request:
                self.request.number(dimse.MESSAGE_ID)
        except CommandError as error:
            raise ProtocolError(str(error), AbortReason.INVALID_PARAMETER_VALUE) from error
        return self.request
