"""The command line: arguments, exit codes, and nothing else."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from moiety.errors import MoietyError
from moiety.net.signals import INTERRUPTED, TERMINATED, handled

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_SIGNALLED = {INTERRUPTED: "interrupted", TERMINATED: "terminated"}

RunFile = Annotated[Path, typer.Argument(help="The party's run file.")]


@app.callback()
def main_options(
    context: typer.Context,
    log_format: Annotated[
        str | None, typer.Option(help="Log events as json or text.", envvar="MOIETY_LOG_FORMAT")
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(help="Least to log: debug, info, warning or error.", envvar="MOIETY_LOG_LEVEL"),
    ] = None,
) -> None:
    """Train a neural network between two organisations under homomorphic encryption."""
    if log_format is None and log_level is None:
        return
    from moiety.cli.logs import log_command

    log_command(context, form=log_format, level=log_level)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to put key, certificate and run file.")],
    role: Annotated[str, typer.Option(help="data-owner or label-owner.")],
    name: Annotated[str, typer.Option(help="This organisation's name, for the certificate.")],
    run: Annotated[str, typer.Option(help="The run's name, the same on both sides.")] = "run-1",
) -> None:
    """Make a key, a certificate and a run file to fill in."""
    from moiety.party.setup import initialise

    printed = initialise(folder, role=role, name=name, run=run)
    typer.echo(f"{folder / 'run.toml'} is ready to fill in; give {folder / 'own.crt'} to the peer")
    typer.echo(f"own fingerprint: {printed}")


@app.command()
def trust(
    run_file: RunFile,
    certificate: Annotated[Path, typer.Argument(help="The certificate that the peer gave you.")],
) -> None:
    """Pin the peer's certificate."""
    from moiety.party.setup import trust as pin

    typer.echo(f"peer's fingerprint: {pin(run_file, certificate)}")
    typer.echo("compare it with the peer by telephone before you train")


@app.command()
def check(
    run_file: RunFile,
    peer: Annotated[bool, typer.Option("--peer", help="Connect to the peer as well.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check run file, certificates and table; show what the table is like and what the peer will learn."""
    from moiety.cli.check import print_findings
    from moiety.party.check import check as check_run

    print_findings(check_run(run_file, peer=peer), as_json=as_json, echo=typer.echo)


@app.command()
def provide(
    run_file: RunFile,
    once: Annotated[bool, typer.Option("--once", help="Answer one run, then stop.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Begin no new training before the unfinished one has ended.")
    ] = False,
) -> None:
    """Data owner: answer the label owner's runs in turn."""
    from moiety.cli.progress import Terminal
    from moiety.net.interrupts import Interrupts
    from moiety.party.data_owner.provide import provide as answer_runs

    with Terminal() as terminal, Interrupts(listener=terminal) as interrupts:
        answer_runs(run_file, once=once, resume=resume, listener=terminal, interrupts=interrupts)


@app.command()
def train(
    run_file: RunFile,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished training.")] = False,
) -> None:
    """Label owner: train with the data owner and save the model."""
    from moiety.cli.progress import Terminal
    from moiety.cli.result import result_lines
    from moiety.net.interrupts import Interrupts
    from moiety.party.label_owner.train import train as train_run

    with Terminal() as terminal, Interrupts(listener=terminal) as interrupts:
        result = train_run(run_file, resume=resume, listener=terminal, interrupts=interrupts)
    for line in result_lines(result):
        typer.echo(line)


@app.command()
def align(run_file: RunFile) -> None:
    """Label owner: find the rows that the data owner has too, and keep their order for later commands."""
    from moiety.cli.progress import Terminal
    from moiety.party.label_owner.align import align as align_rows

    with Terminal() as terminal:
        terminal.say(align_rows(run_file, listener=terminal))


@app.command()
def predict(
    run_file: RunFile,
    output: Annotated[Path, typer.Option(help="CSV file to write.")] = Path("scores.csv"),
) -> None:
    """Label owner: score the table's rows with the saved model."""
    from moiety.cli.progress import Terminal
    from moiety.party.label_owner.predict import predict as score

    with Terminal() as terminal:
        terminal.say(f"{score(run_file, output, listener=terminal)} scores in {output}")


@app.command()
def simulate(
    label_owner: Annotated[
        Path | None, typer.Argument(help="The label owner's run file; an example if left out.")
    ] = None,
    data_owner: Annotated[Path | None, typer.Argument(help="The data owner's run file.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Of the example: blind, joint or acml.")] = None,
    scheme: Annotated[
        str | None, typer.Option(help="Of the example: rlwe, paillier or paillier-legacy.")
    ] = None,
) -> None:
    """Train with both parties in this process, to try run files out."""
    from moiety.cli.progress import Terminal
    from moiety.cli.result import result_lines
    from moiety.demo.demo import simulate_runs

    with Terminal() as terminal:
        result = simulate_runs(label_owner, data_owner, protocol=protocol, scheme=scheme, listener=terminal)
    for line in result_lines(result):
        typer.echo(line)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="A new folder for both parties.")] = Path("demo-run"),
    epochs: Annotated[int, typer.Option(help="Training passes.")] = 10,
) -> None:
    """Two processes train on real data, and the result is compared with training in the clear."""
    from moiety.cli.progress import Terminal
    from moiety.cli.result import demonstration_lines
    from moiety.demo.demo import run_demo

    with Terminal() as terminal:
        shown = run_demo(folder, epochs=epochs, listener=terminal)
    for line in demonstration_lines(shown):
        typer.echo(line)


@app.command()
def plan(
    run_file: RunFile,
    rows: Annotated[int | None, typer.Option(help="Rows, instead of the table's.")] = None,
    in_features: Annotated[
        int | None, typer.Option(help="The data owner's prepared columns, or its bottom model's outputs.")
    ] = None,
    units: Annotated[int | None, typer.Option(help="Of the interactive layer.")] = None,
    batch: Annotated[int | None, typer.Option(help="Rows of one step.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Training passes.")] = None,
    validation: Annotated[float | None, typer.Option(help="Fraction of the rows.")] = None,
    test: Annotated[float | None, typer.Option(help="Fraction of the rows.")] = None,
    activations: Annotated[
        str | None, typer.Option(help="In acml: trained with a bottom model to train, else fixed.")
    ] = None,
    bandwidth: Annotated[
        str | None, typer.Option(help='In each direction: "100 Mbit/s"; loopback if left out.')
    ] = None,
    latency: Annotated[str | None, typer.Option(help='Of a round trip: "50 ms".')] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Forecast what a training will cost and release, from one run file."""
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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Data owner: print what was released so far beside the policy's limits."""
    import json

    from moiety.cli.ledger import ledger_lines, ledger_values

    typer.echo(
        json.dumps(ledger_values(run_file), indent=1) if as_json else "\n".join(ledger_lines(run_file))
    )


@app.command()
def contract(
    run_file: RunFile,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print what the run file commits this side to, and what was agreed, for signing off."""
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
