"""The terminal: the command line, tables, interrupts, refusals."""
