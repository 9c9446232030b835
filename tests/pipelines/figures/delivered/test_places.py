"""How files of other stores are named where workers open them."""

from __future__ import annotations

import pytest

from pipelines.figures.delivered import places


@pytest.mark.parametrize(
    ("url", "scheme", "path"),
    [
        ("hdfs://namenode:8020/a/b.csv", "hdfs", "/a/b.csv"),
        ("abfss://box@account.dfs.core.windows.net/a/b.csv", "abfss", "box/a/b.csv"),
        ("wasbs://box@account.blob.core.windows.net/a/b.csv", "abfss", "box/a/b.csv"),
        ("s3a://bucket/a/b.csv", "s3", "bucket/a/b.csv"),
        ("gs://bucket/a/b.csv", "gs", "bucket/a/b.csv"),
    ],
)
def test_paths_are_as_each_store_has_them(
    monkeypatch: pytest.MonkeyPatch, url: str, scheme: str, path: str
) -> None:
    monkeypatch.setattr(places, "_remote", lambda scheme, authority: scheme)
    assert places._opened_by(url) == (scheme, path)
