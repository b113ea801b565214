"""A night of observations on one page: what each task has done of it, what is left and why, and what stands out."""
