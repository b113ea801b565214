"""What there is when definitions are loaded of which a part is broken: the rest, and what says why."""
