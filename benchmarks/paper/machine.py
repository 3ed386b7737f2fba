"""The machine that figures were taken on."""

from benchmarks.results import machine_records


def machine() -> dict[str, str]:
    """Describe processor, cores and versions; no names, no paths."""
    return {each.shape: each.system if each.unit == "fact" else str(each.value) for each in machine_records()}
