"""Metadata of the `tagtower` distribution: the one place of its version and its dependencies.

The ranges say what the code works with; `requirements.lock` says what it was tested with.
"""

from pathlib import Path

from setuptools import find_packages, setup

README = Path(__file__).parent / "README.md"

# The TensorFlow stack of TFX 1.16. These move together: see the versions in requirements.in.
STACK = [
    "tfx[kfp]>=1.16.0,<1.17",
    "tensorflow>=2.16.2,<2.17",
    "tf-keras>=2.16,<2.17",
    "tensorflow-recommenders>=0.7.7,<0.8",
    # 1.3.2 alone loads with TensorFlow 2.16: 1.4.0 also loads, answers, and spins at exit.
    "scann==1.3.2",
    # From 2.69 on tfx-bsl 1.16 fails to import.
    "apache-beam[gcp]>=2.59,<2.68",
    "tensorflow-serving-api>=2.16.1,<2.17",
    "tensorflow-transform>=1.16,<1.17",
    "tensorflow-data-validation>=1.16,<1.17",
    "tensorflow-model-analysis>=0.47,<0.48",
    "tensorflow-metadata>=1.16,<1.17",
    "tfx-bsl>=1.16,<1.17",
    "ml-metadata>=1.16,<1.17",
]

setup(
    name="tagtower",
    version="0.2.0",
    description="User-interest tags for recommender systems: from behaviour logs to served tags",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.11",
    packages=find_packages(
        include=["trainer", "trainer.*", "serving", "serving.*", "tfx_pipeline", "tfx_pipeline.*"]
    ),
    package_data={
        # The annotations are part of what is installed (PEP 561).
        "trainer": ["py.typed"],
        "tfx_pipeline": [
            "py.typed",
            "configs/*.yaml",
            "configs/studies/*.yaml",
            "docker/*",
            "flink/pom.xml",
            "reference/report_keys.yaml",
        ],
        "serving": ["py.typed", "docker/*", "docker/**/*", "native/*", "protos/**/*.proto"],
    },
    entry_points={"console_scripts": ["tagtower = tfx_pipeline.cli:main"]},
    install_requires=[
        *STACK,
        # The light client of the same checkout (client/), of the same version.
        "tagtower-client==0.2.0",
        "google-crc32c>=1.5,<2",
        "grpcio>=1.60,<2",
        # From 1.49 on they want protobuf 4.
        "grpcio-health-checking>=1.48,<1.49",
        "grpcio-reflection>=1.48,<1.49",
        "isal>=1.7,<2",
        "matplotlib>=3.7,<4",
        "numpy>=1.26,<2",
        "orjson>=3.9,<4",
        "protobuf>=3.20.3,<4",
        "psutil>=5.9",
        "pyarrow>=10,<11",
        # Without it a Parquet file can run code (CVE-2023-47248).
        "pyarrow-hotfix>=0.7,<1",
        # From 2.14 on: `trainer.contract.config_validator` rewrites its schemas of dataclasses.
        "pydantic>=2.14,<3",
        "pydantic-core>=2.50,<3",
        # REST bodies: TensorFlow Serving's parser, in which the messages and offsets were compared.
        "python-rapidjson>=1.25,<2",
        "pyyaml>=6,<7",
        "scipy>=1.11,<2",
        # tensorboard 2.16 and tensorflow-hub 0.15 import pkg_resources, which 81 dropped.
        "setuptools<81",
        "tabulate>=0.9,<1",
        "tornado>=6,<7",
        # With it tabulate aligns characters that are two columns wide.
        "wcwidth>=0.2",
    ],
    extras_require={
        "dev": [
            "build>=1",
            # hnswlib with wheels; it is imported by that name.
            "chroma-hnswlib>=0.7",
            "faiss-cpu>=1.8",
            "hypothesis>=6",
            "mkdocs-material>=9.7,<10",
            "mypy>=1.8",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff>=0.5",
            "types-PyYAML",
            "wheel",
        ],
    },
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
