"""captions.html, written from a `Story` of plain numbers and small pictures; no Spark here."""
