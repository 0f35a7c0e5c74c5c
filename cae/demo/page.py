"""The page: its controls, and which of them shows what."""

import functools
from collections.abc import Callable
from typing import Any

import gradio as gr

from cae.data.noise import NOISES
from cae.demo import inspection, markup, widgets
from cae.demo.examples import Example
from cae.demo.views import Demo, describe, or_message
from cae.predict.preprocess import Preprocessed

TITLE = "Denoise, detect, interpolate"

# What a control does is done at once, and of several moves of a slider the last one counts.
EVENT = {"queue": False, "show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}


def build_app(demo: Demo) -> gr.Blocks:
    """Returns the page of a run."""
    run = demo.run
    with gr.Blocks(title=TITLE, analytics_enabled=False) as app:
        shape = "x".join(map(str, run.image_shape))
        name = run.run_config["dataset"].get("name", "unknown images")
        gr.Markdown(f"## {TITLE}\n{run.config.model} model, trained on {name}, images {shape}")
        current = gr.State(_given(demo.inliers, 0))
        with gr.Tab("Denoise and detect"):
            _add_inspection(demo, current)
        with gr.Tab("Interpolate"):
            _add_interpolation(demo, current)
    return app


def _given(examples: list[Example], index: int) -> Preprocessed | None:
    """Returns an example as if the user had given it; None where there is none."""
    return Preprocessed(examples[index].image, "", ()) if index < len(examples) else None


# --- Denoise and detect -----------------------------------------------------------------------------------------------


def _add_inspection(demo: Demo, current: gr.State) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            canvas = widgets.canvas(demo.run.image_shape, demo.canvas_background)
            upload = gr.File(label="Or drop an image file", type="filepath", height=140, elem_id="upload")
        with gr.Column(scale=3, min_width=300):
            controls = _inspection_controls(demo)
            values = [control.value for control in controls]
            result = gr.HTML(or_message(demo.inspect, current.value, *values), elem_id="result")
    show = functools.partial(or_message, demo.inspect)
    gr.on([control.change for control in controls], show, [current, *controls], result, **EVENT)
    controls[0].change(lambda noise: gr.update(interactive=noise in NOISES), controls[0], controls[1], **EVENT)
    outputs = [current, result]
    with gr.Row():
        for examples, label, elem_id in (
            (demo.inliers, "Or click a test image", "inliers"),
            (demo.outliers, "Or click an outlier", "outliers"),
        ):
            if examples:
                gallery = widgets.gallery(examples, label, elem_id)
                choose = functools.partial(_given, examples)
                gallery.select(_event_handler(demo, choose, "index"), controls, outputs, **EVENT)
    upload.upload(lambda *values: _take(demo, demo.read_upload, *values), [upload, *controls], outputs, **EVENT)
    canvas.input(_event_handler(demo, demo.read_drawing, "image"), controls, outputs, **EVENT)


def _event_handler(demo: Demo, read: Callable[[Any], Preprocessed], name: str) -> Callable:
    """Returns a function of an event and the controls' values, which reads an image from the event's data."""

    # Gradio finds out by the type hint that it has to pass the event.
    def handle(event: gr.EventData, *values: Any) -> tuple[Preprocessed | None, str]:
        return _take(demo, read, getattr(event, name), *values)

    return handle


def _take(demo: Demo, read: Callable[[Any], Preprocessed], value: Any, *values: Any) -> tuple[Preprocessed | None, str]:
    """Returns an image that the user gave, and its inspection; no image and a message where it cannot be read."""
    try:
        given = read(value)
    except Exception as error:  # noqa: BLE001 - The page stays, whatever happens to one image.
        return None, markup.message(describe(error))
    return given, or_message(demo.inspect, given, *values)


def _inspection_controls(demo: Demo) -> list[gr.components.Component]:
    """Adds the controls of noise and of the verdict: the arguments of `Demo.inspect` after the image."""
    name, level = inspection.training_noise(demo.run)
    limits = inspection.alpha_range(demo.detector) if demo.detector else None
    low, high = limits or (0, 1)
    with gr.Row():
        noises = list(dict.fromkeys([name, *(each for each, noise in NOISES.items() if noise.clips)]))
        noise = gr.Dropdown(noises, value=name, label="Noise", elem_id="noise", min_width=140)
        seed = gr.Number(0, label="Seed", precision=0, elem_id="seed", min_width=100)
    level = gr.Slider(
        0, max(1.0, level), level, step=0.01, label="Noise level", elem_id="level", interactive=name in NOISES
    )
    start = max(low, demo.detector.alpha) if limits else low
    alpha = gr.Slider(
        low, high, start, step=inspection.ALPHA_STEP, label="Alpha: the false positive rate", elem_id="alpha",
        visible=limits is not None,
    )  # fmt: skip
    return [noise, level, seed, alpha]


# --- Interpolate ------------------------------------------------------------------------------------------------------


def _add_interpolation(demo: Demo, current: gr.State) -> None:
    states = [gr.State(_given(demo.inliers, index)) for index in range(2)]
    with gr.Row():
        method = gr.Radio(demo.methods, value=demo.methods[len(demo.methods) // 2], label="Method", elem_id="method")
        weight = gr.Slider(0, 1, 0.5, step=0.01, label="Weight of the second image", elem_id="weight")
    start = or_message(demo.interpolate, states[0].value, states[1].value, weight.value, method.value)
    result = gr.HTML(start, elem_id="path")
    arguments = [*states, weight, method]
    gr.on([weight.change, method.change], functools.partial(or_message, demo.interpolate), arguments, result, **EVENT)
    with gr.Row():
        for position, (state, ordinal) in enumerate(zip(states, ("first", "second"))):
            with gr.Column(min_width=300):
                _add_choice(demo, position, ordinal, current, arguments, [state, result])


def _add_choice(
    demo: Demo, position: int, ordinal: str, current: gr.State, arguments: list[Any], outputs: list[Any]
) -> None:
    """Adds what chooses the first or the second image: a button, and examples to click."""

    def choose(given: Preprocessed | None, *values: Any) -> tuple[Preprocessed | None, str]:
        images = [*values[:2]]
        images[position] = given
        return given, or_message(demo.interpolate, *images, *values[2:])

    def choose_example(event: gr.EventData, *values: Any) -> tuple[Preprocessed | None, str]:
        return choose(_given(examples, event.index), *values)

    button = gr.Button(f"Use the image of the other tab as the {ordinal}", elem_id=f"use_{ordinal}")
    button.click(choose, [current, *arguments], outputs, **EVENT)
    if examples := demo.inliers + demo.outliers:
        gallery = widgets.gallery(examples, f"Or click the {ordinal} image", f"{ordinal}_examples")
        gallery.select(choose_example, arguments, outputs, **EVENT)
