"""What the node knows: tables, the states of their rows, transactions and migrations."""
