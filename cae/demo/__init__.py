"""A page in the browser that shows what a trained model does: `python -m cae.demo`."""
