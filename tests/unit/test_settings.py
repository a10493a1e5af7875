"""What a PACS administrator sees when the settings are right, and when they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.settings import SettingsError, load_settings


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "dicom-worker.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_need_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.dicom.port == 11112
    assert settings.resolved_database_url == f"sqlite:///{tmp_path}/data/dicom-worker.db"


def test_the_file_in_the_working_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _file(tmp_path, "dicom: {port: 10400}")
    monkeypatch.chdir(tmp_path)
    assert load_settings().dicom.port == 10400


def test_environment_overrides_the_file_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _file(tmp_path, "dicom: {port: 10400, ae_title: MINE}")
    monkeypatch.setenv("DICOM_WORKER_DICOM__PORT", "11113")
    settings = load_settings(file)
    assert (settings.dicom.port, settings.dicom.ae_title) == (11113, "MINE")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("dcom: {port: 1}", "dcom: unknown setting"),
        ("dicom: {prot: 1}", "dicom.prot: unknown setting"),
        ("dicom: {port: 123456}", "dicom.port"),
        ("dicom: {ae_title: A_TITLE_OF_TWENTY_CH}", "dicom.ae_title: 'A_TITLE_OF_TWENTY_CH' is not an AE title"),
        ("destinations: [{name: pacs, ae_title: PACS, host: h}]", "destinations.0.port"),
        ("routes: [{name: r, when: {modalty: XA}, adapter: x}]", "routes.0.when.modalty: unknown setting"),
        ("engine: {kind: magic}", "engine.kind"),
        (
            "destinations: [{name: p, ae_title: P, host: h, port: 1, tls: true}]",
            "p asks for TLS, and dicom.tls",
        ),
        (
            "destinations: [{name: p, ae_title: P, host: h, port: 1}, {name: p, ae_title: Q, host: h, port: 2}]",
            "the name p is given twice",
        ),
        ("just a line", "it must hold `name: value` lines"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_mistake_is_named_with_its_file(tmp_path: Path, text: str, named: str) -> None:
    file = _file(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert named in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_misspelt_environment_variable_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_WORKER_DICM__PORT", "1")
    with pytest.raises(SettingsError, match="DICOM_WORKER_DICM__PORT: unknown setting 'dicm'"):
        load_settings()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no such file"):
        load_settings(tmp_path / "absent.yaml")
