"""Who this site is to others, and whom it lets in: channels with the right name on both ends."""

from dataclasses import dataclass
from typing import TypedDict

import grpc
import grpc.aio

from sterna import rpc
from sterna.identity import Credentials, Identity, Role


class _Names(TypedDict):
    credentials: Credentials | None
    expected: Identity
    insecure: bool
    claim: Identity | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """How this site speaks to others: who it is, and with which certificate."""

    fleet: str
    site: str
    credentials: Credentials | None
    insecure: bool

    def open(self, address: str, role: Role, name: str) -> grpc.aio.Channel:
        """Open a channel to the party that must be at the address."""
        return rpc.open_channel(address, **self._names(role, name))

    def open_blocking(self, address: str, role: Role, name: str) -> grpc.Channel:
        """Open a channel for streams that threads read, to the party that must be at the address."""
        return rpc.open_blocking_channel(address, **self._names(role, name))

    def _names(self, role: Role, name: str) -> "_Names":
        mine = Identity(fleet=self.fleet, role=Role.SITE, name=self.site)
        return _Names(
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
