"""The ``curate`` kind of step: from traces and what others say of their questions to a training set."""
