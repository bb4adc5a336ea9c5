"""What a sweep would take, before anything is loaded: lengths, tokens, time and cost."""
