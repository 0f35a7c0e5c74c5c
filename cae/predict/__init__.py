"""Predictions on the user's images: `python -m cae.predict`."""

MAX_INTERPOLATION_IMAGES = 12

PREDICTORS = ("denoise", "reconstruct", "interpolate", "outliers")
"""The values of `--tasks`, in the order of what is printed; `__main__.make_predictor` makes them."""
