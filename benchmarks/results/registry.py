"""All tables by name, in the order in which they are measured: what is soon done comes first."""

from benchmarks.results import denoising, latent_space, outliers, photographs, speed

TABLES = {
    table.name: table
    for table in (
        denoising.DENOISING,
        latent_space.INTERPOLATION,
        latent_space.LATENTS,
        latent_space.LINES,
        latent_space.LATENT_DIM,
        latent_space.COLOR,
        outliers.OUTLIERS,
        outliers.CONFORMAL,
        outliers.LOCALIZATION,
        outliers.NORMAL,
        outliers.LEFT_OUT,
        outliers.LEFT_OUT_PUBLISHED,
        denoising.BENCHMARK,
        photographs.PHOTOGRAPHS,
        photographs.COLOR,
        photographs.WITHOUT_CLEAN_IMAGES,
        speed.THROUGHPUT,
        speed.CONVERGENCE,
        speed.EQUAL_TIME,
        speed.DENOISERS,
        speed.SCORING,
    )
}
