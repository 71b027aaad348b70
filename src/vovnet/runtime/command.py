"""The command `vovnet-runtime`: predict with exported detectors, without PyTorch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from vovnet import __version__
from vovnet.console import (
    BROKEN_PIPE,
    apply_limits,
    complain,
    flush,
    guarded_terminal,
    one_sentence,
    open_closed_streams,
    out_of_memory,
)
from vovnet.errors import UsageError, describe
from vovnet.printing import CELL, PARAGRAPH, SENTENCE, line
from vovnet.runtime.options import BATCH_SIZE, SCORE_THRESHOLD, TOP_K, labels_of, shown_thresholds
from vovnet.runtime.tiles import MOST_OVERLAP, OVERLAP, SMALLEST, tiles_hint, tiling_of

if TYPE_CHECKING:
    from vovnet.runtime.detector import Detector

N = TypeVar("N", int, float)


def main() -> None:
    """Run the command line; an error is a single sentence, with --debug the traceback."""
    debug = "--debug" in sys.argv[1:]
    open_closed_streams()
    try:
        with guarded_terminal():
            status = _run([word for word in sys.argv[1:] if word != "--debug"], debug=debug)
    except BrokenPipeError:  # whoever read the output, as `head`, has enough of it
        status = BROKEN_PIPE
    sys.exit(flush(status))


def _run(arguments: Sequence[str], *, debug: bool) -> int:
    """What the command returns, or the exit status of its error."""
    try:
        options = make_parser().parse_args(list(apply_limits(arguments)))
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:
        if debug:
            raise
        text = line(describe(error), SENTENCE)
        complain(out_of_memory(error, text, "lower --batch-size or scale the images down") or one_sentence(error, text))
        return 2 if isinstance(error, UsageError) else 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. See {self.prog} --help.")


def _number(kind: type[N], least: N, most: N | None = None) -> Callable[[str], N]:
    def parse(text: str) -> N:
        try:
            value = kind(text)
        except ValueError:
            value = kind(least - 1)
        if not (value >= least and (most is None or value <= most)):
            limit = f"of at least {least}" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"expected a number {limit}, got {line(text, 60)}")
        return value

    return parse


def _file_or_dash(text: str) -> str:
    if text.startswith("-") and text != "-":
        raise argparse.ArgumentTypeError(f'expected a file or "-", got {line(text, 60)}')
    return text


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="vovnet-runtime",
        description="Detect objects with a detector that vovnet exported, without PyTorch.",
        epilog="Every command takes --limit NAME=VALUE, which raises a limit for foreign files, and --debug.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    predict = commands.add_parser(
        "predict",
        allow_abbrev=False,
        help="detect objects in images and videos",
        description="Detect objects in images and videos; write images with drawn detections, COCO JSON and CSV.",
    )
    _add_model(predict)
    predict.add_argument(
        "sources", nargs="*", metavar="SOURCE", help="images, folders, glob patterns, videos, http(s) URLs of images"
    )
    predict.add_argument(
        "--output",
        type=Path,
        default=Path("runs/predict"),
        help="folder for drawn/, detections.json and detections.csv (default: %(default)s)",
    )
    _add_choice(predict)
    predict.add_argument(
        "--batch-size", type=_number(int, 1), default=BATCH_SIZE, help="images per pass (default: %(default)s)"
    )
    _add_tiles(predict)
    predict.add_argument("--no-draw", action="store_true", help="write no images and videos with drawn detections")
    predict.add_argument(
        "--contours", action="store_true", help="write masks as polygons, without holes, instead of run-length codes"
    )
    predict.add_argument("--json", type=_file_or_dash, metavar="FILE", help='write the results as JSON, "-" to stdout')
    predict.set_defaults(command=_predict)

    info = commands.add_parser(
        "info", allow_abbrev=False, help="what the file says of itself", description="Print what a file says of itself."
    )
    _add_model(info)
    info.add_argument("--json", type=_file_or_dash, metavar="FILE", help='write it as JSON, "-" to stdout')
    info.set_defaults(command=_info)

    serve = commands.add_parser(
        "serve",
        allow_abbrev=False,
        help="answer over HTTP",
        description="Answer over HTTP: POST an image to /, get its detections as JSON. GET / says what runs.",
    )
    _add_model(serve)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument(
        "--port", type=_number(int, 0, 65535), default=8000, help="0 chooses a free one (default: %(default)s)"
    )
    _add_choice(serve)
    _add_tiles(serve)
    serve.set_defaults(command=_serve)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="file or folder that vovnet export wrote")
    parser.add_argument(
        "--runtime", choices=("onnxruntime", "openvino", "mnn"), help="default: the one that the file was made for"
    )
    parser.add_argument("--threads", type=_number(int, 1), help="CPU threads (default: the runtime's own choice)")


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--score-threshold",
        type=_number(float, 0.0, 1.0),
        help="leave out detections with a lower score (default: for each class the one stored in MODEL, else 0.3)",
    )
    parser.add_argument(
        "--top-k",
        type=_number(int, 1),
        default=TOP_K,
        help="keep at most this many detections per image (default: %(default)s)",
    )
    parser.add_argument("--classes", action="append", help="keep only this class; repeat the option for more")


def _add_tiles(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tiles",
        type=_number(int, SMALLEST),
        metavar="PIXELS",
        help="detect in overlapping tiles of this many pixels too, for small objects",
    )
    parser.add_argument(
        "--overlap",
        type=_number(float, 0.0, MOST_OVERLAP),
        metavar="SHARE",
        help=f"share of its side that a tile has in common with the next (default: {OVERLAP})",
    )


def _load(options: argparse.Namespace) -> Detector:
    from vovnet.runtime.detector import load

    return load(options.model, options.runtime, options.threads)


def _predict(options: argparse.Namespace) -> int:
    from vovnet.folder_lock import folder_lock
    from vovnet.media.prediction_files import PredictionWriter
    from vovnet.media.prediction_run import write_all

    if not options.sources:
        raise UsageError("name images, folders, glob patterns, videos or URLs to predict on")
    detector = _load(options)
    if options.contours and not detector.info.masks:
        raise UsageError(f"--contours needs a detector with masks; {options.model} predicts boxes only: leave it out")
    draw, output = not options.no_draw, options.output
    say = _sayer(options.json)
    if hint := tiles_hint(detector.info.record, options.tiles):
        say(line(hint, PARAGRAPH))
    if options.score_threshold is None and detector.score_thresholds is not None:
        say(line(shown_thresholds(detector.score_thresholds, detector.class_names), PARAGRAPH))
    try:
        results = detector.stream(
            options.sources,
            score_threshold=options.score_threshold,
            top_k=options.top_k,
            classes=options.classes,
            batch_size=options.batch_size,
            tiles=options.tiles,
            overlap=options.overlap,
            keep_images=draw,
            output=output,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    with folder_lock(output), PredictionWriter(output, draw=draw, contours=options.contours) as writer:
        done = write_all(results, writer, detector.class_names, complain)
    rows = [[name, str(count)] for name, count in done.detections.items()]
    for row in _table([["class", "detections"], *rows]):
        say(row)
    say("")
    for sentence in done.sentences(output):
        say(line(sentence, PARAGRAPH))
    _write_json(options.json, {**done.to_dict(), "output": str(output)})
    return 1 if done.failures else 0


def _info(options: argparse.Namespace) -> int:
    import json

    detector = _load(options)
    stated = {**detector.info.to_dict(), "runtime": detector.session.runtime}
    say = _sayer(options.json)
    for row in _table([[name, _shown(value, json.dumps)] for name, value in stated.items()]):
        say(row)
    _write_json(options.json, stated)
    return 0


def _serve(options: argparse.Namespace) -> int:
    from vovnet.runtime.service import serve

    tiling_of(options.tiles, options.overlap)
    detector = _load(options)
    threshold = options.score_threshold
    if threshold is None and detector.score_thresholds is None:
        threshold = SCORE_THRESHOLD
    if options.classes is not None:
        try:
            labels_of(options.classes, detector.class_names)
        except ValueError as error:
            raise UsageError(str(error)) from None
    say = _sayer(None)
    if hint := tiles_hint(detector.info.record, options.tiles):
        say(line(hint, PARAGRAPH))
    chosen = {name: getattr(options, name) for name in ("top_k", "classes", "tiles", "overlap")}
    serve(detector, options.host, options.port, {"score_threshold": threshold, **chosen}, say)
    return 0


def _shown(value: object, as_json: Callable[[object], str]) -> str:
    return value if isinstance(value, str) else as_json(value)


def _sayer(json_file: str | None) -> Callable[[str], None]:
    """Prints a safe line to stdout, or to stderr if the JSON goes to stdout."""
    stream = sys.stderr if json_file == "-" else sys.stdout

    def say(text: str) -> None:
        print(text, file=stream, flush=True)

    return say


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Two columns, the first as wide as its longest cell. Cells are foreign text."""
    shown = [[line(cell, CELL) for cell in row] for row in rows]
    width = max(len(first) for first, _ in shown)
    return [f"{first:{width}}  {second}" for first, second in shown]


def _write_json(json_file: str | None, content: object) -> None:
    from vovnet.files import json_text, write_json

    if json_file == "-":
        print(json_text(content))
    elif json_file is not None:
        write_json(json_file, content)
