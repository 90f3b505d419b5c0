"""The command line: `lastword up | demo | ask | sql | check | index | keys`."""
