"""One run to be trained: its configuration and the places of its files. Does not import PyTorch."""

from dataclasses import dataclass
from pathlib import Path

from afmp.study.run_config import RunConfig


@dataclass(frozen=True)
class Run:
    """One run of the study under one semantics, with all its random seeds.

    `seed_folders` maps each seed to the folder of its files. `checkpoint_folder` contains the checkpoints of all seeds.
    """

    name: str
    semantics: str
    config: RunConfig
    seed_folders: dict[int, Path]
    checkpoint_folder: Path

    def __str__(self) -> str:
        return f"{self.name} [{self.semantics}]"
