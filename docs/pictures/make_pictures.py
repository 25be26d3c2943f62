#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the README's picture of detections: images of tests/data/trained as ipu_inference.py annotates them.

Run it from the project's root: python docs/pictures/make_pictures.py
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TRAINED = ROOT / "tests" / "data" / "trained"
HEIGHT = 300  # of each image in the picture, pixels
NUMBERS = (103, 38, 110, 117)  # of the images that are shown: photographs and drawn backgrounds


def annotate(folder: Path, outputs: Path) -> None:
    """Run the throughput script over a folder, with the trained detector."""
    command = [
        sys.executable, str(ROOT / "ipu_inference.py"), "--device", "cpu", "--model-precision", "float",
        "--model-name", "efficientdet-lite0", "--model-dir", str(TRAINED),
        "--dataset-type", "image-directory", "--image-path", str(folder), "--num-repeats", "2",
        "--benchmark-repeats", "1", "--output-predictions", "--output-dir", str(outputs),
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder, outputs = Path(temporary, "images"), Path(temporary, "outputs")
        folder.mkdir()
        names = [f"{number:012d}.jpg" for number in NUMBERS]
        for name in names:
            shutil.copy(TRAINED / "images" / name, folder)
        annotate(folder, outputs)
        entries = {entry["file"]: entry for entry in json.loads((outputs / "detections.json").read_text())}
        pictures = [Image.open(outputs / entries[name]["annotated"]) for name in names]
        pictures = [one.resize((one.width * HEIGHT // one.height, HEIGHT), Image.LANCZOS) for one in pictures]
    strip = Image.new("RGB", (sum(picture.width for picture in pictures), HEIGHT))
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width
    strip.save(ROOT / "docs" / "pictures" / "annotated.jpg", quality=88)


if __name__ == "__main__":
    main()
