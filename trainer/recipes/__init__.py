"""How models that ship were made: a folder each, with what it takes to make it again."""
