"""Serves the explorer to this machine alone."""

from __future__ import annotations

import asyncio
import re
import sys
import webbrowser
from html import escape
from pathlib import Path

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from bokeh.server.util import bind_sockets
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.routing import HostMatches, Rule, RuleRouter

from kktalloc._command import emit
from kktalloc._problem.scenario import load_scenario

from .controls import Scenario
from .page import Page
from .view import look_ahead

ADDRESS = "127.0.0.1"
EXAMPLE = Path(__file__).parents[2] / "examples" / "ten_devices.toml"


def explore(path: Path | None, port: int, browser: bool) -> None:
    """Serve the explorer of one problem until it is interrupted.

    Parameters
    ----------
    path
        Scenario file with one problem; None for the example of ten devices.
    port
        To listen on, at 127.0.0.1; 0 for any free one.
    browser
        Open the page in the default browser.

    Raises
    ------
    ValueError
        One line about the scenario file.
    OSError
        The port is taken.
    """
    path = path or EXAMPLE
    scenario = Scenario(load_scenario(path))
    where = f"{path.name}: {scenario.problem.shape[-1]} devices. Every number is solved anew when a slider moves."
    asyncio.run(_serve(scenario, where, port, browser))


def starting_target(scenario: Scenario) -> float:
    """Half as much again as the best guarantee in the starting time, so that the first page can reach it."""
    best = look_ahead(scenario, scenario.start()).in_time
    return 1.0 if best is None else float(f"{1.5 * best.guarantee:.3g}")


def _ours_alone(pages: BokehTornado) -> RuleRouter:
    """Requests to this machine by its own names; others are not found.

    A page elsewhere whose name is made to lead here (DNS rebinding) is of one origin with whatever answers it, so
    that looking at the origin is not enough: its requests carry the foreign name in their Host header.
    """
    return RuleRouter([Rule(HostMatches(rf"({re.escape(ADDRESS)}|localhost)"), pages)])


async def _serve(scenario: Scenario, where: str, port: int, browser: bool) -> None:
    target = starting_target(scenario)

    def fill(document: Document) -> None:
        Page(scenario, target).attach(document, escape(where))

    try:
        sockets, port = bind_sockets(ADDRESS, port)
    except OSError as error:
        raise OSError(f"--port {port}: {error.strerror}") from None
    # Only pages that came from here may open a session: another site's page in the same browser may not.
    origins = [f"{ADDRESS}:{port}", f"localhost:{port}"]
    pages = BokehTornado({"/": Application(FunctionHandler(fill))}, extra_websocket_origins=origins)
    http = HTTPServer(_ours_alone(pages))
    http.add_sockets(sockets)
    server = BaseServer(IOLoop.current(), pages, http)
    server.start()
    url = f"http://{ADDRESS}:{port}/"
    emit(f"explorer: {url} (Ctrl-C ends it)\n")
    if browser and not webbrowser.open(url):
        print("validation: no browser found; open the address yourself", file=sys.stderr)
    try:
        await asyncio.Event().wait()
    finally:
        server.stop()
