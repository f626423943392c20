"""The pages people look at: one file each, pictures inside, readable without a network."""
