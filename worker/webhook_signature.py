"""The signature that a webhook is sent under, as the Standard Webhooks specification 1.0.0 has it.

Input: the body, its identifier and the shared secret, or two while a receiver changes it. Output: header fields.
The receiver computes HMAC-SHA256 over `id.timestamp.body` with the same secret, which tells it who sent this and that
nothing was changed; it refuses a time stamp that is old and an identifier that it has seen, which is why a repeat keeps
its identifier. On failure `SecretError`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Final

_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - how a secret begins, not one
#: The specification asks for 24 to 64 bytes.
_SECRET_BYTES: Final = range(24, 65)
_REMEDY: Final = "write whsec_ and the base64 of 24 to 64 random bytes, such as `openssl rand -base64 32` makes"


class SecretError(ValueError):
    """A webhook's secret cannot be used; the message says why, and not the secret."""


def signed_headers(message_id: str, body: bytes, secrets: Sequence[str], now: datetime) -> dict[str, str]:
    """Return the header fields that a body is sent with: one signature for each secret. Raises `SecretError`."""
    timestamp = str(int(now.timestamp()))
    content = f"{message_id}.{timestamp}.".encode() + body
    signatures = [hmac.new(key_of(secret), content, hashlib.sha256).digest() for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{base64.b64encode(one).decode('ascii')}" for one in signatures),
    }


def key_of(secret: str) -> bytes:
    """Return the key of a secret written `whsec_` and base64. Raises `SecretError`."""
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise SecretError(f"the secret is not base64; {_REMEDY}") from None
    if len(key) not in _SECRET_BYTES:
        raise SecretError(f"the secret has {len(key)} bytes; {_REMEDY}")
    return key
