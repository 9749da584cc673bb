"""The explorer's server and page before what no browser of its own sends."""

from __future__ import annotations

import asyncio

import pytest
from bokeh.application import Application
from bokeh.document import Document
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from bokeh.server.util import bind_sockets
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop

from kktalloc._problem.scenario import load_scenario
from validation.explore.controls import Scenario
from validation.explore.page import Page
from validation.explore.server import ADDRESS, EXAMPLE, _ours_alone, starting_target

OURS = ["127.0.0.1", "127.0.0.1:{port}", "localhost", "localhost:{port}", "LOCALHOST:{port}"]
FOREIGN = [
    "rebound.example", "rebound.example:{port}", "127.0.0.1.rebound.example:{port}", "localhost.rebound.example",
    "127x0x0x1", "rebound.example:{port}@localhost", "0.0.0.0:{port}", "[::1]:{port}",
]  # fmt: skip


def test_requests_by_another_name_are_not_answered() -> None:
    """A page whose name is made to lead here sends a foreign Host, with an Origin that matches it."""

    async def answers() -> dict[str, int]:
        sockets, port = bind_sockets(ADDRESS, 0)
        pages = BokehTornado({"/": Application()}, extra_websocket_origins=[f"{ADDRESS}:{port}"])
        http, client, found = HTTPServer(_ours_alone(pages)), AsyncHTTPClient(), {}
        http.add_sockets(sockets)
        server = BaseServer(IOLoop.current(), pages, http)
        server.start()
        try:
            for host in (*OURS, *FOREIGN):
                name = host.format(port=port)
                for path in ("/", "/ws", "/static/js/bokeh.min.js"):
                    headers = {"Host": name, "Origin": f"http://{name}"}
                    url = f"http://{ADDRESS}:{port}{path}"
                    answer = await client.fetch(url, headers=headers, raise_error=False)
                    found[host + path] = answer.code
        finally:
            server.stop()
            client.close()
        return found

    found = asyncio.run(answers())
    for host in OURS:
        assert found[f"{host}/"] == 200, host
        assert found[f"{host}/static/js/bokeh.min.js"] == 200, host
        assert found[f"{host}/ws"] != 404, host
    assert {found[host + path] for host in FOREIGN for path in ("/", "/ws", "/static/js/bokeh.min.js")} <= {404, 400}


@pytest.fixture
def page() -> Page:
    scenario = Scenario(load_scenario(EXAMPLE))
    page = Page(scenario, starting_target(scenario))
    page.attach(Document(), "")
    return page


def _run_callbacks(page: Page) -> int:
    """Run what waits, as the server would; returns how often."""
    count, document = 0, page._document
    assert document is not None
    while document.session_callbacks:
        (waiting,) = document.session_callbacks
        document.callbacks.remove_session_callback(waiting)
        waiting.callback()
        count += 1
    return count


@pytest.mark.parametrize("value", ["nonsense", "", "0", "-1", "\x00", "1e400"])
def test_a_position_that_no_slider_has_moves_nothing_and_leaves_nothing_behind(page: Page, value: str) -> None:
    for name, slider in page._sliders.items():
        before = slider.value
        slider.value = value
        assert slider.value == before, name
    at = page._controls()
    _run_callbacks(page)
    slider = page._sliders["deadline_s"]
    slider.value = page._dials["deadline_s"].labels[3]
    assert _run_callbacks(page) == 2
    assert page._controls() != at
    assert page._waiting is None


def test_an_answer_that_fails_does_not_stop_the_next(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    slider, labels = page._sliders["deadline_s"], page._dials["deadline_s"].labels

    def fail(*_: object) -> None:
        raise RuntimeError("made up")

    with monkeypatch.context() as broken:
        broken.setattr("validation.explore.page.look", fail)
        slider.value = labels[3]
        with pytest.raises(RuntimeError, match="made up"):
            _run_callbacks(page)
    slider.value = labels[4]
    assert _run_callbacks(page) == 2
