"""What people see: the command line, tables, interrupts, refusals."""
