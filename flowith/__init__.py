"""Everything that knows Flowith, and nothing that knows OpenAI or Flask."""
