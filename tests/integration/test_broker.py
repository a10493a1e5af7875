"""The doorbell on its two brokers: files in data_dir, and Redis. Rings arrive whole, once, and soon."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kombu import Connection

from tests import services
from worker.celery_app import (
    ASSEMBLE,
    DELIVER,
    FINISH,
    INFERENCE_QUEUE,
    QUEUE_OF_TASK,
    STEPS_QUEUE,
    Doorbell,
    make_celery,
)
from worker.settings import Settings, SettingsError


@pytest.fixture(params=["embedded", "redis"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    url = "embedded" if request.param == "embedded" else request.getfixturevalue("redis_url")
    return Settings(data_dir=tmp_path, broker_url=url)


@pytest.fixture
def doorbell(settings: Settings) -> Iterator[Doorbell]:
    bell = Doorbell(settings)
    yield bell
    bell.close()


@contextlib.contextmanager
def connected(settings: Settings) -> Iterator[Connection]:
    with make_celery(settings).connection_for_read() as connection:
        yield connection


class Listener:
    """A Celery worker in a process of its own, and what it heard."""

    def __init__(self, settings: Settings, queue: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.listener", queue], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin is not None
        self.process.stdin.write(settings.model_dump_json() + "\n")
        self.process.stdin.flush()
        self.heard: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.split(" ")[0] in QUEUE_OF_TASK:  # Celery says good-bye there too
                self.heard.append(line.strip())

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        finally:
            self.process.kill()
            self._reader.join()
            for pipe in (self.process.stdin, self.process.stdout):
                assert pipe is not None
                pipe.close()


@contextlib.contextmanager
def listening(settings: Settings, queue: str) -> Iterator[list[str]]:
    """Run a Celery worker; yield what it hears, one line a ring."""
    listener = Listener(settings, queue)
    try:
        yield listener.heard
    finally:
        listener.stop()


def test_a_worker_hears_every_ring_of_its_queue_and_no_other(settings: Settings, doorbell: Doorbell) -> None:
    doorbell.ring_infer("job-1")
    for number in range(20):
        doorbell.ring_assemble(number)
    services.wait_until(lambda: doorbell.rings_waiting(STEPS_QUEUE) == 20, 10, "rings kept for a worker to come")
    with listening(settings, STEPS_QUEUE) as heard:
        doorbell.ring_finish("job-1")
        doorbell.ring_deliver("pacs")
        services.wait_until(lambda: len(heard) == 22, 30, "all rings heard")
    assert sorted(heard) == sorted([*(f"{ASSEMBLE} {n}" for n in range(20)), f"{FINISH} job-1", f"{DELIVER} pacs"])
    assert doorbell.rings_waiting(STEPS_QUEUE) == 0
    assert doorbell.rings_waiting(INFERENCE_QUEUE) == 1
    leftovers = [path for path in (settings.data_dir / "broker").rglob("*") if path.is_file()]
    assert [path.name.split(".")[1] for path in leftovers] in ([INFERENCE_QUEUE], [])  # none where Redis keeps them


def test_messages_arrive_whole_and_once_whoever_sends_and_takes_at_once(settings: Settings) -> None:
    producers, consumers, each = 4, 3, 50
    start = threading.Barrier(producers + consumers)
    produced = threading.Event()

    def produce(number: int) -> None:
        start.wait()
        with connected(settings) as connection, connection.Producer() as producer:
            for serial in range(each):
                producer.publish({"from": number, "serial": serial, "filling": "x" * 5000}, routing_key="test")

    def consume() -> list[tuple[int, int]]:
        start.wait()
        taken = []
        with connected(settings) as connection:
            channel = connection.channel()
            while True:
                finished = produced.is_set()  # looked at before the queue: what was produced before is found
                message = channel.basic_get("test")
                if message is None:
                    if finished:
                        return taken
                    time.sleep(0.005)
                    continue
                assert len(message.payload["filling"]) == 5000
                taken.append((message.payload["from"], message.payload["serial"]))
                message.ack()

    with ThreadPoolExecutor(producers + consumers) as threads:
        takers = [threads.submit(consume) for _ in range(consumers)]
        for sender in [threads.submit(produce, number) for number in range(producers)]:
            sender.result(60)
        produced.set()
        taken = [pair for taker in takers for pair in taker.result(60)]
    assert sorted(taken) == [(number, serial) for number in range(producers) for serial in range(each)]


def test_a_broker_that_is_down_delays_nobody(tmp_path: Path) -> None:
    bell = Doorbell(Settings(data_dir=tmp_path, broker_url=f"redis://127.0.0.1:{services.free_port()}/0"))
    started = time.monotonic()
    for number in range(100):
        bell.ring_assemble(number)
    assert time.monotonic() - started < 5, "Celery's own retries take half a second for each"
    assert bell.rings_waiting(STEPS_QUEUE) is None
    bell.close()


def test_rings_are_heard_after_redis_was_down(
    redis_server: services.RedisServer, redis_url: str, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path, broker_url=redis_url)
    bell = Doorbell(settings)
    try:
        with listening(settings, STEPS_QUEUE) as heard:
            bell.ring_assemble(1)
            services.wait_until(lambda: heard, 30, "the worker listens")
            redis_server.stop()
            bell.ring_assemble(2)  # lost: the dispatcher rings again
            redis_server.start()

            def ring_until_heard() -> bool:
                if bell.rings_waiting(STEPS_QUEUE) == 0:
                    bell.ring_assemble(3)
                time.sleep(0.2)
                return f"{ASSEMBLE} 3" in heard

            services.wait_until(ring_until_heard, 40, "a ring heard after Redis came back")
    finally:
        bell.close()


def test_a_broker_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"broker_url 'amqp://mq'.*embedded.*redis://"):
        make_celery(Settings(data_dir=tmp_path, broker_url="amqp://mq"))
