"""Who may read what the adapter writes: its own user and group, nobody else.

Studies, values of patients in the embedded platform's job metadata and the site's secret lie in the data folder.
"""

import os
from typing import Final

_NOT_FOR_OTHERS: Final = 0o027


def keep_private() -> None:
    """Let this process and its children make files that others cannot read; a stricter umask stays as it is."""
    os.umask(os.umask(_NOT_FOR_OTHERS) | _NOT_FOR_OTHERS)
