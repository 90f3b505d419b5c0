"""How quickly the dashboard redraws in a real browser on a large store. `make bench-dashboard`."""
