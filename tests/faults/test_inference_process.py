"""The inference process when its model cannot be loaded: it says so and is started again, and nothing else stops."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from models.adapter import adapters
from models.standin.lessons import DSA
from models.weights import STANDIN_FOLDER
from tests.daemon import Daemon, running


@pytest.mark.timeout(400)
def test_a_model_that_cannot_be_loaded_is_reported_and_tried_again(tmp_path: Path) -> None:
    wanted = adapters()[DSA]
    base, lora = tmp_path / "base", tmp_path / "lora"
    shutil.copytree(STANDIN_FOLDER / "base", base)
    shutil.copytree(STANDIN_FOLDER / DSA, lora)
    about = json.loads((lora / "adapter_config.json").read_text())
    (lora / "adapter_config.json").write_text(json.dumps({**about, "base_model_name_or_path": wanted.base.hub_id}))
    good = (base / "config.json").read_text()
    # All files are there and whole, so that nothing is wrong before the model is built.
    (base / "config.json").write_text(good.replace('"hidden_size": 64', '"hidden_size": 68'))
    engine = {
        "kind": "transformers",
        "enabled": [DSA],
        "device": "cpu",
        "bases": {wanted.base.hub_id: str(base)},
        "adapters": {DSA: str(lora)},
    }
    daemon = Daemon(tmp_path / "daemon", engine=engine, roles=["worker"])
    with running(daemon):
        daemon.wait_for(lambda: '"exit_code": 1' in daemon.log.read_text(), 150, "the inference process ends")
        said = [json.loads(line) for line in daemon.log.read_text().splitlines() if line.startswith("{")]
        (reason, *_) = [line["error"] for line in said if line["event"].startswith("the model cannot be loaded")]
        assert str(base) in reason
        assert any(line.get("process") == "inference" and line.get("exit_code") == 1 for line in said)
        assert "Traceback" not in daemon.log.read_text()
        assert "steps" in daemon.pids(), "the others go on"
        # Once it is put right, the process that comes next has its model.
        (base / "config.json").write_text(good)
        daemon.wait_for(lambda: "the model is resident" in daemon.log.read_text(), 150, "the model")
        assert daemon.stop() == 0
