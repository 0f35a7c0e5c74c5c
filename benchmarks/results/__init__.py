"""Tables of results: what measures them, the JSON files that hold them, and the pages that are made from these files.

A row of a table is one entry in `denoising`, `latent_space`, `outliers` or `speed`: commands, where its figures stand
in the files that they write, how many minutes they take, and the row's label. `python -m benchmarks.results` runs the
commands of rows that have no figures yet, writes `benchmarks/tables/*.json` and renders the pages.
"""
