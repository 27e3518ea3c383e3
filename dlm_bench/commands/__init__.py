"""The commands: each module adds their grammar and runs them, importing torch only then."""
