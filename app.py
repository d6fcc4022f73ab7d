"""Start the studio: flags, then settings, then the page."""

from __future__ import annotations

import argparse
import sys

from studio import address, settings
from studio.errors import SeedbedError


def main() -> None:
    """Serve until Ctrl-C. Whatever a person can put right ends in one sentence and exit code 2."""
    try:
        wanted = settings.from_environment(**vars(flags().parse_args()))
        chosen = address.free(wanted)
        from studio.ui.app import serve  # after the flags: gradio takes a second, --help should not

        serve(chosen)
    except SeedbedError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


def flags() -> argparse.ArgumentParser:
    """What the command line may say; what it does not say is left to SEEDBED_* and the defaults."""
    parser = argparse.ArgumentParser("app.py", description=__doc__, epilog="Login: SEEDBED_AUTH=user:password")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (7860)")
    parser.add_argument("--next-port", action="store_true", default=None, help="if the port is taken, try the next")
    parser.add_argument("--data-dir", type=settings.folder, help="datasets (data/)")
    parser.add_argument("--saves-dir", type=settings.folder, help="runs (saves/)")
    parser.add_argument("--models-dir", type=settings.folder, help="local models to choose from")
    parser.add_argument("--share-without-login", action="store_true", default=None, help="open address, no login")
    return parser


if __name__ == "__main__":
    main()
