"""Any recurrent cell from one written step: recorded as a program, differentiated and run over a sequence."""
