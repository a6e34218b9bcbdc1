"""Who this site is to others, and whom it lets in: channels with the right name on both ends."""

from dataclasses import dataclass

import grpc.aio

from sterna import rpc
from sterna.identity import Credentials, Identity, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """How this site speaks to others: who it is, and with which certificate."""

    fleet: str
    site: str
    credentials: Credentials | None
    insecure: bool

    def open(self, address: str, role: Role, name: str) -> grpc.aio.Channel:
        """Open a channel to the party that must be at the address."""
        mine = Identity(fleet=self.fleet, role=Role.SITE, name=self.site)
        return rpc.open_channel(
            address,
            credentials=self.credentials,
            expected=Identity(fleet=self.fleet, role=role, name=name),
            insecure=self.insecure,
            claim=None if self.credentials else mine,
        )

    def site_of(self, context: "grpc.aio.ServicerContext[object, object]") -> str | None:
        """Return the site that calls; None when the caller is no site of our fleet."""
        caller = rpc.peer_identity(context)
        if caller is None or caller.fleet != self.fleet or caller.role is not Role.SITE:
            return None
        return caller.name
