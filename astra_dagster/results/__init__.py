"""Results at hand: what the records and outputs of a task hold, for Python and the prompt."""
