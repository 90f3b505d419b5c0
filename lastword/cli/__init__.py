"""The command line: `lastword up | demo | ask | sql | index`."""
