"""How bytes reach an agent: one Protocol (base), and what speaks it."""
