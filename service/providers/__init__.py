"""Model providers behind one port: `anthropic` (the real SDK) and `extractive` (embedded, needs no key)."""
