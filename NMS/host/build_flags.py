# SPDX-License-Identifier: Apache-2.0
"""Write the compiler flags of this interpreter's TensorFlow for NMS/host/Makefile.

Run as a program with the build folder as argument: writes <build>/<TensorFlow build>/flags.mk, unless it is there
already with the same content (make rebuilds what is older), and prints the folder's name. TensorFlow is imported as it
is, without ipu_utils.base.keras2: building needs no Keras.
"""

import importlib
import os
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ipu_utils.nms.libraries import folder_name


def quietly_import(name: str):
    """Import a module whose native code reports on standard error how it is going to compute."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        return importlib.import_module(name)
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def for_make(words) -> str:
    """Words of a command, as a makefile's variable holds them for the shell."""
    return " ".join(map(shlex.quote, words)).replace("$", "$$").replace("#", "\\#")


def main(build: Path) -> int:
    """Write the flags and return the exit status: 0, or 3 where this interpreter has no TensorFlow."""
    try:
        tf = quietly_import("tensorflow")
    except ImportError as error:
        print(f"{sys.executable} cannot import TensorFlow ({error})", file=sys.stderr)
        return 3
    abi = tf.sysconfig.CXX11_ABI_FLAG
    # As system headers: their warnings are not ours.
    words = []
    for flag in tf.sysconfig.get_compile_flags():
        words += ["-isystem", flag[2:]] if flag.startswith("-I") else [flag]
    if not any(word.lstrip("-").startswith("std=") for word in words):
        words.append("-std=c++14")  # Releases that name no standard, 2.6 among them, are written in C++14.
    text = (
        f"TF_CXXFLAGS := {for_make(words)}\n"
        f"TF_LDFLAGS := {for_make([*tf.sysconfig.get_link_flags(), f'-Wl,-rpath,{tf.sysconfig.get_lib()}'])}\n"
        f"TF_VERSION := {tf.__version__}\n"
        f"TF_ABI := {abi}\n"
    )
    folder = build / folder_name(tf.__version__, abi)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "flags.mk"
    if not target.is_file() or target.read_text() != text:
        draft = folder / f"flags.{os.getpid()}.tmp"
        draft.write_text(text)
        os.replace(draft, target)  # Complete or not at all: another make may be reading it.
    print(folder.name)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
