"""What is printed when a training is over."""

from moiety.trainer import Result

MEGABYTE = 1e6


def result_lines(result: Result) -> list[str]:
    """Say what came out, what it cost, and what each party learnt."""
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in result.test.items())
    sent, received = result.bytes_sent / MEGABYTE, result.bytes_received / MEGABYTE
    return [
        f"test: {metrics or 'no test rows'}",
        f"time: {result.seconds:.1f} s for {result.steps} steps",
        f"traffic: {sent:.1f} MB sent, {received:.1f} MB received",
        parameter_line(result),
        *learnt_lines(result),
        f"saved in {result.folder}",
    ]


def parameter_line(result: Result) -> str:
    """Say which encryption was used, and how far it is from an error."""
    return (
        f"encryption: {result.parameters}, log2 q = {result.modulus_bits}, N = {result.degree}, "
        f"{result.spare_bits:.1f} spare bits, session error {result.session_error:.1e}"
    )


def learnt_lines(result: Result) -> list[str]:
    """Say what each party learnt."""
    released = f"{result.released_z_per_row} values of z for each training row"
    return [
        "data owner learnt: row count, schedule, shapes, and that the run finished; no label",
        f"label owner learnt: {released}; from rows it knows it can estimate the features of the others",
    ]
