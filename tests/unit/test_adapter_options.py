"""What a site changes about an adapter, and the message it gets where that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.adapter import AdapterDefinition
from models.question import Question
from worker.engine_setup import engine_config
from worker.settings import Settings, SettingsError
from worker.site import enabled_adapters


def changed(name: str, **options: object) -> AdapterDefinition:
    return enabled_adapters(Settings(adapters={name: options}))[name]


def test_a_sites_own_prompt_is_asked_word_for_word(tmp_path: Path) -> None:
    words = tmp_path / "prompt.txt"
    words.write_text("Is the vessel open?\nSay patent or blocked.\n")
    assert changed("dsa_patency", prompt=words).prompt.user == "Is the vessel open?\nSay patent or blocked."
    caption = changed("clinical_caption", prompt=words).asked(Question("caption"))
    assert caption.prompt.user.startswith("Is the vessel open?")


def test_thresholds_change_one_by_one() -> None:
    policy = changed("dsa_patency", release_at={"patent": 0.99}).policy
    assert (policy.threshold("patent"), policy.threshold("blocked")) == (0.99, 0.80)


def test_the_language_of_a_site_is_that_of_every_question_that_names_none() -> None:
    caption = changed("clinical_caption", language="de")
    (plain,) = caption.default_questions(None)  # type: ignore[misc, arg-type]
    assert caption.in_own_language(plain).language == "de"
    assert caption.in_own_language(Question("caption", language="fr")).language == "fr"


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("nonesuch", {}, "adapters: no adapter nonesuch"),
        ("dsa_patency", {"prompt": "/nowhere/prompt.txt"}, "adapters.dsa_patency: .*nowhere"),
        ("dsa_patency", {"release_at": {"patent": 7}}, "adapters.dsa_patency: .*release thresholds are probabilities"),
        ("dsa_patency", {"release_at": {"open": 0.9}}, "adapters.dsa_patency.*open.*patent"),
        ("dsa_patency", {"language": "de"}, "adapters.dsa_patency: .*language"),
        ("flare", {"prompt": __file__}, "adapters.flare: .*several kinds of question"),
    ],
)
def test_what_cannot_be_is_refused_with_the_setting(name: str, options: dict[str, object], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        changed(name, **options)


def test_an_empty_prompt_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(SettingsError, match="prompt is empty"):
        changed("dsa_patency", prompt=tmp_path / "empty.txt")


def test_each_base_gets_the_attention_that_its_adapters_authors_ran_it_with() -> None:
    bases = engine_config(Settings()).bases
    assert {hub_id: base.attention for hub_id, base in bases.items()} == {
        "google/medgemma-1.5-4b-it": None,
        "google/medgemma-4b-it": "eager",
    }
