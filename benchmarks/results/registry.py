"""All tables by name, in the order in which they are measured: what is soon done comes first."""

from benchmarks.results import (
    convergence,
    denoising,
    deployment,
    guarantee,
    latent_space,
    lines,
    outliers,
    photographs,
    speed,
)

TABLES = {
    table.name: table
    for table in (
        denoising.DENOISING,
        latent_space.INTERPOLATION,
        latent_space.LATENTS,
        lines.LINES,
        lines.LINE_VARIANTS,
        latent_space.LATENT_DIM,
        latent_space.COLOR,
        latent_space.RATES,
        outliers.OUTLIERS,
        guarantee.CONFORMAL,
        guarantee.POWER,
        guarantee.DRIFT,
        guarantee.MANY_IMAGES,
        guarantee.FPR_BY_CLASS,
        outliers.LOCALIZATION,
        outliers.NORMAL,
        outliers.LEFT_OUT,
        outliers.LEFT_OUT_SCORES,
        outliers.LEFT_OUT_PUBLISHED,
        denoising.BENCHMARK,
        photographs.PHOTOGRAPHS,
        photographs.COLOR,
        photographs.WITHOUT_CLEAN_IMAGES,
        speed.THROUGHPUT,
        convergence.CONVERGENCE,
        convergence.EQUAL_TIME,
        convergence.DENOISERS,
        convergence.KERAS_EXAMPLE,
        speed.STARTUP,
        speed.SCALING,
        speed.SCORING,
        deployment.PARITY,
        deployment.EXPORTED_FILES,
        deployment.SINGLE_IMAGE,
        deployment.BEAM,
    )
}
