"""What an operator asks on the command line: `flask doctor` and `flask models`.

Loaded by `flask` alone, never with the service.
"""
