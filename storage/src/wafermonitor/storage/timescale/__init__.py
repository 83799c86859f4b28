"""PostgreSQL and TimescaleDB: rows in by COPY, answers out by SQL. The only package that imports asyncpg."""

__all__: list[str] = []
