"""Browsers in which a user has logged in before: whoever guesses elsewhere must not be able to keep them out.

Input: the cookie of a browser and a user. Output: whether this user has logged in there with a password, and the
cookie to keep after they did ("device cookies", OWASP Slow Down Online Guessing Attacks with Device Cookies). The
cookie holds a random number and, for each of its last users, a signature of both that only this server can make: its
key is the user's password hash, so that a new password makes every browser unknown. It names nobody, and lets nobody
in. A cookie that is none, or forged, is that of an unknown browser.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from typing import Final

from worker.db.people import Account

#: Browsers forget a cookie after 400 days anyway (RFC 6265bis 5.5).
KEPT_S: Final = 400 * 24 * 3600
#: People of one browser in a reading room; the one who was there longest ago makes place.
MOST_USERS: Final = 16
_COOKIE: Final = re.compile(r"[A-Za-z0-9_-]{22}(?:\.[A-Za-z0-9_-]{43}){1,16}")


def knows(cookie: str, account: Account | None) -> str:
    """Return the number of a browser in which this user has logged in before; empty where they have not."""
    number, *signatures = _parts(cookie)
    if account is None or not account.password_hash or not number:
        return ""
    wanted = _signature(number, account)
    return number if any(hmac.compare_digest(wanted, signature) for signature in signatures) else ""


def remember(cookie: str, account: Account) -> str:
    """Return the cookie of a browser in which this user has just logged in; empty for whom a provider vouches."""
    if not account.password_hash:
        return ""
    number, *signatures = _parts(cookie)
    number = number or secrets.token_urlsafe(16)
    own = _signature(number, account)
    others = [signature for signature in signatures if signature != own]
    return ".".join((number, own, *others[: MOST_USERS - 1]))


def _parts(cookie: str) -> list[str]:
    return cookie.split(".") if _COOKIE.fullmatch(cookie) else [""]


def _signature(number: str, account: Account) -> str:
    digest = hmac.new(account.password_hash.encode(), f"browser {number} {account.id}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
