"""What comes in, and who may send it: DIMSE, the intake of all objects, and requests for storage commitment."""
