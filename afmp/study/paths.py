"""Result paths and table names: the grammar that the top of the Snakefile shows."""

TABLES = (
    "epochs", "summary", "differences", "scalability", "scalability_ratios", "scalability_fits", "parameters",
)  # fmt: skip


def result_path(semantics: str, run: str, seed: int, name: str) -> str:
    """Path below results/ of one file that training left."""
    return f"train/{semantics}/{run}/seed_{seed}/{name}"


def result_paths(semantics: str, runs, seeds) -> list[str]:
    """Paths below results/ of the result files of these runs, every seed."""
    return [result_path(semantics, run, seed, f"results_{run}.json") for run in runs for seed in seeds]


def scalability_path(semantics: str) -> str:
    """Path below results/ of one sweep."""
    return f"benchmark_scalability/{semantics}/scalability.json"


def image_path(index: int) -> str:
    """Path in an archive of the test image that diagnostics were read on."""
    return f"test_images/{index}.png"
