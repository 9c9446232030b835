"""The formats by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyspark.sql import SparkSession

from pipelines.figures.formats import dicom, folder, hf_parquet, pmc_oa, roco, vqa, webdataset
from pipelines.figures.formats.delivery import Delivered, Request

FORMATS: Mapping[str, Callable[[SparkSession, Request], Delivered]] = {
    "dicom": dicom.read,
    "folder": folder.read,
    "hf-parquet": hf_parquet.read,
    "pmc-oa": pmc_oa.read,
    "roco": roco.read,
    "vqa": vqa.read,
    "webdataset": webdataset.read,
}
