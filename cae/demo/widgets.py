"""A canvas to draw on, and images to click, as components of HTML that trigger events with data."""

import html
from collections.abc import Sequence

import gradio as gr

from cae.data.arrays import to_float
from cae.demo import markup
from cae.demo.examples import Example
from cae.demo.inputs import canvas_size

# Triggers 'input' with the image after each stroke, and with an empty text when the canvas is cleared.
_CANVAS_JS = """
const canvas = element.querySelector("canvas"), context = canvas.getContext("2d");
const color = element.querySelector("input");
const paper = canvas.dataset.paper;
let last = null;
const clear = () => { context.fillStyle = paper; context.fillRect(0, 0, canvas.width, canvas.height); };
const position = (event) => {
  const box = canvas.getBoundingClientRect();
  const scale = canvas.width / box.width;
  return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
};
const draw = (event) => {
  const next = position(event);
  context.strokeStyle = color.value;
  context.lineWidth = Number(canvas.dataset.line);
  context.lineCap = context.lineJoin = "round";
  context.beginPath(); context.moveTo(...last); context.lineTo(...next); context.stroke();
  last = next;
};
canvas.addEventListener("pointerdown", (event) => {
  event.preventDefault(); canvas.setPointerCapture(event.pointerId); last = position(event); draw(event);
});
canvas.addEventListener("pointermove", (event) => { if (last) draw(event); });
const end = () => { if (last) { last = null; trigger("input", {image: canvas.toDataURL("image/png")}); } };
canvas.addEventListener("pointerup", end);
canvas.addEventListener("pointercancel", end);
element.querySelector("button").addEventListener("click", () => { clear(); trigger("input", {image: ""}); });
clear();
"""

# Triggers 'select' with the index of the image that is clicked.
_GALLERY_JS = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) trigger("select", {index: Number(button.dataset.index)});
});
"""


def canvas(image_shape: tuple[int, int, int], background: float) -> gr.HTML:
    """Returns a canvas with the background of training images, on which is drawn in white or black, or in a color.

    Its event 'input' has the data `image`: a PNG file as a data URL, or an empty text.

    Args:
      image_shape: (height, width, channels) of the model's images.
      background: In 0..1.
    """
    (width, height), is_gray = canvas_size(image_shape), image_shape[2] == 1
    paper, pen = f"#{round(255 * background):02x}" + f"{round(255 * background):02x}" * 2, "#000000"
    pen = "#ffffff" if background < 0.5 else pen
    template = (
        '<div class="cae-text">Draw an image</div>'
        f'<canvas class="cae-canvas" width="{width}" height="{height}" data-paper="{paper}"'
        f' data-line="{max(1, max(width, height) // 12)}" aria-label="canvas"></canvas>'
        f'<div class="cae-tools"><button type="button">Clear</button>'
        f'<input type="color" value="{pen}" aria-label="color"{" hidden" * is_gray}></div>'
    )
    return gr.HTML(html_template=template, js_on_load=_CANVAS_JS, elem_id="canvas", apply_default_css=False)


def gallery(examples: Sequence[Example], label: str, elem_id: str) -> gr.HTML:
    """Returns images to click; the event 'select' has the data `index`."""
    buttons = (
        f'<button type="button" data-index="{index}">{markup.figure(each.name, to_float(each.image))}</button>'
        for index, each in enumerate(examples)
    )
    content = f'<div class="cae-text">{html.escape(label)}</div>{markup.images(buttons, "cae-gallery")}'
    return gr.HTML(content, js_on_load=_GALLERY_JS, elem_id=elem_id, apply_default_css=False)
