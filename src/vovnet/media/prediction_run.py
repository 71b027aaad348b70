"""A prediction run: its results go to its files, and what cannot be read or drawn is said and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vovnet.errors import counted, describe
from vovnet.files import is_full
from vovnet.media.prediction_files import Predicted, PredictionWriter
from vovnet.media.results import Failure


@dataclass
class Done:
    """What was predicted and written.

    detections: of each class.
    images: images and frames that were predicted on.
    unread: sources that could not be read.
    failures: source and reason of what could not be read or drawn.
    """

    detections: dict[str, int]
    images: int = 0
    unread: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)

    def sentences(self, output: Path) -> list[str]:
        found = counted(sum(self.detections.values()), "detection")
        said = [f"{counted(self.images, 'image or frame', 'images and frames')}, {found}; results in {output}"]
        if self.failures:
            sources = self.images + self.unread
            said.append(f"{len(self.failures)} of {sources} sources could not be read or drawn (see above)")
        return said

    def to_dict(self) -> dict[str, object]:
        return {"images": self.images, "detections": self.detections, "failures": self.failures}


def write_all(
    results: Iterable[Predicted | Failure],
    writer: PredictionWriter,
    class_names: Sequence[str],
    complain: Callable[[str], None],
) -> Done:
    """Write all results. A failure is passed to `complain`, in one sentence, and the rest goes on; but not on a full
    disk, which is an OSError."""
    done = Done(dict.fromkeys(class_names, 0))

    def note(source: str, reason: str) -> None:
        done.failures.append({"source": source, "reason": reason})
        complain(reason)

    for result in results:
        if isinstance(result, Failure):
            note(result.source, result.reason)
            done.unread += 1
            continue
        try:
            writer.write(result)
        except (ValueError, OSError) as error:
            if is_full(error):
                raise
            note(result.source, describe(error))
        done.images += 1
        for name in result.names:
            done.detections[name] += 1
    return done
