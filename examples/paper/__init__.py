"""The tables of the paper on data that any machine has; one command per table."""
