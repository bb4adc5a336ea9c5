"""The ``collect`` kind of step: many sources become one dataset of questions, each once, none of them a test's."""
