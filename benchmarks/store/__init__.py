"""How a store of ten million turns answers and loads. `make bench-store`."""
