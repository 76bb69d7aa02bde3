"""Reading ``.pt2`` files without ever running what they contain.

``torch.export.load`` unpickles some members of the archive, evaluates symbolic sizes as Python and resolves operators by
dotted name. A file from a stranger must do none of this, so before torch reads it, the same archive reader shows that

1. no weight or constant is pickled (what ``torch.export.save`` writes for ordinary tensors is raw bytes),
2. the sample inputs are tensors and containers, readable with ``weights_only=True``,
3. every operator is one of torch's own operator libraries or a plain arithmetic one,
4. every symbolic size is arithmetic over names and numbers,
5. nothing is compiled code.
"""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.pt2_archive import constants as archive
from torch.export.pt2_archive._package import PT2ArchiveReader, load_pt2

from tapdot.compiler.errors import ModelError
from tapdot.compiler.frontends.model_file import check_is_file

_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|higher_order|quantized_decomposed|torchvision)\.\w+(\.\w+)?|_operator\.\w+|math\.\w+|torch\.sym_\w+"
)
_SIZE = re.compile(
    r"(?:[su]\d+|Max|Min|FloorDiv|CleanDiv|Mod|PythonMod|Eq|Ne|Le|Lt|Ge|Gt|True|False|int_oo|oo|\d+|[\s()+\-*/,<>=&|~])*"
)


def read_pt2(path: Path) -> ExportedProgram:
    """The exported program in a file; raises ModelError where there is none, or where reading it would run code."""
    check_is_file(path)
    damaged = (
        f"Expected a torch.export archive in {str(path)!r}, found {path.stat().st_size} bytes that do not read as one: the "
        "file is damaged, of another format, or from another version of torch; save it again with torch.export.save."
    )
    try:
        with PT2ArchiveReader(str(path)) as reader:
            reason = _danger(reader)
    except Exception as error:  # torch's reader and json report by several exception types
        raise ModelError(damaged) from error
    if reason:
        raise ModelError(
            f"Refusing to read {str(path)!r}: {reason}, and reading that would run code from the file. Save the model again "
            "with torch.export.save, from plain tensors and torch's own operators."
        )
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch._export")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        programs = load_pt2(str(path)).exported_programs
    except Exception as error:  # as above
        raise ModelError(damaged) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    if len(programs) != 1:
        raise ModelError(f"Expected one exported program in {str(path)!r}, found {len(programs)}; save one model a file.")
    return next(iter(programs.values()))


def _danger(reader: PT2ArchiveReader) -> str:
    """The first thing in the archive that would run code when read, or an empty string."""
    names = reader.get_file_names()
    for name in names:
        if name.startswith(archive.AOTINDUCTOR_DIR):
            return f"it holds compiled code ({name})"
        if name.startswith(archive.SAMPLE_INPUTS_DIR):
            data = reader.read_bytes(name)
            try:
                if data:
                    torch.load(io.BytesIO(data), weights_only=True)
            except Exception:  # an unpickling error of whatever kind
                return "its sample inputs are pickled objects other than tensors"
        elif name.startswith((archive.WEIGHTS_DIR, archive.CONSTANTS_DIR)):
            if name.endswith("_config.json"):
                for key, entry in json.loads(reader.read_string(name))["config"].items():
                    if entry["use_pickle"] or not entry["path_name"].startswith(
                        (archive.WEIGHT_FILENAME_PREFIX, archive.TENSOR_CONSTANT_FILENAME_PREFIX)
                    ):
                        return f"{key!r} is stored as a pickled object"
            elif name.endswith(".pt"):
                return f"its weights are pickled ({name})"
        elif name.startswith(archive.MODELS_DIR):
            for key, text in _strings(json.loads(reader.read_string(name))):
                if key == "target" and text.startswith(("torch", "_operator", "math", "#")) and not _OPERATOR.fullmatch(text):
                    return f"it calls {text!r}"
                if key == "expr_str" and not _SIZE.fullmatch(text):
                    return f"it computes a size as {text!r}"
    return ""


def _strings(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string of a JSON document with the key it stands under."""
    if isinstance(tree, str):
        yield key, tree
    elif isinstance(tree, dict):
        for name, part in tree.items():
            yield from _strings(part, name)
    elif isinstance(tree, list):
        for part in tree:
            yield from _strings(part, key)
