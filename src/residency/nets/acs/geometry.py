"""Where the taps of a 2D kernel lie in 3D: the geometry of ACS convolutions, in whole numbers only.

A 2D convolution is two lines, of rows and of columns: kernel size, stride, dilation and padding each. Its 3D form has
the axes (S, R, C) and looks at the volume in three views; the two lines lie on two axes, the third is flat:

    axial     rows on R, columns on C, flat along S
    coronal   rows on S, columns on C, flat along R
    sagittal  rows on S, columns on R, flat along C

All views must answer on one grid. Which grid a line gives depends only on its stride and on the place of the kernel's
centre over the first voxel, so S takes both from the rows and C from the columns, as every view does that uses them.
R is rows to one view and columns to another: it takes both from the rows, as in the 2D network's own plane, and the
columns of the sagittal view are laid around the same centres. Only where row and column differ does this matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd, prod

Triple = tuple[int, int, int]

VIEWS = ("axial", "coronal", "sagittal")
_ROWS, _COLUMNS = 0, 1
_LINES = ((None, _ROWS, _COLUMNS), (_ROWS, None, _COLUMNS), (_ROWS, _COLUMNS, None))
"""For each view, what lies on S, R and C; None is the flat axis."""


@dataclass(frozen=True)
class Line:
    """A convolution along one axis; `before` and `after` are voxels of padding."""

    size: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def reach(self) -> int:
        """Voxels from the first tap to the last."""
        return self.dilation * (self.size - 1)


Profile = Callable[[Line], tuple[float, ...]]
"""The weights, symmetric about the centre, that a flat axis has on its middle taps."""


@dataclass(frozen=True)
class View:
    """How one view computes: a convolution of its own, or its place in the kernel folded from all three.

    flat      the axis without a line
    profile   weights along it
    dilation  of the view's own convolution
    padding   of the view's own convolution, by axis; negative where the image must be cropped instead
    insets    taps of the folded kernel before the view's first, and behind its last, by axis
    steps     taps of the folded kernel from one tap of the view to the next
    taps      of the view's own kernel
    """

    flat: int
    profile: tuple[float, ...]
    dilation: Triple
    padding: Triple
    insets: Triple
    steps: Triple
    taps: int


@dataclass(frozen=True)
class Geometry:
    """The folded convolution, axis by axis, and the three views in it."""

    axes: tuple[Line, Line, Line]
    views: tuple[View, View, View]

    @property
    def sizes(self) -> Triple:
        return _triple([axis.size for axis in self.axes])

    @property
    def strides(self) -> Triple:
        return _triple([axis.stride for axis in self.axes])

    @property
    def dilations(self) -> Triple:
        return _triple([axis.dilation for axis in self.axes])

    @property
    def before(self) -> Triple:
        return _triple([axis.before for axis in self.axes])

    @property
    def around(self) -> tuple[int, ...]:
        """All padding, in the order that torch pads in: last axis first, before and after."""
        return tuple(side for axis in reversed(self.axes) for side in (axis.before, axis.after))

    @property
    def beyond(self) -> tuple[int, ...]:
        """What `after` has more than `before`, in the same order."""
        return tuple(side for axis in reversed(self.axes) for side in (0, axis.after - axis.before))

    @property
    def taps(self) -> int:
        """Of the folded kernel."""
        return prod(self.sizes)


def geometry(rows: Line, columns: Line, profile: Profile, *, padded: bool = False) -> Geometry:
    """The geometry of a 2D convolution in 3D. `padded`: the image comes with its padding, the views crop only.

    Raises ValueError where rows and columns cannot lie around the same centres on R.
    """
    axes = (rows, _both(rows, columns), columns)
    return Geometry(axes, tuple(_view(view, axes, (rows, columns), profile, padded) for view in range(3)))  # type: ignore[arg-type]


def centre(line: Line) -> tuple[float, ...]:
    """Of a convolution: the plane in the middle or, where none is, half of each of the two beside it."""
    return (1.0,) if line.size % 2 else (0.5, 0.5)


def interpolation(line: Line) -> tuple[float, ...]:
    """Of a transposed convolution: planes between those of the image get what their neighbours give, shared out.

    As many planes as the stride, each with the whole weight; where so many have no middle in the kernel, one more, and
    half of the weight on the first and the last. Without stride it is `centre`.
    """
    whole = min(line.stride // gcd(line.stride, line.dilation), line.size)
    if (line.size - whole) % 2 == 0:
        return (1.0,) * whole
    return 0.5, *(1.0,) * (whole - 1), 0.5


def _both(rows: Line, columns: Line) -> Line:
    """The axis that both kernels lie on, with the stride and the centres of the rows."""
    if (rows.size, rows.dilation) == (columns.size, columns.dilation):
        return rows
    if rows.size % 2 != columns.size % 2:
        raise ValueError(
            f"kernel ({rows.size}, {columns.size}): of an ACS convolution both sides must be odd or both even, "
            "or views would lie half a voxel apart"
        )
    if rows.size % 2 == 0 and rows.dilation != columns.dilation:
        raise ValueError(
            f"dilation ({rows.dilation}, {columns.dilation}): an ACS convolution with an even kernel takes one dilation"
        )
    if columns.size == 1:
        return rows
    step = columns.dilation if rows.size == 1 else gcd(rows.dilation, columns.dilation)
    reach = max(rows.reach, columns.reach)
    more = (reach - rows.reach) // 2
    return Line(reach // step + 1, rows.stride, step, rows.before + more, rows.after + more)


def _view(view: int, axes: Sequence[Line], lines: tuple[Line, Line], profile: Profile, padded: bool) -> View:
    dilation, padding, insets, steps, taps = [], [], [], [], 1
    for axis, which in zip(axes, _LINES[view], strict=True):
        if which is None:
            weights = profile(axis)
            size, spacing = len(weights), axis.dilation
        else:
            size, spacing = lines[which].size, lines[which].dilation
        inset = (axis.reach - spacing * (size - 1)) // 2
        dilation.append(spacing)
        padding.append((0 if padded else axis.before) - inset)
        insets.append(inset // axis.dilation)
        steps.append(spacing // axis.dilation if size > 1 else 1)
        taps *= size
    return View(view, weights, _triple(dilation), _triple(padding), _triple(insets), _triple(steps), taps)


def _triple(values: Sequence[int]) -> Triple:
    first, second, third = values
    return first, second, third


@dataclass(frozen=True)
class Piece:
    """Outputs [first, last) of a hard ACS convolution, all of one view, and the inputs [start, stop) that they need."""

    view: int
    first: int
    last: int
    start: int
    stop: int
    groups: int


def pieces(split: Triple, inputs: int, groups: int) -> tuple[Piece, ...]:
    """The convolutions that a split of all outputs needs: a view may begin or end inside a group."""
    outputs_each, inputs_each = sum(split) // groups, inputs // groups
    found: list[Piece] = []
    first = 0
    for view, count in enumerate(split):
        end = first + count
        while first < end:
            group, within = divmod(first, outputs_each)
            whole = 0 if within else (end - first) // outputs_each
            last = first + whole * outputs_each if whole else min(end, first - within + outputs_each)
            taken = max(whole, 1)
            found.append(Piece(view, first, last, group * inputs_each, (group + taken) * inputs_each, taken))
            first = last
    return tuple(found)
