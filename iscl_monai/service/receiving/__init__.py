"""What comes in, and who may send it: DIMSE, the door every object goes through, and what we promise to keep."""
