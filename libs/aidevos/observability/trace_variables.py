"""The standard variables of OpenTelemetry that decide whether, and which, traces are recorded.

The SDK reads the others: see `trace_export`.

Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

from collections.abc import Mapping

from aidevos.variables import SettingsError

# What the names of those samplers begin with that follow the decision of the caller.
_PARENT_BASED = "parentbased_"
_SAMPLERS = ("always_on", "always_off", "traceidratio")


def is_wanted(environ: Mapping[str, str]) -> bool:
    """True if the environment asks for traces: if it names a collector, and nothing switches them off."""
    named = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return bool(named) and not disabled and environ.get("OTEL_TRACES_EXPORTER", "otlp").strip() != "none"


def read_sampler(environ: Mapping[str, str]) -> tuple[float, bool]:
    """Return the share of traces that are recorded, and True if traces that began elsewhere keep their decision.

    Raises `SettingsError`.
    """
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
    kind = name.removeprefix(_PARENT_BASED)
    if kind not in _SAMPLERS:
        known = ", ".join((*_SAMPLERS, *(_PARENT_BASED + each for each in _SAMPLERS)))
        raise SettingsError(f"OTEL_TRACES_SAMPLER={name!r} isn't one of {known}")
    ratio = {"always_on": 1.0, "always_off": 0.0}.get(kind)
    if ratio is None:
        text = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1"
        try:
            ratio = float(text)
        except ValueError:
            ratio = -1.0
        if not 0 <= ratio <= 1:
            raise SettingsError(f"OTEL_TRACES_SAMPLER_ARG={text!r} isn't a number from 0 to 1")
    return ratio, name.startswith(_PARENT_BASED)
