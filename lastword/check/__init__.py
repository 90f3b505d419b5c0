"""A black-box checker of the turn contract: what stands behind `lastword check`.

Three sides around a server under test: a client on raw sockets, a fake model provider that the server calls, and a sink for the
telemetry that it sends. The cases stand in `cases/`, one module for each group; everything else here is what they stand on.
Must not import the service, the collector or the dashboard: any server in any language can be checked.
"""
