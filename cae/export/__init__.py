"""Export of a trained model to files that run without this package: `python -m cae.export`."""

FORMATS = {
    "saved_model": (),
    "onnx": ("onnx", "onnxruntime", "tf2onnx"),
    "litert": ("ai_edge_litert",),
    "keras": (),
}
"""The values of `--format`, and the modules that each needs beside those that the package always needs."""

FUNCTIONS = ("denoise", "encode", "decode", "reconstruct", "detect")
"""The values of `--functions`; `functions.make_functions` makes them."""
