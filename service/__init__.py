"""The turn service: one HTTP request to one terminal, over the machine of the contract."""
