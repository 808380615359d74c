"""The boundary of the program: what comes from outside as a file is checked here."""
