"""What is printed when a training is over."""

from moiety.trainer import Result

MEGABYTE = 1e6


def result_lines(result: Result) -> list[str]:
    """Say what came out, what it cost, and what each party learnt."""
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in result.test.items())
    return [
        f"test: {metrics or 'no test rows'}",
        f"time: {result.seconds:.1f} s for {result.steps} steps; "
        f"{result.bytes_sent / MEGABYTE:.1f} MB sent, {result.bytes_received / MEGABYTE:.1f} MB received",
        *parameter_lines(result),
        *learnt_lines(result),
        f"saved in {result.folder}",
    ]


def parameter_lines(result: Result) -> list[str]:
    """Say which encryption was used, and how far it is from an error."""
    return [
        f"encryption: {result.parameters}, log2 q = {result.modulus_bits}, N = {result.degree}, "
        f"{result.spare_bits:.1f} spare bits, session error {result.session_error:.1e}"
    ]


def learnt_lines(result: Result) -> list[str]:
    """Say what each party learnt."""
    return [
        "data owner learnt: row count, schedule, shapes, and that the run finished; no label",
        f"label owner learnt: z, {result.released_z_per_row} values for each training row; from some "
        "known rows it can estimate the features of the others (see SECURITY.md)",
    ]
