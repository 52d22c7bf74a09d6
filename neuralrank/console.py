"""What commands print with: ids, texts and paths stay as they are.

rich would read [brackets] in them as markup.
"""

import os
import sys
from typing import Any

from rich.console import Console

__all__ = ["plain_console", "table_console"]


def plain_console(**options: Any) -> Console:
    """rich's console, with its `options`, for what is not written in markup."""
    return Console(markup=False, **options)


def table_console() -> Console:
    """Standard output, for wide tables. Where it is no terminal: as wide as COLUMNS says, else
    160."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        return plain_console()
    return plain_console(width=160)
