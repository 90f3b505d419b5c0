"""How fast spans are taken, kept and found: the collector beside a plain way, and beside other stores. `make bench-collector`."""
