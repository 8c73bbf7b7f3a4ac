"""The command line: `ragstone index | search | ask | eval | ...`, each verb thin over the library.

Results go to stdout, everything else to stderr; an error is one line that names the cure.
"""

import os
import sys
from collections.abc import Sequence

from ..errors import RagstoneError

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code (see `ragstone --help`)."""
    from .parser import build_parser

    arguments = build_parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except RagstoneError as error:
        if os.environ.get("RAGSTONE_DEBUG") == "1":
            raise
        print(f"ragstone: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("ragstone: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`ragstone search ... | head -1`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if os.environ.get("RAGSTONE_DEBUG") == "1":
            raise
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        hint = "This is a defect of ragstone; RAGSTONE_DEBUG=1 shows where it happened"
        print(f"ragstone: unexpected {said}. {hint}", file=sys.stderr)
        return 1
    return 0
