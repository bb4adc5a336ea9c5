"""This project's rules, one module each; a rule's name is its module's."""
