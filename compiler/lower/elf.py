"""What a shared library leaves to the process that loads it: the undefined names in the dynamic symbol table of an ELF file."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_HEADER = struct.Struct("<16s HHI QQQ I HHHHHH")
_SECTION = struct.Struct("<II QQQQ II QQ")
_SYMBOL = struct.Struct("<I BBH QQ")
_MAGIC = b"\x7fELF\x02\x01"
"""An ELF file of 64-bit words, least significant byte first: the only kind there is for x86-64 and aarch64 under Linux."""

_DYNAMIC_SYMBOLS = 11
"""``SHT_DYNSYM`` of the System V ABI, chapter "Sections"."""


@dataclass(frozen=True)
class _Section:
    kind: int
    offset: int
    size: int
    link: int


def undefined_symbols(library: bytes) -> list[str]:
    """Names a library expects from elsewhere, in the order of its dynamic symbol table.

    Raises ValueError for bytes that are no whole 64-bit little-endian ELF file.
    """
    if not library.startswith(_MAGIC):
        raise ValueError("Expected a 64-bit little-endian ELF file, found something else.")
    try:
        sections = _sections(library)
        names = []
        for table in sections:
            if table.kind == _DYNAMIC_SYMBOLS:
                strings = sections[table.link].offset
                first = table.offset + _SYMBOL.size  # entry 0 is no symbol
                for start in range(first, table.offset + table.size, _SYMBOL.size):
                    name, _, _, section, _, _ = _SYMBOL.unpack_from(library, start)
                    if section == 0:
                        names.append(library[strings + name : library.index(b"\0", strings + name)].decode())
        return names
    except (struct.error, IndexError) as error:
        raise ValueError("Expected a whole ELF file, found one that is cut short.") from error


def _sections(library: bytes) -> list[_Section]:
    header = _HEADER.unpack_from(library)
    start, entry_size, count = header[6], header[11], header[12]
    found = []
    for index in range(count):
        _, kind, _, _, offset, size, link, _, _, _ = _SECTION.unpack_from(library, start + index * entry_size)
        found.append(_Section(kind, offset, size, link))
    return found
