"""ClickHouse: rows in by RowBinary, answers out by SQL. The only package that imports clickhouse_connect."""

__all__: list[str] = []
