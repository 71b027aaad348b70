"""The files of a prediction run, see `vovnet.media.prediction_files`."""

from vovnet.media.prediction_files import CSV_COLUMNS as CSV_COLUMNS
from vovnet.media.prediction_files import PredictionWriter as PredictionWriter
