"""Tables of the results of many partitions: Parquet, FITS, databases."""
