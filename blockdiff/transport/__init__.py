"""How bytes reach an agent: one Protocol (base), and the classes that implement it."""
