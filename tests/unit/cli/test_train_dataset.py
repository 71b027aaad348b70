"""What `vovnet train DIR` says at its end."""

from pathlib import Path

from vovnet.cli.train_dataset import _next_commands
from vovnet.engine.config import TrainConfig
from vovnet.engine.config_file import validated

SAMPLES = Path(__file__).parents[3] / "samples/bccd"


def test_the_next_commands_use_the_tiles_of_the_training() -> None:
    values = {
        "model": "ssdfpn320_vovnet19_tiny",
        "data": {"root": str(SAMPLES), "val": "val", "tiles": {"size": 640, "overlap": 0.35}},
        "schedule": {"epochs": 1},
        "batch_size": 8,
        "micro_batch_size": 8,
        "output": "runs/mine",
    }
    commands = [command for command, _ in _next_commands(validated(TrainConfig, values, "test"))]
    tiled = [command for command in commands if command.endswith(" --tiles 640 --overlap 0.35")]
    assert [command.split()[:2] for command in tiled] == [
        ["vovnet", "evaluate"],
        ["vovnet", "predict"],
        ["vovnet-runtime", "predict"],
    ]
