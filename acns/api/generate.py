"""Makes the checked-in code of `fqdndata.proto`: `python -m acns.api.generate`, from the repository's root.

The code is checked in so that an installed package needs no compiler and a reviewer sees what changes. The
.proto is compiled under its path from the root, so the generated imports are `from acns.api import …`.
"""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

from acns.errors import EnvironmentFault

PROTO = "acns/api/fqdndata.proto"
OUTPUTS = ("fqdndata_pb2.py", "fqdndata_pb2.pyi", "fqdndata_pb2_grpc.py", "fqdndata_pb2_grpc.pyi")
ROOT = Path(__file__).resolve().parents[2]


def generate(target: Path = ROOT) -> list[Path]:
    """Compile into `target` (under `acns/api/`) and return the files written."""
    try:
        from grpc_tools import protoc  # type: ignore[import-untyped]
    except ImportError as error:
        raise EnvironmentFault("grpcio-tools is missing", hint="pip install 'acns-lab[dev]'") from error
    well_known = resources.files("grpc_tools") / "_proto"
    plugins = Path(sys.executable).parent  # protoc looks for protoc-gen-mypy on PATH only
    arguments = [
        "protoc",
        f"--proto_path={ROOT}",
        f"--proto_path={well_known}",
        f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
        *(f"--{kind}_out={target}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
        PROTO,
    ]
    if code := protoc.main(arguments):
        raise EnvironmentFault(f"protoc failed with {code}", hint="its message is above")
    return [target / "acns" / "api" / name for name in OUTPUTS]


if __name__ == "__main__":
    print(*generate(), sep="\n")
