"""One report to the operator over MQTT: what the site did in an interval of a limit, in OpenADR's words."""

import json

from agent.core.event_windows import Closed
from agent.core.openadr.report_body import body, term
from agent.grid.measured import Measurements
from agent.model.figures import Figure, Quantity
from agent.model.limits import LimitKind
from agent.model.openadr import Due, Event, ReportDescriptor
from agent.model.readings import Quality

DESCRIPTORS = (
    ReportDescriptor(payload_type="DEMAND", reading_type="MEAN", units="KW"),
    ReportDescriptor(payload_type="USAGE", reading_type="DIRECT_READ", units="KWH"),
    ReportDescriptor(payload_type="SETPOINT", units="KW"),
    ReportDescriptor(payload_type="BASELINE", units="KW"),
    ReportDescriptor(payload_type="DELTA_USAGE", units="KWH"),
)
"""The demand is always told, if only as missing; of the others what is known."""
DESCRIPTORS_OF_EXPORT = DESCRIPTORS[:3]
"""What the site would have drawn is no measure of what it was kept from feeding in."""


async def written(closed: Closed, measurements: Measurements, client_name: str) -> bytes:
    """Write the report on an interval that is over, as JSON; the site calls itself `client_name`."""
    window = closed.window
    figures: dict[tuple[int, int], Figure] = {}
    known: list[ReportDescriptor] = []
    exports = closed.command.kind is LimitKind.EXPORT_CAPACITY_LIMIT
    for descriptor in DESCRIPTORS_OF_EXPORT if exports else DESCRIPTORS:
        figure = await _figure(descriptor, closed, measurements)
        if figure is not None:
            figures[len(known), 0] = figure
        if figure is not None or descriptor is DESCRIPTORS[0]:
            known.append(descriptor)
    due = Due(
        event=Event(id=closed.command.command_id, program_id=""),
        group=0,
        number=window.id,
        due_at=window.end_at,
        descriptors=tuple(known),
        windows=(window,),
    )
    report = body(due, figures, client_name=client_name, resource_name=client_name)
    return json.dumps(report, separators=(",", ":"), allow_nan=False).encode()


async def _figure(descriptor: ReportDescriptor, closed: Closed, measurements: Measurements) -> Figure | None:
    found, limit_w = term(descriptor), closed.command.value_w
    if found is None:
        return None
    if found.quantity is Quantity.LIMIT_W and limit_w is not None:
        # That of the interval: by now another may bind the site.
        return Figure(value=limit_w, quality=Quality.OK)
    window = closed.window
    return await measurements.figure(found.quantity, window.start_at, window.end_at, forecast=False)
