"""`dicom-worker`: the command line. Each subject has a module in `worker.commands`; this one puts them together.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. A user's mistake is one clear message, never a traceback.
"""

from __future__ import annotations

import typer

from worker.commands import (
    adapters,
    calibration,
    conformance,
    database,
    deliveries,
    doctor,
    evaluate,
    fetch,
    infer,
    network,
    review,
    route,
    run,
    settings,
    studies,
    users,
)

app = typer.Typer(
    name="dicom-worker",
    help="A DICOM node that routes studies to MedGemma adapters and returns the results to the PACS. Research only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run.run)
app.command()(network.send)
app.command()(network.echo)
app.command()(fetch.fetch)
app.add_typer(route.app, name="route")
app.command()(infer.infer)
app.command()(studies.studies)
app.command()(studies.study)
app.add_typer(review.app, name="review")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(adapters.app, name="adapters")
app.command()(evaluate.evaluate)
app.command()(calibration.calibrate)
app.command()(calibration.calibrations)
app.add_typer(users.app, name="users")
app.add_typer(database.app, name="db")
app.command()(doctor.doctor)
app.command()(settings.settings)
app.command()(conformance.conformance)


def main() -> None:
    """Run the command line."""
    app()
