# SPDX-License-Identifier: Apache-2.0
"""Golden files of the network: the weights that they were computed with, the input, and how far outputs are from them.

`live-<model>-<width>x<height>.npz` hold outputs for `reference_formulas.photo_input`,
`photograph-<model>-<image>-<width>x<height>.npz` those for a photograph in AutoML's own preprocessing.
"""

import json
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import reference_formulas

DATA = Path(__file__).resolve().parents[1] / "data"
LIVE_SEED = 99  # of the image in the files `live-*`
TOLERANCE = 1e-3  # of an output's deviation: what float32 in another order of additions changes, with room


def files(kind: str) -> List[Path]:
    """All files `live-*` or `photograph-*`."""
    return sorted((DATA / "golden").glob(f"{kind}-*.npz"))


class Golden:
    """One file.

    Attributes:
      model: name of the model. size: (height, width) of its input. image: path of the photograph, if it is of one.
      statistics: of every batch norm, see `reference_formulas.live_weight`.
    """

    def __init__(self, path: Path):
        self.values = np.load(str(path))
        self.statistics = reference_formulas.live_statistics(self.values)
        self.model = "-".join(path.stem.split("-")[1:3])
        width, height = path.stem.split("-")[-1].split("x")
        self.size: Tuple[int, int] = int(height), int(width)
        case = json.loads(str(self.values["case"])) if "case" in self.values else {}
        self.image = DATA / "images" / case["image"] if case else None

    def weights(self) -> Dict[str, np.ndarray]:
        """All variables by published name, in the order of the reference implementation's."""
        variables = json.loads((DATA / "variables" / f"{self.model}.json").read_text())["variables"]
        return {
            name: reference_formulas.live_weight(name, tuple(shape), self.statistics) for name, shape, _ in variables
        }

    def set_weights(self, model: Any) -> None:
        """Set all variables of a network."""
        values = self.weights()
        for variable in model.weights:
            variable.assign(values[variable.name.split(":")[0]])

    def input(self) -> np.ndarray:
        """The normalised image of a file `live-*`, float32 [1, h, w, 3]."""
        return reference_formulas.photo_input(*self.size, LIVE_SEED)

    def errors(self, outputs: Sequence[Any]) -> List[np.ndarray]:
        """Distances from the stored values, in standard deviations of each output.

        Args:
          outputs: class levels, then box levels, finest first, each [1, h, w, C].
        """
        assert [list(output.shape) for output in outputs] == self.shapes
        return [
            np.abs(np.asarray(output).ravel()[self.values[f"index_{i}"]] - self.values[f"value_{i}"])
            / self.values[f"std_{i}"]
            for i, output in enumerate(outputs)
        ]

    @property
    def shapes(self) -> List[List[int]]:
        """Shapes of all outputs."""
        count = sum(name.startswith("shape_") for name in self.values.files)
        return [self.values[f"shape_{i}"].tolist() for i in range(count)]

    def assert_equal(self, outputs: Sequence[Any]) -> None:
        """Fail where an output is not the reference's to within float32's rounding, in its values or its mean."""
        for i, (output, errors) in enumerate(zip(outputs, self.errors(outputs))):
            assert errors.max() < TOLERANCE, f"output {i}"
            mean = abs(np.asarray(output, np.float64).mean() - self.values[f"mean_{i}"]) / self.values[f"std_{i}"]
            assert mean < TOLERANCE, f"mean of output {i}"


def live(name: str) -> Golden:
    """The file `live-*` of a model."""
    (path,) = [path for path in files("live") if path.stem.startswith(f"live-{name}-")]
    return Golden(path)
