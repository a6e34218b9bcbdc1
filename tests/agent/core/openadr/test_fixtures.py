"""All 46 examples of the User Guide are read, and each has a stated meaning."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.core.openadr import documents, report_due
from agent.core.openadr.meaning import signals
from agent.core.openadr.reading import Node
from agent.core.openadr.schedule import lay_out
from agent.model.openadr import Event, Program, Report, ReportDescriptor, Resource, Ven

ROOT = Path(__file__).resolve().parents[4]
FIXTURES = ROOT.parent / "shared" / "data" / "fixtures" / "openadr3"
RECEIVED_AT = datetime(2026, 1, 1, tzinfo=UTC)
FROM_AT, UNTIL_AT = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)

READERS: Mapping[str, Callable[[Node], object]] = {
    "program": documents.program,
    "event": documents.event,
    "report": documents.report,
    "ven": documents.ven,
    "resource": documents.resource,
    "other": documents.report_descriptor,
}

MEANINGS: dict[str, list[str]] = {
    "01_program_minimalProgram.json": ["program minimalProgram, no id yet, 0 descriptors"],
    "02_program_minimalProgram.json": ["program minimalProgram, id 0, 0 descriptors"],
    "03_event_simplePriceEvent.json": ["price 0.17 2023-02-10 00:00 1h"],
    "04_event_simplePriceEvent.json": ["price 0.17 2023-02-10 00:00 1h"],
    "05_report_minimalReport.json": ["report on 0 by myClient"],
    "06_report_minimalReport.json": ["report on 0 by myClient"],
    "07_event_multiPriceEvent.json": [
        "price 0.17 2025-06-25 00:00 1h",
        "price 0.03 2025-06-25 01:00 1h",
        "price 0.11 2025-06-25 02:00 1h",
    ],
    "08_event_variableIntervalsEvent.json": [
        "price 0.17 2023-02-10 00:00 1h",
        "price 0.22 2023-02-10 01:00 2h",
    ],
    "09_event_payloadDescriptorsEvent.json": [
        "price 0.17 2023-02-10 00:00 1h",
        "greenhouse gas 0.03 2023-02-10 00:00 1h",
    ],
    "10_event_reportDescriptorsEvent.json": ["price 0.17 2023-02-10 00:00 1h", "asks for USAGE"],
    "11_report_aggregatedReport.json": ["report on 1 by myClient", "AGGREGATED_REPORT: USAGE 0.012"],
    "12_report_DataQualityReport.json": [
        "report on 1 by myClient",
        "AGGREGATED_REPORT: USAGE 0.012",
        "AGGREGATED_REPORT: DATA_QUALITY MISSING",
    ],
    "13_event_alertEvent.json": [
        "alert 'The grid is currently under emergency conditions' 2025-03-14 00:00 4h"
    ],
    "14_event_simpleEvent.json": ["level 1 2025-03-14 00:00 4h"],
    "15_program_payloadDescriptorProgram.json": [
        "program payloadDescriptorProgram, no id yet, 1 descriptors"
    ],
    "16_event_pricingEvent.json": [
        "price 0.17 2023-02-10 00:00 1h",
        "price 0.03 2023-02-10 01:00 1h",
        "asks for USAGE",
    ],
    "17_other_USAGE.json": ["report descriptor of USAGE, DIRECT_READ"],
    "18_report_usageReport.json": [
        "report on 1 by myClient",
        "Resource_1: USAGE 0.012",
        "Resource_1: USAGE 0.017",
    ],
    "19_program_inverterProgram.json": ["program inverterProgram, no id yet, 1 descriptors"],
    "20_event_inverterEvent.json": ["other - 2025-03-14 00:00 1h"],
    "21_event_loadControlEvent.json": ["set-point 0 2025-03-14 00:00 4h"],
    "22_event_SOC_report_Event.json": [
        "asks for STORAGE_USABLE_CAPACITY, STORAGE_CHARGE_LEVEL, STORAGE_MAX_DISCHARGE_POWER, "
        "STORAGE_MAX_CHARGE_POWER"
    ],
    "23_report_SOCReport.json": [
        "report on 1 by myClient",
        "Resource_1: STORAGE_USABLE_CAPACITY 0.018",
        "Resource_1: STORAGE_CHARGE_LEVEL 33.0",
        "Resource_1: STORAGE_MAX_DISCHARGE_POWER 0.011",
        "Resource_1: STORAGE_MAX_CHARGE_POWER 0.007",
    ],
    "24_event_capability_report_Event.json": ["asks for LOAD_SHED_DELTA_AVAILABLE"],
    "25_report_capabilityReport.json": [
        "report on 1 by myClient",
        "Resource_1: LOAD_SHED_DELTA_AVAILABLE 30.0",
        "Resource_1: GENERATION_DELTA_AVAILABLE 110.0",
    ],
    "26_event_ops_forecast_Event.json": ["asks for USAGE"],
    "27_report_opsForecastReport.json": ["report on 1 by myClient", "Resource_1: USAGE 0.04"],
    "28_event_fast_dr_Event.json": ["set-point 500 2023-02-10 00:00 open"],
    "29_event_setpoint_Event.json": ["other - 2023-02-10 00:00 open"],
    "30_event_setpoint_Event.json": ["other - 2023-02-10 00:00 open"],
    "31_report_setpointReport.json": ["report on 1 by myClient", "Resource_1: SETPOINT 0.1"],
    "32_event_capacity_limit_Event.json": [
        "import limit 10000 2023-02-10 00:00 0.5h",
        "export limit 4000 2023-02-10 00:00 0.5h",
        "import limit 8000 2023-02-10 00:30 0.5h",
        "export limit 6000 2023-02-10 00:30 0.5h",
        "asks for READING, READING, READING",
    ],
    "33_event_capacity_subscription_Event.json": ["import subscription 240000 2023-02-10 00:00 open"],
    "34_event_capacity_reservation_reportReq_Event.json": [],
    "35_report_capacityReservationReport.json": [
        "report on 1 by myClient",
        "Resource_1: IMPORT_CAPACITY_RESERVATION 242.0",
    ],
    "36_event_capacity_reservation_Event.json": [],
    "37_event_capacity_available_Event.json": [
        "other - 2023-02-10 00:00 1h",
        "other - 2023-02-10 00:00 1h",
    ],
    "38_event_eventWithInstructions.json": [
        "instruction 'load_reduction, combustion_gen_standby' 2025-02-13 19:00 2h"
    ],
    "39_event_eventWithInstructions.json": [
        "instruction 'load_reduction, combustion_gen_standby' 2025-02-13 19:00 1h",
        "instruction 'load_reduction, combustion_gen' 2025-02-13 20:00 2h",
    ],
    "40_ven_VENID_0999.json": ["VEN VENID_0999 for ven_0999, group1, areaX"],
    "41_resource_RESOURCE_0999.json": ["resource RESOURCE_0999 of VEN 0"],
    "42_program_PROGRAM_0999.json": ["program PROGRAM_0999, no id yet, 0 descriptors"],
    "43_event_EVENT_0999.json": [],
    "44_event_EVENT_0999.json": [],
    "45_event_EVENT_0999.json": [],
    "46_resource_RESOURCE_0999.json": ["resource RESOURCE_0999 of VEN 0"],
}


def say(found: object) -> list[str]:
    """Tell what a document means, a line each."""
    match found:
        case Program():
            known = "no id yet" if found.id is None else f"id {found.id}"
            return [f"program {found.name}, {known}, {len(found.descriptors)} descriptors"]
        case Event():
            return say_event(found)
        case Report():
            return [f"report on {found.event_id} by {found.client_name}"] + [
                f"{resource.name}: {payload.type} {payload.values[0]}"
                for resource in found.resources
                for interval in resource.intervals
                for payload in interval.payloads
            ]
        case Ven():
            return [f"VEN {found.name} for {', '.join(found.targets)}"]
        case Resource():
            return [f"resource {found.name} of VEN {found.ven_id}"]
        case ReportDescriptor():
            return [f"report descriptor of {found.payload_type}, {found.reading_type}"]
    raise AssertionError(found)


def say_event(event: Event) -> list[str]:
    schedule = lay_out(event, received_at=RECEIVED_AT, from_at=FROM_AT, until_at=UNTIL_AT)
    lines = []
    for signal in signals(event, schedule.slots):
        length = "open"
        if signal.end_at is not None:
            length = f"{(signal.end_at - signal.start_at) / timedelta(hours=1):g}h"
        figure = "-" if signal.value is None else f"{signal.value:g}"
        figure = f"{signal.text!r}" if signal.text else figure
        lines.append(f"{signal.kind.value} {figure} {signal.start_at:%Y-%m-%d %H:%M} {length}")
    asked = [each.payload_type for group in report_due.groups(event) for each in group]
    return lines + ([f"asks for {', '.join(asked)}"] if asked else [])


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="the User Guide's examples are not beside the repository")
@pytest.mark.parametrize("name", MEANINGS)
def test_every_example_has_its_meaning(name: str) -> None:
    reader = READERS[name.split("_")[1]]
    (found,) = documents.documents((FIXTURES / name).read_bytes(), reader)
    assert say(found) == MEANINGS[name]


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="the User Guide's examples are not beside the repository")
def test_no_example_is_left_out() -> None:
    assert sorted(path.name for path in FIXTURES.glob("*.json")) == sorted(MEANINGS)


def test_the_documentation_states_every_meaning() -> None:
    text = (ROOT / "docs" / "openadr.md").read_text()
    rows = re.findall(r"^\| (\d\d) `(\w+)` \| \S", text, re.MULTILINE)
    assert rows == [(name[:2], name[3:].removesuffix(".json")) for name in sorted(MEANINGS)]
