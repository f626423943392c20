"""What goes out, until its receiver has proven that it has it; and the search for what never came."""
