"""One module per verb of ``python -m data_prep``: arguments and their help, nothing heavy imported early."""
