"""What runs withstand: kills at random moments (docs/fault_tolerance.md), and many steps (docs/performance.md)."""

from benchmarks.results.definition import Command, Row, Table

KILLS = {
    "trials": ("trials", "{:.0f}"),
    "killed in a save": ("trials with a kill during a save", "{:.0f}"),
    "kills": ("kills", "{:.0f}"),
    "bit-equal": ("bit-equal to a run that was not killed", "{:.0f}"),
    "different with another seed": ("items that differ with another seed", "{:.0f}"),
}
STEPS = {
    "steps": ("steps", "{:,.0f}"),
    "traces": ("traces", "{:.0f}"),
    "first MiB": ("resident memory after a tenth of them", "{:.1f} MiB"),
    "last MiB": ("at the end", "{:.1f} MiB"),
}


def benchmark(name: str, words: str, label: str, columns: dict[str, tuple[str, str]], minutes: float) -> Table:
    """Returns the table of a benchmark that writes one row."""
    command = Command(f"-m {words} --json={{runs}}/{name}.json", {"row": f"{{runs}}/{name}.json"}, minutes)
    figures = {key: ("row", 0, key) for key in columns}
    return Table(name, [Row(name, label, [command], figures, needs=())], columns)


FAULT_INJECTION = benchmark(
    "fault_injection", "benchmarks.fault_injection --trials=100", "SIGKILL at random moments", KILLS, 30
)
SOAK = benchmark("soak", "benchmarks.soak", "a small model, the digits", STEPS, 3)
