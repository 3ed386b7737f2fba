"""The command line: arguments, exit codes, and nothing else."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from moiety.errors import MoietyError
from moiety.net.signals import INTERRUPTED, TERMINATED, handled

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_SIGNALLED = {INTERRUPTED: "interrupted", TERMINATED: "terminated"}

RunFile = Annotated[Path, typer.Argument(help="Your own run file, run.toml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def _print_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it with the option's value
    if asked:
        import moiety

        typer.echo(f"moiety {moiety.__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    context: typer.Context,
    *,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
    log_format: Annotated[
        str | None,
        typer.Option(help="Log events to standard error, as json or text.", envvar="MOIETY_LOG_FORMAT"),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(help="Lowest level to log: debug, info, warning or error.", envvar="MOIETY_LOG_LEVEL"),
    ] = None,
) -> None:
    """Train a neural network between two organisations under homomorphic encryption.

    The data owner holds the features, the label owner holds the labels. Each side runs commands on its own
    run file. `moiety demo` shows a whole training on one machine.
    """
    del version
    if log_format is None and log_level is None:
        return
    from moiety.cli.logs import log_command

    log_command(context, form=log_format, level=log_level)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to write to; made if it is not there.")],
    role: Annotated[str, typer.Option(help="data-owner (has features) or label-owner (has labels).")],
    name: Annotated[
        str, typer.Option(help="Your organisation's name in the certificate: a-z, 0-9, dot, hyphen.")
    ],
    run: Annotated[str, typer.Option(help="Name of the run, the same on both sides.")] = "run-1",
) -> None:
    """Make a key, a certificate and a run file to fill in.

    For either party, once. Writes own.key (secret), own.crt (give it to the peer) and run.toml (fill it
    in), and prints the fingerprint of the certificate.
    """
    from moiety.party.setup import initialise

    printed = initialise(folder, role=role, name=name, run=run)
    typer.echo(f"{folder / 'run.toml'} is ready to fill in; give {folder / 'own.crt'} to the peer")
    typer.echo(f"own fingerprint: {printed}")


@app.command()
def trust(
    run_file: RunFile,
    certificate: Annotated[Path, typer.Argument(help="The certificate that the peer gave you: its own.crt.")],
) -> None:
    """Pin the peer's certificate: no other one is accepted.

    For either party, once. Copies the certificate to the place that the run file names and prints its
    fingerprint. Compare the fingerprint with the peer by telephone.
    """
    from moiety.party.setup import trust as pin

    typer.echo(f"peer's fingerprint: {pin(run_file, certificate)}")
    typer.echo("compare it with the peer by telephone before you train")


@app.command()
def check(
    run_file: RunFile,
    peer: Annotated[
        bool, typer.Option("--peer", help="Also connect; a label owner shakes hands, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check run file and table, and list what the peer will learn.

    For either party. Prints a profile of each column, all that the peer is told or sent in a run, and what
    never leaves. Without --peer, nothing is sent and nothing is written.
    """
    from moiety.cli.check import print_findings
    from moiety.party.check import check as check_run

    print_findings(check_run(run_file, peer=peer), as_json=as_json, echo=typer.echo)


@app.command()
def provide(
    run_file: RunFile,
    once: Annotated[bool, typer.Option("--once", help="End after one run.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Refuse a new training until the unfinished one has finished.")
    ] = False,
) -> None:
    """Data owner: answer the label owner's runs, one after the other.

    Runs until Ctrl-C. Writes to the run's folder: checkpoints and this side's share of the model. Writes to
    the ledger what was released. An unfinished training resumes when the label owner resumes it.
    """
    from moiety.net.interrupts import Interrupts
    from moiety.party.data_owner.provide import provide as answer_runs

    with Interrupts(report=typer.echo) as interrupts:
        answer_runs(run_file, once=once, resume=resume, report=typer.echo, interrupts=interrupts)


@app.command()
def train(
    run_file: RunFile,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the unfinished training from its newest checkpoint.")
    ] = False,
) -> None:
    """Label owner: train with the data owner and save the model.

    The data owner has to run `moiety provide`. Prints test metrics, time, traffic and what each side
    learnt. Writes to the run's folder: checkpoints, this side's share of the model, and result.json.
    """
    from moiety.cli.progress import ProgressBar
    from moiety.net.interrupts import Interrupts
    from moiety.party.label_owner.result import result_lines
    from moiety.party.label_owner.train import train as train_run

    with ProgressBar(Console()) as bar, Interrupts(report=bar.notice) as interrupts:
        result = train_run(run_file, resume=resume, observer=bar, interrupts=interrupts)
    for line in result_lines(result):
        typer.echo(line)


@app.command()
def align(run_file: RunFile) -> None:
    """Label owner: find the rows that both tables have, by their ids.

    `moiety train` and `moiety predict` do this by themselves; this command does nothing else. Both sides
    save the common rows in the run's folder, for later commands.
    """
    from moiety.party.label_owner.align import align as align_rows

    typer.echo(align_rows(run_file, report=typer.echo))


@app.command()
def predict(
    run_file: RunFile,
    output: Annotated[Path, typer.Option(help="CSV file to write; must not exist.")] = Path("scores.csv"),
) -> None:
    """Label owner: score the table's rows with the saved model.

    The data owner has to run `moiety provide`, and its policy counts the rows. Writes one line for each
    row: its ids, or its number where there are none, and its score.
    """
    from moiety.party.label_owner.predict import predict as score

    typer.echo(f"{score(run_file, output, report=typer.echo)} scores in {output}")


@app.command()
def simulate(
    label_owner: Annotated[
        Path | None, typer.Argument(help="The label owner's run file; without it, a small example.")
    ] = None,
    data_owner: Annotated[Path | None, typer.Argument(help="The data owner's run file.")] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="Protocol of the example: blind (if left out), joint or acml."),
    ] = None,
    scheme: Annotated[
        str | None,
        typer.Option(help="Encryption of the example: rlwe (if left out), paillier or paillier-legacy."),
    ] = None,
) -> None:
    """Train with both parties in one process, without a network.

    To try two run files out on one machine, which then holds both tables. Writes what `moiety train` and
    `moiety provide` write, but no ledger. The example writes nothing.
    """
    from moiety.cli.progress import ProgressBar
    from moiety.demo.demo import simulate_runs
    from moiety.party.label_owner.result import result_lines

    with ProgressBar(Console()) as bar:
        result = simulate_runs(label_owner, data_owner, protocol=protocol, scheme=scheme, observer=bar)
    for line in result_lines(result):
        typer.echo(line)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to make; must not exist.")] = Path("demo-run"),
    epochs: Annotated[int, typer.Option(help="Passes over the training rows.")] = 10,
) -> None:
    """Show a whole training on this machine, with real data.

    Starts a data owner and a label owner as two processes, aligns their tables and trains. Then trains in
    the clear and prints both results. Writes both parties' folders.
    """
    from moiety.demo.demo import run_demo

    run_demo(folder, epochs=epochs, console=Console())


@app.command()
def plan(
    run_file: RunFile,
    rows: Annotated[int | None, typer.Option(help="Rows that both tables have.")] = None,
    in_features: Annotated[
        int | None, typer.Option(help="The data owner's prepared columns, or its bottom model's outputs.")
    ] = None,
    units: Annotated[int | None, typer.Option(help="Outputs of the interactive layer.")] = None,
    batch: Annotated[int | None, typer.Option(help="Rows of one step.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training rows.")] = None,
    validation: Annotated[float | None, typer.Option(help="Fraction of rows that validate.")] = None,
    test: Annotated[float | None, typer.Option(help="Fraction of rows that test.")] = None,
    activations: Annotated[
        str | None,
        typer.Option(help="In acml: trained if the data owner trains a bottom model, else fixed."),
    ] = None,
    bandwidth: Annotated[
        str | None, typer.Option(help='In each direction: "100 Mbit/s"; unlimited if left out.')
    ] = None,
    latency: Annotated[str | None, typer.Option(help='Of a round trip: "50 ms"; none if left out.')] = None,
    as_json: AsJson = False,
) -> None:
    """Forecast bytes, seconds, memory and released z of a training.

    For either party, from its own run file. An option replaces what the run file says, or says what only
    the peer's run file has. Connects to nobody and writes nothing.
    """
    import json

    from moiety.cli.plan import plan_lines, plan_values
    from moiety.party.plan.cost import parse_line
    from moiety.party.plan.options import Options
    from moiety.party.plan.plan import plan as plan_run

    options = Options(
        rows=rows,
        in_features=in_features,
        units=units,
        batch=batch,
        epochs=epochs,
        validation=validation,
        test=test,
        activations=activations,
    )
    planned = plan_run(run_file, options, line=parse_line(bandwidth, latency))
    typer.echo(json.dumps(plan_values(planned), indent=1) if as_json else "\n".join(plan_lines(planned)))


@app.command()
def ledger(
    run_file: RunFile,
    as_json: AsJson = False,
) -> None:
    """Data owner: print what was released, beside the policy's limits.

    Totals over all runs with this peer on this table. Can be asked while `moiety provide` runs.
    """
    import json

    from moiety.cli.ledger import ledger_lines, ledger_values

    typer.echo(
        json.dumps(ledger_values(run_file), indent=1) if as_json else "\n".join(ledger_lines(run_file))
    )


@app.command()
def contract(
    run_file: RunFile,
    as_json: AsJson = False,
) -> None:
    """Print what is to be signed off, with digests to compare.

    For either party. Before the first session: what both run files have to say alike, and what this one
    adds. After it: also what both parties agreed on. Writes nothing.
    """
    import json

    from moiety.cli.contract import contract_lines, contract_values

    typer.echo(
        json.dumps(contract_values(run_file), indent=1) if as_json else "\n".join(contract_lines(run_file))
    )


def main(arguments: list[str] | None = None) -> Any:
    """Run a command; errors end as `error:` and `hint:` with the exit code of their kind."""
    try:
        with handled():
            app(arguments, prog_name="moiety")
    except MoietyError as error:
        typer.echo(f"error: {error.message}", err=True)
        if error.hint:
            typer.echo(f"hint: {error.hint}", err=True)
        _log_failure(error)
        sys.exit(error.exit_code)
    except SystemExit as end:
        # Typer passes Ctrl-C on without a word, and so does `signals` SIGTERM.
        if end.code in _SIGNALLED:
            typer.echo(_SIGNALLED[end.code], err=True)
        raise


def _log_failure(error: MoietyError) -> None:
    from moiety.net.events import COMMAND_FAILED, Log

    Log().emit(COMMAND_FAILED, error=type(error).__name__, exit_code=error.exit_code)
