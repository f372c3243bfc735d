"""The pages of the documentation that are made from the code: config keys and commands."""
