"""The adapters as a site wants them, and its rules checked against them.

Input: settings. Output: the enabled adapters with the site's own prompts, languages and thresholds. On failure
`SettingsError`, which names the setting, when the daemon starts and not when the first study arrives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from models.adapter import AdapterDefinition, AdapterError, adapters, validate_adapter, with_prompt
from models.confidence import ReviewPolicy
from models.question import Question
from worker.engine_settings import AdapterOptions
from worker.settings import Destination, RouteRule, Settings, SettingsError


def enabled_adapters(settings: Settings) -> dict[str, AdapterDefinition]:
    """Return the adapters a site has enabled (all of them where none is named), as the site has changed them.

    Raises:
        SettingsError: `engine.enabled` or `adapters` names an adapter that does not exist, or a change is impossible.
    """
    known, names = adapters(), settings.engine.enabled
    for setting, named in (("engine.enabled", names), ("adapters", settings.adapters)):
        if unknown := sorted(set(named) - set(known)):
            raise SettingsError(f"{setting}: no adapter {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    chosen = (name for name in sorted(known) if not names or name in names)
    return {name: _as_the_site_wants(known[name], settings.adapters.get(name)) for name in chosen}


def _as_the_site_wants(definition: AdapterDefinition, options: AdapterOptions | None) -> AdapterDefinition:
    """Apply what a site changes about an adapter. Raises `SettingsError`, which names the setting."""
    if options is None:
        return definition
    setting = f"adapters.{definition.name}"
    changed = definition
    try:
        if options.prompt is not None or options.system_prompt is not None:
            user = options.prompt.read_text(encoding="utf-8") if options.prompt else definition.prompt.user
            system = options.system_prompt.read_text(encoding="utf-8") if options.system_prompt else None
            changed = with_prompt(changed, user, system)
        changed = replace(
            changed,
            policy=_thresholds(changed, options.release_at),
            language=options.language or changed.language,
            samples=options.samples or changed.samples,
        )
        validate_adapter(changed)
    except (AdapterError, OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{setting}: {error}") from error
    return changed


def _thresholds(definition: AdapterDefinition, release_at: Mapping[str, float]) -> ReviewPolicy:
    """Return the policy with a site's thresholds. Raises `AdapterError` for an answer the adapter never gives."""
    policy = definition.policy
    classes = sorted({*policy.release_at, *definition.tasks})
    if unknown := sorted(set(release_at) - set(classes)):
        raise AdapterError(f"release_at: no answer is {', '.join(unknown)}; answers are {', '.join(classes)}")
    return replace(policy, release_at={**policy.release_at, **release_at})


def check_rules(rules: Sequence[RouteRule], enabled: Mapping[str, AdapterDefinition]) -> None:
    """Refuse site rules that name an adapter which is not there, or ask what it cannot be. Raises `SettingsError`."""
    for rule in rules:
        for name in named_by(rule):
            if name not in enabled:
                raise SettingsError(
                    f"routes: rule {rule.name!r} names adapter {name!r}, which is not enabled; "
                    f"enabled are {', '.join(sorted(enabled))}"
                )
        for asked in rule.ask:
            if not any(asked.task in enabled[name].tasks for name in named_by(rule)):
                raise SettingsError(
                    f"routes: rule {rule.name!r} asks for {asked.task!r}, a task that none of its adapters has"
                )
        try:
            for adapter in (enabled[name] for name in named_by(rule)):
                for question in asked_by(rule, adapter):
                    adapter.asked(question)
        except AdapterError as error:
            raise SettingsError(f"routes: rule {rule.name!r}: {error}") from error


def check_destinations(destinations: Sequence[Destination]) -> None:
    """Refuse a destination that waits for the results of an adapter that is not there. Raises `SettingsError`."""
    known = adapters()
    for destination in destinations:
        if unknown := sorted(set(destination.when.adapters) - set(known)):
            raise SettingsError(
                f"destinations: {destination.name}: when.adapters names {', '.join(unknown)}; "
                f"adapters are {', '.join(sorted(known))}"
            )


def named_by(rule: RouteRule) -> tuple[str, ...]:
    """Return the adapters that a rule names."""
    return () if rule.adapter is None else (rule.adapter,) if isinstance(rule.adapter, str) else tuple(rule.adapter)


def asked_by(rule: RouteRule, adapter: AdapterDefinition) -> tuple[Question, ...]:
    """Return the rule's questions that are for this adapter."""
    asked = (Question.from_json(question.model_dump()) for question in rule.ask if question.task in adapter.tasks)
    return tuple(adapter.in_own_language(question) for question in asked)
