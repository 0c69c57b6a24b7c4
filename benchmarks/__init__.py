"""What the rules of deciding are worth, measured: `python -m benchmarks NAME`. Not part of the installed package."""
