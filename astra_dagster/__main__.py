"""``python -m astra_dagster`` is the command line."""

from astra_dagster.cli import main

if __name__ == "__main__":
    main(prog_name="astra-dagster")
