"""The TCIA collection LDCT-and-Projection-data, by the splits others have published."""
