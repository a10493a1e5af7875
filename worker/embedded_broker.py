"""kombu's filesystem transport, with messages that appear whole.

kombu creates the message file first and fills it afterwards; a consumer that looks in between takes an empty message
and dies of it. Here a message is written aside and renamed into the queue, and taken by a rename within the same tree.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

import kombu.transport
from kombu.transport import filesystem
from kombu.utils.encoding import bytes_to_str, str_to_bytes
from kombu.utils.json import dumps, loads

#: URL scheme under which Celery finds this transport.
SCHEME = "embedded"


class Channel(filesystem.Channel):  # type: ignore[misc]
    """A filesystem channel whose put and get are atomic."""

    def _put(self, queue: str, payload: dict[str, Any], **_kwargs: Any) -> None:
        name = f"{time.monotonic_ns():020d}_{uuid.uuid4().hex}.{queue}.msg"
        aside = Path(self.processed_folder) / f"{name}.new"
        aside.write_bytes(str_to_bytes(dumps(payload)))
        aside.rename(Path(self.data_folder_out) / name)

    def _get(self, queue: str) -> Any:
        for name in sorted(os.listdir(self.data_folder_in)):  # noqa: PTH208 - names only, no stat per message
            if name.partition(".")[2] != f"{queue}.msg":
                continue
            taken = Path(self.processed_folder) / name
            try:
                (Path(self.data_folder_in) / name).rename(taken)
            except FileNotFoundError:
                continue  # another consumer was quicker
            payload = taken.read_bytes()
            taken.unlink()
            return loads(bytes_to_str(payload))
        raise Empty

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """Keep no exchange tables: tasks go to a queue by its name, and the tables' files can be read half-written."""


class Transport(filesystem.Transport):  # type: ignore[misc]
    """The transport that `embedded://` stands for."""

    Channel = Channel


kombu.transport.TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"
