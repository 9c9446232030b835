"""Great Expectations, as far as jobs use it: checks of batches, and Data Docs that show them."""

from __future__ import annotations

import json
import logging
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark import StorageLevel, inheritable_thread_target
from pyspark.sql import DataFrame

from jobs.session import SetupError
from pipelines.quality import Batch
from schemas import Expectation

_SITE = "quality"
_EXAMPLES = 10
_LISTED = 300
_SEVERITY: dict[str, Any] = {"error": "critical", "warn": "warning"}


@dataclass(frozen=True)
class Verdict:
    """What became of one expectation on one batch."""

    batch: str
    expectation: Expectation
    success: bool
    rows: int | None
    unexpected: int | None
    observed: str | None
    examples: str | None

    @property
    def unexpected_share(self) -> float | None:
        return self.unexpected / self.rows if self.unexpected is not None and self.rows else None

    @property
    def words(self) -> str:
        """The expectation in few words."""
        if self.expectation.description:
            return self.expectation.description
        kwargs = dict(self.expectation.kwargs)
        column = kwargs.pop("column", None)
        if self.expectation.type == "expect_column_values_to_be_between":
            return f"{column} {_range(kwargs['min_value'], kwargs['max_value'])}" + (
                f" in {kwargs['mostly']:.0%} of rows" if "mostly" in kwargs else ""
            )
        words = self.expectation.type.removeprefix("expect_").removeprefix("column_values_to_be_")
        words = words.removeprefix("column_values_to_").replace("_", " ")
        rest = ", ".join(f"{k} {x}" for k, x in kwargs.items() if x is not None)
        return " ".join(filter(None, [column, words, rest]))

    @property
    def stops(self) -> bool:
        """Whether it must stop a pipeline."""
        return not self.success and self.expectation.level == "error"


class Checker:
    """Checks batches while it is entered; then keeps a page of each result below `docs`.

    ::

        with Checker(docs, run_id=run_id) as checker:
            verdicts = checker.check(batch)

    Raises SetupError where Great Expectations is not installed.
    """

    def __init__(self, docs: Path, *, run_id: str) -> None:
        self._run_id = run_id
        self._gx = _great_expectations()
        from great_expectations.data_context.types.base import (
            DataContextConfig,
            ProgressBarsConfig,
        )

        self._context = self._gx.get_context(
            mode="ephemeral",
            project_config=DataContextConfig(
                store_backend_defaults=_stores(docs),
                data_docs_sites={_SITE: _site(docs)},
                analytics_enabled=False,
                progress_bars=ProgressBarsConfig(globally=False),
            ),
        )
        self._many = self._context.data_sources.add_spark("lake", persist=False)
        self._few = self._context.data_sources.add_pandas("figures")
        self._cached: list[DataFrame] = []
        self._fetched: dict[str, Future[pd.DataFrame]] = {}
        self._checked: dict[str, Any] = {}

    def __enter__(self) -> Checker:
        return self

    def __exit__(self, *_: object) -> None:
        for rows in self._cached:
            rows.unpersist()
        if self._checked:
            with _quiet():
                self._context.build_data_docs(resource_identifiers=list(self._checked.values()))

    def fetch(self, batches: Sequence[Batch]) -> None:
        """Begin to compute the figures among the batches, which are checked on the driver.

        Beside the checks of rows: most of either is the JVM's first run of code, on one core.
        """
        pool = ThreadPoolExecutor(1)
        for batch in batches:
            if batch.few:
                compute = inheritable_thread_target(batch.rows.sparkSession)(batch.rows.toPandas)
                self._fetched[batch.name] = pool.submit(compute)
        pool.shutdown(wait=False)

    def check(self, batch: Batch) -> list[Verdict]:
        """Every expectation of the batch, counted in few passes over its rows.

        Those are cached, for whatever looks at them afterwards too. What does not hold is looked
        at once more, for values that show it. Raises RuntimeError for an expectation that could
        not be computed.
        """
        if not batch.few:
            self._cached.append(batch.rows.persist(StorageLevel.MEMORY_AND_DISK))
        few = self._fetched.get(batch.name)
        rows: Any = few.result() if few else batch.rows.toPandas() if batch.few else batch.rows
        verdicts = self._run(batch, rows, examples=0)
        if not all(v.success for v in verdicts):
            verdicts = self._run(batch, rows, examples=_EXAMPLES)
        return verdicts

    def _run(self, batch: Batch, rows: Any, *, examples: int) -> list[Verdict]:
        # Values take a query for each expectation, so they are asked for where there are some.
        result_format = {"result_format": "BASIC", "partial_unexpected_count": examples}
        name = batch.name
        asset = self._asset(name, self._few if batch.few else self._many)
        suite = self._gx.ExpectationSuite(name=name, expectations=[])
        for number, expectation in enumerate(batch.expectations):
            suite.add_expectation(self._domain_object(expectation, number))
        with _quiet():
            suite = self._context.suites.add_or_update(suite)
            definition = self._context.validation_definitions.add_or_update(
                self._gx.ValidationDefinition(name=name, data=asset, suite=suite)
            )
            checkpoint = self._context.checkpoints.add_or_update(
                self._gx.Checkpoint(
                    name=name,
                    validation_definitions=[definition],
                    result_format=result_format,
                )
            )
            result = checkpoint.run(
                batch_parameters={"dataframe": rows},
                run_id=self._gx.RunIdentifier(run_name=self._run_id),
            )
        ((identifier, validated),) = result.run_results.items()
        self._checked[name] = identifier  # the last of a batch is the one with examples
        found = {r.expectation_config.meta["number"]: r for r in validated.results}
        return [_verdict(batch, e, found[n]) for n, e in enumerate(batch.expectations)]

    def _asset(self, name: str, source: Any) -> Any:
        known = {asset.name: asset for asset in source.assets}
        if name in known:
            return known[name].get_batch_definition("rows")
        asset = source.add_dataframe_asset(name=name)
        return asset.add_batch_definition_whole_dataframe("rows")

    def _domain_object(self, expectation: Expectation, number: int) -> Any:
        from great_expectations.expectations.expectation_configuration import (
            ExpectationConfiguration,
        )

        return ExpectationConfiguration(
            type=expectation.type,
            kwargs=dict(expectation.kwargs),
            meta={"level": expectation.level, "number": number},
            description=expectation.description,
            severity=_SEVERITY[expectation.level],
        ).to_domain_obj()


def _range(low: float | None, high: float | None) -> str:
    if low == high:
        return f"is {low:g}"
    if high is None:
        return f"is at least {low:g}"
    return f"is at most {high:g}" if low is None else f"lies from {low:g} to {high:g}"


def _verdict(batch: Batch, expectation: Expectation, result: Any) -> Verdict:
    if message := _exception(result.exception_info):
        raise RuntimeError(f"{expectation.type} on {batch.name} could not be computed: {message}")
    found = result.result
    examples = found.get("partial_unexpected_list")
    observed = found.get("observed_value")
    return Verdict(
        batch=batch.name,
        expectation=expectation,
        success=bool(result.success),
        rows=found.get("element_count"),
        unexpected=found.get("unexpected_count"),
        observed=None if observed is None else str(observed),
        examples=json.dumps(examples, default=str) if examples else None,
    )


def _exception(info: dict[str, Any]) -> str | None:
    """The message of what an expectation raised, for itself or for one of its metrics."""
    infos = [info] if "raised_exception" in info else list(info.values())
    return next((str(i["exception_message"]) for i in infos if i["raised_exception"]), None)


def _stores(docs: Path) -> Any:
    """In memory, but for the results: the index lists those of earlier runs too."""
    from great_expectations.data_context.types.base import (
        FilesystemStoreBackendDefaults,
        InMemoryStoreBackendDefaults,
    )

    stores = InMemoryStoreBackendDefaults()
    kept = FilesystemStoreBackendDefaults(root_directory=str(docs.resolve() / ".results"))
    name = stores.validation_results_store_name
    stores.stores[name] = kept.stores[kept.validation_results_store_name]
    return stores


def _site(docs: Path) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(docs.resolve()),
        },
        # It reads every result that it lists.
        "site_index_builder": {
            "class_name": "DefaultSiteIndexBuilder",
            "validation_results_limit": _LISTED,
        },
    }


def load_early() -> None:
    """Import Great Expectations, which takes seconds, in a thread while Spark starts."""

    def load() -> None:
        with suppress(SetupError):  # said again, and louder, where it is needed
            _great_expectations()

    threading.Thread(target=load, daemon=True).start()


def _great_expectations() -> Any:
    # Nothing is sent anywhere: it would report how it is used, if let.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    try:
        with _quiet():
            import great_expectations
    except ImportError as e:
        raise SetupError(
            "great_expectations is not installed in this Python: run `make setup`"
        ) from e
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    return great_expectations


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings about its own insides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def worst(verdicts: Sequence[Verdict]) -> str:
    """ "error", "warn" or "passed"."""
    if any(v.stops for v in verdicts):
        return "error"
    return "passed" if all(v.success for v in verdicts) else "warn"
