"""The command `vovnet` and its groups; the modules beside this one add the commands."""

from cyclopts import App

from vovnet import __version__

app = App(
    name="vovnet",
    help="Train and run small, real-time object detectors, and measure what any PyTorch model costs.",
    help_epilogue=(
        "Errors are printed as one line; --debug shows the traceback. --limit NAME=VALUE raises a limit for files, "
        "such as image_pixels; docs/limits.md names them."
    ),
    version=__version__,
    help_format="markdown",
    suppress_keyboard_interrupt=False,
)
data_app = App(name="data", help="Check, split, convert and show datasets.")
weights_app = App(name="weights", help="Import weights from other projects, push them to the Hugging Face Hub.")
config_app = App(name="config", help="Show configs.")
study_app = App(name="study", help="Run the paper's aggregation study.")
for group in (config_app, data_app, weights_app, study_app):
    app.command(group)
