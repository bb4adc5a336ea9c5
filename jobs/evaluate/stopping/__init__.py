"""When to stop thinking, or sampling: rules, replayed on what a finished sweep has, and run while it decodes."""
