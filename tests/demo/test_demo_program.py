"""`python -m cae.demo`: what it refuses, and a page that is served to this machine without any network."""

import importlib.util
import json
import os
import re
import socket
import urllib.request

import pytest
from cli import assert_one_line, call

from cae.demo import server


def get(url, data=None):
    """What is at a URL, or the answer to a dict that is posted to it; not through a proxy."""
    request = urllib.request.Request(url, data and json.dumps(data).encode(), {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as response:
        return response.read().decode()


def trigger(url, config, elem_id, event, event_data):
    """The last output of what an event of a component starts, as the page asks for it."""
    components = {each["props"].get("elem_id"): each["id"] for each in config["components"]}
    target = [components[elem_id], event]
    values = {each["id"]: each["props"].get("value") for each in config["components"]}
    (found,) = (each for each in config["dependencies"] if target in each["targets"])
    data = [values[each] for each in found["inputs"]]
    body = {"data": data, "event_data": event_data, "fn_index": found["id"], "session_hash": elem_id}
    return json.loads(get(f"{url}gradio_api/run/predict", body))["data"][-1]


def test_page_is_served_to_this_machine_alone(trained_run, monkeypatch, tmp_path):
    pages, before, connect = {}, dict(os.environ), socket.socket.connect

    def visit():
        (url,) = (f"http://{server.HOST}:{port}/" for port in ports)
        pages.update(html=get(url), config=json.loads(get(f"{url}config")), folder=os.environ["GRADIO_TEMP_DIR"])
        pages["index"] = trigger(url, pages["config"], "inliers", "select", {"index": 3})
        pages["path"] = trigger(url, pages["config"], "second_examples", "select", {"index": 3})
        pages["drawn"] = trigger(url, pages["config"], "canvas", "input", {"image": ""})

    def connect_here(each, address):
        assert address[0] in (server.HOST, "localhost"), f"a connection to {address}"
        return connect(each, address)

    check_port, ports = server.check_port, []
    monkeypatch.setattr(server, "check_port", lambda port: ports.append(check_port(port)) or ports[0])
    monkeypatch.setattr(server, "wait", visit)
    monkeypatch.setattr(socket.socket, "connect", connect_here)
    code, out, err = call("cae.demo", f"--workdir={trained_run.workdir}", "--port=0", folder=tmp_path)
    assert (code, err) == (0, "")
    assert out == f"open http://127.0.0.1:{ports[0]}/ in a browser on this machine; Ctrl-C ends the demo\n"
    loaded = re.findall(r"<(?:script|link)[^>]+(?:src|href)=\"?(?!\.|/|http://127\.0\.0\.1)([^\" >]+)", pages["html"])
    assert loaded == [] and not re.search(r"fonts\.(googleapis|gstatic)", pages["html"])
    assert not pages["config"]["analytics_enabled"] and pages["config"]["title"] == "Denoise, detect, interpolate"
    values = {each["props"].get("elem_id"): each["props"].get("value") for each in pages["config"]["components"]}
    example, drawn = re.findall(r'src="([^"]+)"', values["inliers"])[3], values["result"]
    assert re.findall(r'src="([^"]+)"', pages["index"])[0] == example != re.findall(r'src="([^"]+)"', drawn)[0]
    assert re.findall(r'src="([^"]+)"', pages["path"])[2] == example and "no image yet" in pages["drawn"]
    assert dict(os.environ) == before and not os.path.exists(pages["folder"])


def test_requests_to_this_machine_use_no_proxy_whichever_variable_names_one(monkeypatch):
    monkeypatch.setenv("no_proxy", "corp.local")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with server.private_environment():
        assert urllib.request.proxy_bypass_environment(server.HOST)
        assert urllib.request.proxy_bypass_environment("corp.local")
        assert os.environ["NO_PROXY"] == os.environ["no_proxy"]
    assert os.environ["no_proxy"] == "corp.local" and "NO_PROXY" not in os.environ


def test_port_that_is_taken_is_refused(trained_run, tmp_path):
    with socket.socket() as taken:
        taken.bind((server.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = call("cae.demo", f"--workdir={trained_run.workdir}", f"--port={port}", folder=tmp_path)
    assert_one_line(result, f"--port={port} can't be used: Address already in use; use another, or 0 for any")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workdir=gone"], "gone"),
        (["--workdir={}", "--port=70000"], "port"),
        (["--workdir={}", "--model=unet"], "model=conv"),
        (["--workdir={}", "--share"], "share"),
    ],
)
def test_invalid_flags_are_refused(trained_run, tmp_path, words, message):
    words = [word.format(trained_run.workdir) for word in words]
    assert_one_line(call("cae.demo", *words, folder=tmp_path), message)


def test_missing_gradio_is_named(trained_run, tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gradio" else find_spec(name))
    result = call("cae.demo", f"--workdir={trained_run.workdir}", folder=tmp_path)
    assert_one_line(result, "pip install -e '.[demo]'")
