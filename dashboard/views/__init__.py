"""The pages. Each draws panels; none holds SQL."""
