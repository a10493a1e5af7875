"""How a call in a child process (`dicom_node.sandbox`) can fail to come to an end of its own.

Input: a reason and a remedy in words. Output: exceptions that cross from one process to another as themselves. What a
caller may try again is `SandboxKilled` and `SandboxNotStarted`: they say nothing about the work.
"""

from __future__ import annotations


class SandboxError(Exception):
    """A call did not come to an end of its own."""

    def __init__(self, reason: str, remedy: str, doing: str = "") -> None:
        super().__init__(f"{reason}{f' ({doing})' if doing else ''}; {remedy}")
        self.reason = reason
        self.remedy = remedy
        #: What the child was doing, as it last noted; empty where it noted nothing.
        self.doing = doing

    def __reduce__(self) -> tuple[type[SandboxError], tuple[str, str, str]]:
        """Let it cross from one process to another as itself."""
        return type(self), (self.reason, self.remedy, self.doing)


class SandboxCrashed(SandboxError):
    """The child process died."""


class SandboxKilled(SandboxError):
    """The child process was killed by somebody else, twice: that tells nothing about its work."""


class SandboxNotStarted(SandboxError):
    """No child process could be started: that tells nothing about the work it was to be given."""


class SandboxTimeout(SandboxError):
    """The call took longer than it may."""


class SandboxMemoryError(SandboxError):
    """The call needed more memory than it may have."""
