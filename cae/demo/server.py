"""Serves the page to browsers on this machine, and to no other."""

import contextlib
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator

import gradio as gr

from cae.demo.markup import CSS
from cae.errors import UserError

HOST = "127.0.0.1"

MAX_FILE_SIZE = "200mb"

SYSTEM_FONTS = ["system-ui", "sans-serif"]


def check_port(port: int) -> int:
    """Returns a port that is free, `port` itself unless it is 0; raises `UserError` where it is taken."""
    with socket.socket() as each:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            each.bind((HOST, port))
        except OSError as error:
            raise UserError(f"--port={port} can't be used: {error.strerror}; use another, or 0 for any") from error
        return each.getsockname()[1]


@contextlib.contextmanager
def serve(app: gr.Blocks, port: int) -> Iterator[str]:
    """Serves a page within the context, whose value is the page's address; needs and uses no network.

    Args:
      app: The page.
      port: A free port.
    """
    # Of other machines no font is loaded, and requests to this one don't go through a proxy.
    theme = gr.themes.Default(font=SYSTEM_FONTS, font_mono=["ui-monospace", "monospace"])
    try:
        _, url, _ = app.launch(
            server_name=HOST, server_port=port, share=False, quiet=True, prevent_thread_lock=True, ssr_mode=False,
            inbrowser=False, enable_monitoring=False, mcp_server=False, pwa=False, footer_links=[], root_path="",
            max_file_size=MAX_FILE_SIZE, theme=theme, css=CSS,
        )  # fmt: skip
        yield url
    finally:
        app.close(verbose=False)


@contextlib.contextmanager
def private_environment() -> Iterator[None]:
    """Makes Gradio, within the context, report nothing, use no proxy for this machine, and keep no file for longer."""
    names = ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY", "GRADIO_TEMP_DIR", "NO_PROXY", "no_proxy")
    before = {name: os.environ.get(name) for name in names}
    with tempfile.TemporaryDirectory(prefix="cae_demo_") as folder:
        # Of both, the one in lower case has precedence.
        hosts = ",".join(filter(None, (before["no_proxy"] or before["NO_PROXY"], HOST)))
        os.environ.update(dict(zip(names, ("False", "True", folder, hosts, hosts))))
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def wait() -> None:
    """Waits for Ctrl-C, SIGTERM or the end of the terminal, each of which ends a demo in order."""
    previous = {each: signal.signal(each, signal.default_int_handler) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
