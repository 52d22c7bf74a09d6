"""What commands print with: ids, texts and paths stay as they are.

rich would read [brackets] in them as markup.
"""

from typing import Any

from rich.console import Console

__all__ = ["plain_console"]


def plain_console(**options: Any) -> Console:
    """rich's console, with its `options`, for what is not written in markup."""
    return Console(markup=False, **options)
