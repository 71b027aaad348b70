"""The command itself, which the modules beside this one give its parts."""

from cyclopts import App

from vovnet import __version__

app = App(
    name="vovnet",
    help="Object detection in real time, and what it costs.",
    help_epilogue="An error is one sentence; with --debug it is the whole traceback.",
    version=__version__,
    help_format="markdown",
    suppress_keyboard_interrupt=False,
)
data_app = App(name="data", help="Look at data sets.")
weights_app = App(name="weights", help="Take over weights of others.")
study_app = App(name="study", help="The paper's studies.")
for part in (data_app, weights_app, study_app):
    app.command(part)
