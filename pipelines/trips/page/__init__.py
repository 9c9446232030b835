"""The page and the poster of return trips, drawn from a `Story` of plain numbers; no Spark here."""
