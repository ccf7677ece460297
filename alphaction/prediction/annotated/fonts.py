"""Text for pictures in any script for which the machine has a font."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from alphaction.errors import UserError

logger = logging.getLogger(__name__)

_ELLIPSIS = "..."
_NOT_A_CHARACTER = "\U0010fffe"  # its glyph is the one of all that a font lacks

# Fonts of systems that have many characters, by file name.
_WIDE = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "wqy-zenhei.ttc",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "DroidSansFallback.ttf",
    "PingFang.ttc",
    "Arial Unicode.ttf",
    "msyh.ttc",
    "malgun.ttf",
    "meiryo.ttc",
    "NotoSansDevanagari-Regular.ttf",
    "FreeSans.ttf",
)


class Font:
    """Draws and measures lines of text of one height.

    Attributes:
        size: pixels.
        line: pixels from one line to the next.
    """

    def __init__(self, size: int, *, path: str | Path | None = None) -> None:
        """
        Args:
            size: height in pixels.
            path: a font file (TTF, OTF, TTC) to be tried first.

        Raises:
            UserError: `path` is no font.
        """
        self.size = size
        self.line = round(1.3 * size)
        self._fonts: list[ImageFont.FreeTypeFont] = []
        if path is not None:
            try:
                self._fonts.append(ImageFont.truetype(str(path), size))
            except OSError as error:
                raise UserError(f"{path}: not a font that can be read ({error})") from error
        self._more = _system_fonts(size)
        self._chosen: dict[str, ImageFont.FreeTypeFont] = {}
        self._missing: set[str] = set()

    def width(self, text: str) -> int:
        """Pixels."""
        return round(sum(font.getlength(part) for part, font in self._parts(text)))

    def shorten(self, text: str, width: int) -> str:
        """The text, its end cut off where it is wider than `width` pixels."""
        if self.width(text) <= width:
            return text
        fitting, too_long = 0, len(text)
        while too_long - fitting > 1:
            middle = (fitting + too_long) // 2
            if self.width(text[:middle].rstrip() + _ELLIPSIS) <= width:
                fitting = middle
            else:
                too_long = middle
        return text[:fitting].rstrip() + _ELLIPSIS if fitting else ""

    def draw(self, picture: np.ndarray, *, lines: list[tuple[int, int, str, tuple[int, int, int]]]) -> np.ndarray:
        """Draws lines of text.

        Args:
            picture: uint8 [h, w, 3] RGB.
            lines: x and y of the upper left corner in pixels, text, colour.

        Returns:
            A new picture.
        """
        image = Image.fromarray(picture)
        canvas = ImageDraw.Draw(image)
        for left, top, text, colour in lines:
            x = float(left)
            for part, font in self._parts(text):
                canvas.text((x, top + 1.05 * self.size), part, fill=colour, font=font, anchor="ls")
                x += font.getlength(part)
        return np.asarray(image)

    def _parts(self, text: str) -> list[tuple[str, ImageFont.FreeTypeFont]]:
        """Runs of characters of one font; those that no font has become '?'."""
        parts: list[tuple[str, ImageFont.FreeTypeFont]] = []
        for character in text:
            character = " " if character.isspace() else character  # of one line: Pillow refuses line ends
            font = self._font(character)
            shown = "?" if character in self._missing else character
            if parts and parts[-1][1] is font:
                parts[-1] = (parts[-1][0] + shown, font)
            else:
                parts.append((shown, font))
        return parts

    def _font(self, character: str) -> ImageFont.FreeTypeFont:
        if character not in self._chosen:
            self._chosen[character] = self._look_up(character)
        return self._chosen[character]

    def _look_up(self, character: str) -> ImageFont.FreeTypeFont:
        for font in self._fonts:
            if _has(font, character):
                return font
        for font in self._more:
            self._fonts.append(font)
            if _has(font, character):
                return font
        if not self._fonts:
            raise UserError("no font is found to label the video with; name one, or do without the video")
        if not self._missing:
            logger.warning(
                "no font is found that has the character %r: labels show '?'; name one that has it", character
            )
        self._missing.add(character)
        return self._fonts[0]


def _has(font: ImageFont.FreeTypeFont, character: str) -> bool:
    if character.isspace():
        return True
    glyph, missing = font.getmask(character), font.getmask(_NOT_A_CHARACTER)
    return glyph.size != missing.size or bytes(glyph) != bytes(missing)


def _system_fonts(size: int) -> Iterator[ImageFont.FreeTypeFont]:
    """Fonts in the order in which they are tried: a common one, Pillow's own, wide ones."""
    for name in (_matplotlib_font(), "DejaVuSans.ttf", "arial.ttf", "Arial.ttf"):
        font = None if name is None else _font_file(str(name), size)
        if font is not None:
            yield font
            break
    own = ImageFont.load_default(size)
    if isinstance(own, ImageFont.FreeTypeFont):
        yield own
    for name in _WIDE:
        font = _font_file(name, size)
        if font is None:
            found = _found_fonts().get(name.lower())
            font = None if found is None else _font_file(found, size)
        if font is not None:
            yield font


def _matplotlib_font() -> Path | None:
    """DejaVu Sans, which matplotlib brings along; without importing it, which takes a second."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"


def _font_file(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


@lru_cache(maxsize=1)
def _found_fonts() -> dict[str, str]:
    """Font files by lower-case name, of places where Pillow does not look."""
    places = [Path.home() / ".fonts", Path.home() / ".local/share/fonts", Path("/usr/share/fonts")]
    if sys.platform == "darwin":
        places = [Path("/System/Library/Fonts"), Path("/Library/Fonts"), Path.home() / "Library/Fonts"]
    files = [Path(folder) / name for place in places for folder, _, names in os.walk(place) for name in names]
    return {file.name.lower(): str(file) for file in files}
