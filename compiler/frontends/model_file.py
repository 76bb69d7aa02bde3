"""Which files are models: what can be said of one before anything that reads it is loaded."""

from __future__ import annotations

from pathlib import Path

from tapdot.compiler.errors import ModelError

ONNX, PT2 = ".onnx", ".pt2"
PICKLES = (".pt", ".pth", ".pkl", ".bin", ".ckpt")


def check_model_file(path: Path) -> str:
    """The suffix, ``.onnx`` or ``.pt2``, of a model's file; raises ModelError for another and where there is no file."""
    suffix = path.suffix.lower()
    if suffix in PICKLES:
        raise ModelError(
            f"Expected a model as .onnx or .pt2, found {str(path)!r}, which is usually a pickle, and pickles are never "
            "loaded; save the model with torch.export.save(torch.export.export(module.eval(), example_inputs), 'model.pt2')."
        )
    if suffix == ".tapdot":
        raise ModelError(
            f"Expected a model as .onnx or .pt2, found {str(path)!r}, which is a package, compiled already; verify, measure and "
            "run take packages."
        )
    if suffix not in (ONNX, PT2):
        raise ModelError(f"Expected a model as .onnx or .pt2, found {str(path)!r}; rename the file if it is one of them.")
    check_is_file(path)
    return suffix


def check_is_file(path: Path) -> None:
    """Raises ModelError where there is no file of that name."""
    if not path.exists():
        raise ModelError(f"Expected a model file at {str(path)!r}, found nothing there; check the path.")
    if path.is_dir():
        raise ModelError(f"Expected a model file at {str(path)!r}, found a folder; name the model's file in it.")
