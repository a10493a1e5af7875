"""Real services for tests: Redis, PostgreSQL, Orthanc and dcmtk's storescp; tests/conftest.py has fixtures of them."""

from tests.services.pacs import Orthanc, StoreScp
from tests.services.process import (
    LOCALHOST,
    MissingProgramError,
    Service,
    ServiceError,
    ServiceT,
    answers_on,
    dcmtk,
    free_port,
    program,
    running,
    wait_until,
)
from tests.services.stores import PostgresServer, RedisServer

__all__ = [
    "LOCALHOST",
    "MissingProgramError",
    "Orthanc",
    "PostgresServer",
    "RedisServer",
    "Service",
    "ServiceError",
    "ServiceT",
    "StoreScp",
    "answers_on",
    "dcmtk",
    "free_port",
    "program",
    "running",
    "wait_until",
]
