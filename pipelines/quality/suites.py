"""The expectations that follow from a table's declaration, and those written beside it."""

from __future__ import annotations

from schemas import Expectation, Table


def suite_of(table: Table) -> tuple[Expectation, ...]:
    """Columns as declared, no NULL where none may be, the key unique, every CHECK true.

    Delta refuses rows that break the second and the last when they are written; here they show
    what came into a table by another way, or before a constraint was declared.
    """
    columns = [c.name for c in table.columns]
    return (
        Expectation("expect_table_columns_to_match_set", {"column_set": columns}),
        *(
            Expectation("expect_column_values_to_not_be_null", {"column": c.name})
            for c in table.columns
            if not c.nullable
        ),
        _unique(table.key),
        *(_holds(name, sql) for name, sql in table.checks.items()),
        *table.expectations,
    )


def _unique(key: tuple[str, ...]) -> Expectation:
    if len(key) == 1:
        return Expectation("expect_column_values_to_be_unique", {"column": key[0]})
    return Expectation("expect_compound_columns_to_be_unique", {"column_list": list(key)})


def _holds(name: str, sql: str) -> Expectation:
    # A CHECK that yields NULL fails, so NULL counts as a violation here too.
    query = f"SELECT * FROM {{batch}} WHERE NOT coalesce({sql}, false)"
    description = f"constraint {name}: {sql}"
    return Expectation(
        "unexpected_rows_expectation", {"unexpected_rows_query": query}, description=description
    )
