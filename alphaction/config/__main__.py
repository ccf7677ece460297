"""`python -m alphaction.config [WORD ...]`: what the keys of the configuration mean."""

from __future__ import annotations

import argparse
import signal
import sys
import textwrap

from alphaction.config.reference import find_keys, reference_page


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m alphaction.config",
        description="Shows the keys whose name or meaning has all the given words; without words, all keys.",
        epilog="Exit status: 0 something was found, 1 nothing was, 2 wrong arguments.",
    )
    parser.add_argument("words", metavar="WORD", nargs="*", help="part of a key's name or of its meaning")
    parser.add_argument("--page", action="store_true", help="print the whole page docs/CONFIG.md instead")
    args = parser.parse_args(arguments)
    if args.page and args.words:
        parser.error("--page takes no words")
    return args


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    if args.page:
        print(reference_page(), end="")
        return
    found = find_keys(args.words)
    if not found:
        sys.exit(f"no key has {' and '.join(map(repr, args.words))} in its name or meaning")
    for text in found:
        allowed = f"   ({text.allowed})" if text.allowed else ""
        print(f"{text.key} = {text.default}{allowed}")
        if text.meaning:
            print(textwrap.indent(textwrap.fill(text.meaning, 110), "    "))


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a word
    main()
