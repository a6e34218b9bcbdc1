"""What the OpenADR VEN needs of a VTN."""

from collections.abc import Mapping
from typing import Protocol

from agent.model.openadr import Event, Notifiers, Program, Resource, Unreadable, Ven


class Vtn(Protocol):
    """A VTN, e.g. `agent.grid.openadr_rest.RestVtn`; calls raise TransientError or PeerProtocolError."""

    @property
    def client_id(self) -> str | None:
        """Name under which the VTN knows us."""
        ...

    async def token(self) -> str | None:
        """Return a good access token; None: none is needed."""
        ...

    async def events(self) -> tuple[Event | Unreadable, ...]:
        """Return every event that is meant for us."""
        ...

    async def programs(self) -> tuple[Program, ...]:
        """Return every program that we may see."""
        ...

    async def vens(self, name: str) -> tuple[Ven, ...]:
        """Return the VENs of a name."""
        ...

    async def resources(self, ven_id: str, name: str) -> tuple[Resource, ...]:
        """Return a VEN's resources of a name."""
        ...

    async def create_ven(self, body: Mapping[str, object]) -> Ven:
        """Register a VEN."""
        ...

    async def create_resource(self, body: Mapping[str, object]) -> Resource:
        """Register a resource."""
        ...

    async def create_report(self, body: Mapping[str, object]) -> None:
        """Deliver a report."""
        ...

    async def notifiers(self) -> Notifiers:
        """Return how the VTN notifies."""
        ...

    async def topics(self, ven_id: str, collection: str) -> tuple[str, ...]:
        """Return the MQTT topics on which changes of a VEN's collection are told."""
        ...
