"""From the table of an archive to a datalist: who feeds which pool, without leaks, in balance."""
