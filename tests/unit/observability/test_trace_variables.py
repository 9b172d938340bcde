from __future__ import annotations

import pytest

from aidevos.observability.trace_variables import is_wanted, read_sampler
from aidevos.variables import SettingsError


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, (1.0, True)),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, (0.0, False)),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}, (0.5, False)),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}, (0.01, True)),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}, (1.0, True)),
    ],
)
def test_the_standard_variables_choose_the_sampler(environ: dict[str, str], expected: tuple[float, bool]) -> None:
    assert read_sampler(environ) == expected


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_SAMPLER": "sometimes"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "nan"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "a few"},
    ],
)
def test_an_unknown_sampler_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="OTEL_TRACES_SAMPLER"):
        read_sampler(environ)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_traces_are_recorded_only_if_a_collector_is_named(environ: dict[str, str], expected: bool) -> None:
    assert is_wanted(environ) is expected
