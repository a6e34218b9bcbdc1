from datetime import datetime, timedelta
from typing import Any

import pytest

from agent.core.openadr.book import Book, Known
from agent.core.openadr.report_body import body, term
from agent.core.openadr.report_due import MAX_CATCH_UP, MAX_WINDOWS, due
from agent.model.figures import Figure, Quantity
from agent.model.openadr import Event, ReportDescriptor, Unreadable
from agent.model.readings import Quality
from tests.agent.core.openadr.events import T0, at, interval, make, period

THREE = (interval(0, 1), interval(1, 1), interval(2, 1))


def asks(**more: object) -> dict[str, object]:
    return {"payloadType": "USAGE", **more}


def known(event: Event, received: float = -1) -> Known:
    return Book().polled([event], at(received)).held["e1"]


def when(known_: Known, now: float, last: int = -1) -> list[tuple[int, float, list[tuple[float, float]]]]:
    """Return (number, due at, windows) in hours from T0."""
    hour = timedelta(hours=1)

    def hours(instant: datetime) -> float:
        return (instant - T0) / hour

    found = due(known_, site="s", now=at(now), done={("e1", 0): last} if last >= 0 else {})
    return [
        (d.number, hours(d.due_at), [(hours(w.start_at), hours(w.end_at)) for w in d.windows]) for d in found
    ]


def event(**more: object) -> Event:
    return make(*THREE, when=period(0, "PT1H"), reportDescriptors=[asks(**more)])


def test_by_default_one_report_at_the_end_of_all_intervals() -> None:
    assert when(known(event()), 2.9) == []
    assert when(known(event()), 3) == [(0, 3, [(0, 1), (1, 2), (2, 3)])]
    assert when(known(event()), 50) == [(0, 3, [(0, 1), (1, 2), (2, 3)])]
    assert when(known(event()), 50, last=0) == []


def test_each_interval_as_it_ends() -> None:
    each = known(event(startInterval=1, numIntervals=1, frequency=1, repeat=-1))
    assert when(each, 2.5) == [(0, 1, [(0, 1)]), (1, 2, [(1, 2)])]
    assert when(each, 2.5, last=0) == [(1, 2, [(1, 2)])]
    assert when(each, 99) == [(0, 1, [(0, 1)]), (1, 2, [(1, 2)]), (2, 3, [(2, 3)])]


def test_repeat_bounds_the_reports() -> None:
    assert [n for n, *_ in when(known(event(startInterval=1, numIntervals=1, repeat=2)), 99)] == [0, 1]


def test_a_forecast_covers_what_follows() -> None:
    ahead = known(event(startInterval=0, historical=False))
    assert when(ahead, 0) == [(0, 0, [(0, 1), (1, 2), (2, 3)])]
    assert when(ahead, -0.1) == []


def test_an_event_without_intervals_repeats_its_period() -> None:
    wanted = asks(startInterval=0, numIntervals=2, historical=False, frequency=1, repeat=-1)
    forever = make(when=period(0, "PT1H"), reportDescriptors=[wanted])
    assert when(known(forever), 1.5) == [(0, 0, [(0, 1), (1, 2)]), (1, 1, [(1, 2), (2, 3)])]
    late = when(known(forever), 5000)
    assert [number for number, *_ in late] == list(range(5001 - MAX_CATCH_UP, 5001))
    assert when(known(forever), 5000, last=4998) == [
        (4999, 4999, [(4999, 5000), (5000, 5001)]),
        (5000, 5000, [(5000, 5001), (5001, 5002)]),
    ]


def test_a_report_is_bounded_to_the_intervals_nearest_to_now() -> None:
    wanted = asks(startInterval=0, numIntervals=2**31 - 1, historical=False)
    forever = make(when=period(0, "PT1H"), reportDescriptors=[wanted])
    ((_, _, windows),) = when(known(forever), 0)
    assert (windows[0], windows[-1], len(windows)) == ((0, 1), (MAX_WINDOWS - 1, MAX_WINDOWS), MAX_WINDOWS)
    wanted = asks(startInterval=9000, numIntervals=-1)
    past = make(when=period(0, "PT1H"), reportDescriptors=[wanted])
    ((_, _, windows),) = when(known(past), 9000)
    assert windows[-1] == (8999, 9000)


def test_joining_late_makes_up_for_nothing() -> None:
    assert when(known(event(), received=4), 5) == []
    each = event(startInterval=1, numIntervals=1, frequency=1, repeat=-1)
    assert when(known(each, received=1.5), 3) == [(1, 2, [(1, 2)]), (2, 3, [(2, 3)])]


def test_a_momentary_event_is_answered_at_once_and_once() -> None:
    now = make(when=period("0001-01-01", "PT0H"), reportDescriptors=[asks(frequency=0)])
    assert when(known(now), 0) == [(0, -1, [(-1.25, -1)])]
    assert when(known(now), 0, last=0) == []


def test_an_end_that_is_not_in_sight_is_not_reported_on() -> None:
    endless = make(interval(0, 1), when=period(0, "P9999Y"), reportDescriptors=[asks()])
    assert when(known(endless), 500) == []
    looped = make(*THREE, when=period(0, "PT1H"), duration="P9999Y", reportDescriptors=[asks()])
    assert when(known(looped), 500) == []


def test_monthly_periods() -> None:
    monthly = make(
        when=period("2026-01-31T00:00:00Z", "P1M"),
        reportDescriptors=[asks(startInterval=1, numIntervals=1, frequency=1, repeat=-1)],
    )
    held = Book().polled([monthly], at(-1000)).held["e1"]
    (found,) = due(held, site="s", now=at(0), done={("e1", 0): 2})
    assert (found.windows[0].start_at.isoformat(), found.due_at.isoformat()) == (
        "2026-04-30T00:00:00+00:00",
        "2026-05-31T00:00:00+00:00",
    )


def test_nothing_is_reported_on_what_is_cancelled_unreadable_or_not_ours_to_tell() -> None:
    book = Book().polled([event()], at(-1))
    gone = make(*THREE, when=period("0001-01-01", "PT0S"), reportDescriptors=[asks()])
    assert due(book.polled([gone], T0).held["e1"], site="s", now=at(9), done={}) == ()
    unreadable = Known(event=Unreadable(id="e1", fault="", may_limit=False), received_at=T0)
    assert due(unreadable, site="s", now=at(9), done={}) == ()
    assert (
        when(known(make(*THREE, when=period(0, "PT1H"), reportDescriptors=[{"payloadType": "X"}])), 9) == []
    )
    assert when(known(make(*THREE, reportDescriptors=[asks()])), 9) == [], "without a period there is no end"
    assert when(known(make(reportDescriptors=[asks()])), 9) == []


@pytest.mark.parametrize(
    ("payload_type", "units", "quantity"),
    [
        ("USAGE", None, Quantity.IMPORT_WH),
        ("USAGE", "KW", Quantity.IMPORT_W),
        ("READING", "volts", Quantity.VOLTAGE_V),
        ("READING", "VOLTAGE", None),
        ("SETPOINT", "VOLTAGE", None),
        ("DEMAND", "KW", Quantity.IMPORT_W),
        ("BASELINE", "KW", Quantity.BASELINE_W),
        ("OPERATING_STATE", None, Quantity.OPERATING_STATE),
    ],
)
def test_what_can_be_told(payload_type: str, units: str | None, quantity: Quantity | None) -> None:
    found = term(ReportDescriptor(payload_type=payload_type, units=units))
    assert (None if found is None else found.quantity) == quantity


def test_a_report_in_openadrs_units_with_the_quality_of_its_worst_figure() -> None:
    wanted = [asks(readingType="DIRECT_READ"), {"payloadType": "DEMAND"}, {"payloadType": "OPERATING_STATE"}]
    asked = known(make(*THREE, when=period(0, "PT1H"), eventName="peak", reportDescriptors=wanted))
    (report,) = due(asked, site="s", now=at(3), done={})
    figures = {
        (0, 0): Figure(value=1500.0, quality=Quality.OK),
        (1, 0): Figure(value=2500.0, quality=Quality.STALE),
        (2, 0): Figure(value="RUNNING_NORMAL", quality=Quality.OK),
        (0, 1): Figure(value=0.0, quality=Quality.BAD),
    }
    written: dict[str, Any] = body(report, figures, client_name="ven-a", resource_name="site-a")
    assert (written["eventID"], written["clientName"]) == ("e1", "ven-a")
    assert written["reportName"] == "peak-0-0"
    assert written["payloadDescriptors"] == [
        {
            "objectType": "REPORT_PAYLOAD_DESCRIPTOR",
            "payloadType": "USAGE",
            "readingType": "DIRECT_READ",
            "units": "KWH",
        },
        {"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": "DEMAND", "units": "KW"},
        {"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": "OPERATING_STATE"},
    ]
    (resource,) = written["resources"]
    assert resource["resourceName"] == "site-a"
    first, second, third = resource["intervals"]
    assert first == {
        "id": 0,
        "intervalPeriod": {"start": "2026-06-01T12:00:00.000Z", "duration": "PT3600S"},
        "payloads": [
            {"type": "USAGE", "values": [1.5]},
            {"type": "DEMAND", "values": [2.5]},
            {"type": "OPERATING_STATE", "values": ["RUNNING_NORMAL"]},
            {"type": "DATA_QUALITY", "values": ["ESTIMATED"]},
        ],
    }
    assert second["payloads"][-1] == {"type": "DATA_QUALITY", "values": ["MISSING"]}
    assert third["payloads"] == [{"type": "DATA_QUALITY", "values": ["MISSING"]}]


def test_an_aggregated_report_names_no_resource() -> None:
    (report,) = due(known(event(aggregate=True)), site="s", now=at(3), done={})
    written: dict[str, Any] = body(report, {}, client_name="ven-a", resource_name="site-a")
    assert written["resources"][0]["resourceName"] == "AGGREGATED_REPORT"
