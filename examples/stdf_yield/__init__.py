"""A real job: the yield of a wafer-sort lot from an STDF V4 file, monitored while it runs."""
