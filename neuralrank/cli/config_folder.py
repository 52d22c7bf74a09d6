"""Where commands find the files of OpenSearch's side: mappings, analyzers, query, pipelines."""

from pathlib import Path

from neuralrank.errors import NotFound
from neuralrank.settings import load_settings
from opensearch_config import FOLDER

__all__ = ["config_folder"]


def config_folder(given: Path | None = None) -> Path:
    """The folder of the files: that of a flag, else of NEURALRANK_CONFIG_FOLDER, else the files
    that neuralrank came with. All commands ask here, so that `neuralrank index` makes the index
    that `neuralrank config apply` compares.

    Raises:
        NotFound: there is no such folder.
    """
    folder = load_settings(config_folder=given).config_folder
    if folder is None:
        return FOLDER
    if not folder.is_dir():
        named, do = (
            ("NEURALRANK_CONFIG_FOLDER", "unset it")
            if given is None
            else ("--folder", "leave it out")
        )
        raise NotFound(
            f"{named} is {str(folder)!r}, and no folder is there. Name one that `neuralrank config "
            f"export` wrote, or {do} for the files that neuralrank came with."
        )
    return folder.resolve()
