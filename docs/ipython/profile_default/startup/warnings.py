"""Shows a warning on a page by its kind and its words; where it came from there is a temporary file."""

import warnings


def _shown(message: Warning | str, category: type[Warning], *where: object) -> str:
    return f"{category.__name__}: {message}\n"


warnings.formatwarning = _shown
