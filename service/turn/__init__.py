"""The pure core of a turn: machine, policy, sources, timings. No framework, telemetry, provider, thread or clock in here."""
