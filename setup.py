"""Packages, extras and console scripts of roundtrip."""

from setuptools import find_packages, setup

setup(
    name="roundtrip",
    version="0.1.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["jobs*", "pipelines*", "schemas*", "udfs*", "ml*"]),
    install_requires=["pyspark==4.0.1", "delta-spark==4.0.1"],
)
