"""Everything that a person, a schedule or a machine talks to."""
