"""Who may use the page: the browser that was given the printed address, and nothing else that it has open."""

import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Lets one browser in.

    Parameters
    ----------
    origin : str
        Where the page is, e.g. ``http://127.0.0.1:8600``. Requests under any other name are refused, so that
        a name which somebody else points at this machine leads nowhere.
    key : str
        What the printed address holds and the browser then keeps as a cookie.
    """

    origin: str
    key: str

    @property
    def address(self) -> str:
        """What the operator opens."""
        return f"{self.origin}/?key={self.key}"

    @property
    def cookie(self) -> str:
        """The cookie's name; browsers share cookies between the ports of a host."""
        return f"sterna-page-{urlsplit(self.origin).port}"

    @web.middleware
    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse everybody else; a middleware."""
        if request.host != urlsplit(self.origin).netloc:
            raise web.HTTPForbidden(text=f"this page is at {self.origin} only\n")
        if request.path == "/" and self._is_key(request.query.get("key", "")):
            return self._let_in()
        if not self._is_key(request.cookies.get(self.cookie, "")):
            raise web.HTTPForbidden(text="open the address that `sterna page` printed\n")
        if request.method not in ("GET", "HEAD") and request.headers.get("Origin") != self.origin:
            raise web.HTTPForbidden(text="only the page itself may act\n")
        return await handler(request)

    def _is_key(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.key.encode())

    def _let_in(self) -> web.Response:
        # The key leaves the address bar and the history at once.
        answer = web.Response(status=303, headers={"Location": "/", "Cache-Control": "no-store"})
        answer.set_cookie(self.cookie, self.key, httponly=True, samesite="Strict")
        return answer


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Tell the browser to run nothing but what this server sends, and to keep nothing."""
    response.headers.update(_HEADERS)
