"""SQL over the raw objects, on DuckDB here or on Athena, and which objects a query can be about."""
