"""`python -m alphaction.checkpoint inspect FILE`: a script, so it stands above the whole package."""

from __future__ import annotations

import argparse
import sys

from alphaction.checkpoint.contents import read_contents
from alphaction.engine.inspection.report import config_files, fit_table, load_report
from alphaction.engine.script import run_script

_EPILOG = """
Nothing in the file is executed. Exit status: 0 the file was read (and fits, where --config-file is given), 1 it cannot
be read or does not fit, 2 wrong arguments.
"""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m alphaction.checkpoint", description="Looks into weight files.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    inspect = commands.add_parser(
        "inspect",
        help="what a file holds and which configuration it fits",
        description="Tells what a weight file or checkpoint holds and which configuration it fits.",
        epilog=_EPILOG,
    )
    inspect.add_argument(
        "file", metavar="FILE", help="a weight file of this program, of the original or of a project of MODEL_ZOO.md"
    )
    inspect.add_argument(
        "--config-file",
        nargs="+",
        metavar=("YAML", "KEY VALUE"),
        help="show what loading into this configuration would do, with these keys changed",
    )
    inspect.add_argument(
        "--config-folder", metavar="FOLDER", help="compare with all .yaml files of this folder (default: config_files)"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    run_script(lambda: _inspect(args))


def _inspect(args: argparse.Namespace) -> None:
    contents = read_contents(args.file)
    print(contents.text())
    if not args.config_file:
        print(fit_table(contents, config_files(args.config_folder)))
        return
    fit, text = load_report(contents, args.config_file[0], args.config_file[1:])
    print(text)
    if fit.verdict != "fits":
        sys.exit(1)


if __name__ == "__main__":
    main()
