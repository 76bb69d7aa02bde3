"""Fixing the shapes of a model's inputs: every dimension of a graph is a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tapdot.compiler.frontends.problems import Problems, listed

Dimension = int | str
"""A number, or the name of a dimension that the model leaves open."""


def fix_shapes(
    declared: Mapping[str, Sequence[Dimension] | None],
    wanted: Mapping[str, Sequence[int]] | None,
    problems: Problems,
) -> dict[str, tuple[int, ...]]:
    """Static shapes of the inputs that have one; what is missing or contradictory is added to ``problems``.

    1. A shape in ``wanted`` must have the declared rank and agree with every declared number.
    2. It binds the names of open dimensions, for other inputs too.
    3. Where the first dimension alone is still open, it is a batch and becomes 1, with a note.
    """
    wanted = dict(wanted or {})
    for name in wanted:
        if name not in declared:
            problems.add(f"A shape is given for {name!r}, which is no input of the model; its inputs are {listed(declared)}.")
    bound = {
        dimension: size
        for name, shape in wanted.items()
        for dimension, size in zip(declared.get(name) or (), shape, strict=False)
        if isinstance(dimension, str) and dimension
    }
    fixed: dict[str, tuple[int, ...]] = {}
    for name, dimensions in declared.items():
        shape = _fix(name, dimensions, wanted.get(name), bound, problems)
        if shape is not None:
            fixed[name] = shape
    return fixed


def _fix(
    name: str,
    declared: Sequence[Dimension] | None,
    wanted: Sequence[int] | None,
    bound: Mapping[str, int],
    problems: Problems,
) -> tuple[int, ...] | None:
    if wanted is not None:
        shape = tuple(int(size) for size in wanted)
        fits = declared is None or (
            len(shape) == len(declared)
            and all(size == known for size, known in zip(shape, declared, strict=True) if isinstance(known, int))
            and all(bound.get(str(known), size) == size for size, known in zip(shape, declared, strict=True))
        )
        if not fits or any(size < 1 for size in shape):
            problems.add(
                f"The shape {_text(shape)} given for input {name!r} does not fit its declared shape {_text(declared or ())}; "
                "give positive sizes that agree with the declared ones."
            )
            return None
        return shape
    if declared is None:
        problems.add(f"Input {name!r} declares no shape; give one, for example with --shape {name}=1,3,224,224.")
        return None
    resolved = [bound.get(size, size) if isinstance(size, str) else size for size in declared]
    unknown = [index for index, size in enumerate(resolved) if isinstance(size, str)]
    if unknown == [0] and len(resolved) > 1:
        resolved[0] = 1
        problems.notes.append(
            f"Input {name!r} has an open batch dimension, which became 1; for another, give the shape: --shape "
            f"{name}={','.join(map(str, resolved)).replace('1', 'N', 1)}."
        )
    elif unknown:
        example = ",".join(str(size) if isinstance(size, int) else "N" for size in resolved)
        which = "dimension" if len(unknown) == 1 else "dimensions"
        problems.add(
            f"Input {name!r} has the shape {_text(declared)}, whose {which} {', '.join(map(str, unknown))} "
            f"{'is' if len(unknown) == 1 else 'are'} not known; give it with --shape {name}={example}."
        )
        return None
    if any(int(size) < 1 for size in resolved):
        problems.add(f"Input {name!r} has the shape {_text(declared)}, which holds no element; export with real sizes.")
        return None
    return tuple(int(size) for size in resolved)


def _text(shape: Sequence[Dimension]) -> str:
    return "[" + ", ".join(str(size) or "?" for size in shape) + "]"
